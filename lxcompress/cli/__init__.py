"""The commands, one in each file: each parses its arguments, calls the library, and shows the result."""
