"""Export: a ticket becomes a file to ship, a format a file; each file has answered beside its ticket."""
