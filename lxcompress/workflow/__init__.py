"""The steps behind a command that are no printing: the command line and the Python API both call them.

Each module imports the libraries of its work inside its functions, so that `lxcompress --help` stays fast.
"""
