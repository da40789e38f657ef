"""Data: read the data set that a recipe names and return an AnswerTask. Only this package reads data files."""
