"""Region features: readers of published files, and the memory-mapped store into which these are converted."""
