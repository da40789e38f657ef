"""Export: write a ticket as a file to ship, and check that the file answers as the ticket does."""
