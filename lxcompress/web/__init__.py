"""The page that answers and measures in a browser: `lxcompress app` writes it, `lxcompress serve` serves it."""
