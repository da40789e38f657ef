"""Models: one module for each family, and reading and writing of weights."""
