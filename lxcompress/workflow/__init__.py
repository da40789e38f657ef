"""The work behind the commands, without parsing and printing: the command line and the Python API both call it.

Each module imports the libraries that it needs inside its functions, so that `lxcompress --help` stays fast.
"""
