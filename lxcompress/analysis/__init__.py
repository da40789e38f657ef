"""What a run's records say, as values: means over seeds, comparisons, the pick and its reasons."""
