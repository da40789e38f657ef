"""One table per vocabulary: what lxcompress knows by name, and what other packages add to it."""
