"""What of lxcompress works on this machine, and which devices it has: `lxcompress doctor`."""
