"""Study: a recipe's cells become results, in a run folder, at any pace and with any interruption."""
