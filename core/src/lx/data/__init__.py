"""Data: data modules, loaders and what is done to them, and the way of a batch to the device."""

from lx.data.combined import CombinedLoader
from lx.data.datamodule import LightningDataModule

__all__ = ["CombinedLoader", "LightningDataModule"]
