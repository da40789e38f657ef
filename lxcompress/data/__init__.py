"""Data: each kind of a recipe's `data` section becomes a Task. Readers of files live here, and nowhere else."""
