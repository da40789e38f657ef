"""Models: one module for each model family, and modules that read, write and describe weights."""
