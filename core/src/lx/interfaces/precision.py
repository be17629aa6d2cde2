"""How numbers are represented: what a precision may change around a step. The class itself is the neutral `32-true`."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer


@dataclass(frozen=True, slots=True)
class PrecisionCapabilities:
    """`scales_loss`: gradients are scaled until `unscale_gradients`, so whoever clips or reads them must wait for that."""

    scales_loss: bool = False


class Precision:
    """The interface of a precision, and `32-true`: every method does nothing, and the loops skip what is not overridden.

    >>> Precision().convert_input({"x": 1})
    {'x': 1}
    """

    capabilities: PrecisionCapabilities = PrecisionCapabilities()
    precision: str = "32-true"

    @classmethod
    def instead_of(cls, name: str, device_type: str) -> tuple[str, str] | None:
        """The precision to take for the named one on a type of device, such as `"cpu"`, and why; None where that is as good as any.

        Asked when a run is resolved, for a precision that was named; the user is warned, and `explain()` tells.
        """
        return None

    def connect(self, device: torch.device) -> None:
        """Called once on every rank, before any other method, with the root device; may raise `MisconfigurationException`."""

    def convert_module(self, module: nn.Module) -> nn.Module:
        """The module with parameters of this precision; called on every rank before the module is moved and wrapped."""
        return module

    def tensor_init_context(self) -> AbstractContextManager[Any]:
        """Entered while tensors are made by `Fabric.init_tensor`."""
        return nullcontext()

    def module_init_context(self) -> AbstractContextManager[Any]:
        """Entered while modules are made by `Fabric.init_module`, and around `configure_model`."""
        return nullcontext()

    def forward_context(self) -> AbstractContextManager[Any]:
        """Entered around every forward and every step method of the module."""
        return nullcontext()

    def convert_input(self, data: Any) -> Any:
        """The batch in this precision (any collection of tensors); called before the batch transfer hooks."""
        return data

    def convert_output(self, data: Any) -> Any:
        """What a Fabric module returns, in the default precision."""
        return data

    def scale_loss(self, loss: torch.Tensor) -> torch.Tensor:
        """The loss from which backward is run; a precision whose gradients would underflow multiplies it."""
        return loss

    def backward(self, tensor: torch.Tensor, *args: Any, **kwargs: Any) -> None:
        """Runs backward from a scalar loss, scaled."""
        self.scale_loss(tensor).backward(*args, **kwargs)

    def optimizer_step(self, optimizer: Optimizer, closure: Callable[[], Any] | None = None, **kwargs: Any) -> Any:
        """Takes the step; `closure`, where given, runs forward and backward, and is called as the optimizer would. The rest is the
        optimizer's own."""
        return optimizer.step(**kwargs) if closure is None else optimizer.step(closure, **kwargs)

    def unscale_gradients(self, optimizer: Optimizer) -> None:
        """Divides the gradients by the loss scale, if there is one; called after backward, before clipping and its hooks."""

    def state_dict(self) -> dict[str, Any]:
        """What must be saved; empty means nothing is stored. It is stored under the class's name."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes up what `state_dict` gave."""

    def teardown(self) -> None:
        """Undoes what was changed outside of the module, such as the default dtype; called on every rank after a run."""
