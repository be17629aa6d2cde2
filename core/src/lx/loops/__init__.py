"""The loops: fit and its epochs, optimization of a batch, evaluation, prediction, and their progress."""
