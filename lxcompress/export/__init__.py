"""Export: a ticket becomes a file to ship, a format a file; no file leaves without having answered beside its ticket."""
