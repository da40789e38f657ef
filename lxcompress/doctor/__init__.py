"""`lxcompress doctor`: check which parts of lxcompress work on this machine, and list its devices."""
