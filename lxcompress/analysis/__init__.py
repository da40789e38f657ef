"""Compute from the records of a run: means over seeds, comparisons, the picked ticket and the reasons for the pick."""
