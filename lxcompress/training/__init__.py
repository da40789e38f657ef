"""Training: the training loop with its devices, batches, losses and hooks, and measurements of a trained model."""
