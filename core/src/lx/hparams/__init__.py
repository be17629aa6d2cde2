"""Hyperparameters: what `save_hyperparameters` keeps, and how it is written and sent."""
