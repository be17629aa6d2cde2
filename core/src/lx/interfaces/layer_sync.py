"""Layers whose statistics are taken over all processes."""

from abc import ABC, abstractmethod

from torch import nn


class LayerSync(ABC):
    """Replaces layers before training, and puts the plain ones back after it. `roles={"sync-batchnorm": rank}` answers to
    `Trainer(sync_batchnorm=True)`."""

    @abstractmethod
    def apply(self, model: nn.Module) -> nn.Module:
        """The model with synchronised layers; called on every rank before the strategy wraps it."""

    @abstractmethod
    def revert(self, model: nn.Module) -> nn.Module:
        """The model with plain layers again."""
