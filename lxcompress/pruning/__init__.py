"""Pruning: criteria give scores, a selection keeps the highest, and the result is a Mask or a Surgery."""
