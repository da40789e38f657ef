"""An example of a package that adds parts to lxcompress; docs/extending.md shows its files."""
