"""What the bench needs of the operating system: cores, memory, clock, energy, page cache."""
