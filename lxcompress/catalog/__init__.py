"""Tables of names: criteria, formats, runtimes, model families and data kinds, with those that other packages add."""
