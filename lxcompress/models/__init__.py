"""Models: one adapter file a family, and how weights come from and go to disk."""
