"""Data: data modules, loaders and what is done to them, and the way of a batch to the device."""

from lx.data.combined import CombinedLoader
from lx.data.datamodule import LightningDataModule
from lx.data.indices import batch_indices

__all__ = ["CombinedLoader", "LightningDataModule", "batch_indices"]
