"""The arguments of a Trainer, read and checked before anything is built."""
