"""One process on one device: nothing is wrapped, and collectives give back what they get."""

from typing import Any

import torch

from lx.interfaces.accelerator import Accelerator
from lx.interfaces.checkpoint_io import CheckpointIO
from lx.interfaces.precision import Precision
from lx.interfaces.strategy import Strategy, StrategyCapabilities

DEFAULT_DEVICE = "cpu"


class SingleDeviceStrategy(Strategy):
    """Runs on one device: the one that `accelerator` and `devices` mean, or `device`, where that is not left at its default.

    The class is open: a subclass may change where a run takes place, or what is done to a module.

    >>> SingleDeviceStrategy("cuda:1").root_device
    device(type='cuda', index=1)
    """

    capabilities = StrategyCapabilities()

    def __init__(
        self,
        device: torch.device | str | int = DEFAULT_DEVICE,
        accelerator: Accelerator | None = None,
        checkpoint_io: CheckpointIO | None = None,
        precision_plugin: Precision | None = None,
    ) -> None:
        # The default cannot be told from a wish for the CPU, so it leaves the choice open: a Trainer gives its device then.
        chosen = None if device == DEFAULT_DEVICE else [torch.device(device)]
        super().__init__(accelerator, chosen, checkpoint_io=checkpoint_io, precision_plugin=precision_plugin)

    @property
    def root_device(self) -> torch.device:
        """The device."""
        return self.parallel_devices[0] if self.parallel_devices else torch.device(DEFAULT_DEVICE)

    def all_reduce(self, tensor: torch.Tensor, group: Any = None, reduce_op: str = "mean") -> torch.Tensor:
        """The tensor itself, over one process."""
        return tensor

    def all_gather(self, tensor: torch.Tensor, group: Any = None, sync_grads: bool = False) -> torch.Tensor:
        """The tensor itself, without a new dimension."""
        return tensor

    def broadcast(self, obj: Any, src: int = 0) -> Any:
        """The object itself."""
        return obj

    def barrier(self, name: str | None = None) -> None:
        """Returns at once."""
