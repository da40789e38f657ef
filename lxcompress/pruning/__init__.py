"""Pruning: a criterion scores the weights, a selection keeps those with the highest scores.

The result is a Mask or a Surgery.
"""
