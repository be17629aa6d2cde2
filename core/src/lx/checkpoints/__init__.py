"""Checkpoints: what they hold, where they are found, and how those of other releases are read."""
