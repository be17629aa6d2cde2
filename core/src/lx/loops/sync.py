"""Gradients of several processes: when backward averages them, and what else the processes must tell each other for that."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor

from lx.interfaces.strategy import optimizer_parameters


class GradientSync:
    """Whether backward averages gradients over processes: `shared` says of the run that some do, and `paused` that the next does not."""

    def __init__(self, trainer: Any) -> None:
        capabilities = trainer.strategy.capabilities
        self._trainer = trainer
        self.exact = torch.float64 if trainer.accelerator.capabilities.float64 else torch.float32
        self.shared = capabilities.wraps_training and trainer.world_size > 1
        self.paused = False
        self.pause: Callable[[], AbstractContextManager[Any]] = self._pause if capabilities.wraps_training else nullcontext

    @contextmanager
    def _pause(self) -> Iterator[None]:
        outer, self.paused = self.paused, True
        try:
            with self._trainer.strategy.no_backward_sync(self._trainer.model):
                yield
        finally:
            self.paused = outer

    def mean(self, number: float | Tensor) -> Tensor:
        """The mean of a number over the processes, on the device, and without waiting for it; a collective."""
        strategy = self._trainer.strategy
        device = strategy.root_device
        # Filled there, since a copy from the host would wait for the device.
        mine = number.clone() if isinstance(number, Tensor) else torch.full((), number, dtype=self.exact, device=device)
        return strategy.all_reduce(mine, reduce_op="mean")  # type: ignore[no-any-return]

    def average(self, optimizers: Iterable[Any]) -> None:
        """Averages gradients that no backward has averaged; a collective for each parameter."""
        for optimizer in optimizers:
            for parameter in optimizer_parameters(optimizer):
                if not parameter.requires_grad:
                    continue
                if parameter.grad is None:  # another process may have one
                    parameter.grad = torch.zeros_like(parameter)
                parameter.grad.copy_(self._trainer.strategy.all_reduce(parameter.grad, reduce_op="mean"))
