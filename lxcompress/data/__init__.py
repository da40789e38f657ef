"""Data: each kind of a recipe's `data` section becomes an AnswerTask. Readers of files live here, and nowhere else."""
