"""Pruning: criteria score weights, one rule selects, and a Mask remembers."""
