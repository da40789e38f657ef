"""Builds the files of a release, and tries the package on other versions of Python and of its dependencies."""
