"""Training: the one training loop, its devices, batches, losses and hooks, and what is measured with a model."""
