"""The share of each batch in the gradient of its window, where steps say of how many samples or tokens their loss is the mean."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from lx.interfaces.strategy import optimizer_parameters
from lx.kernel.errors import MisconfigurationException
from lx.loops.sync import GradientSync


class Weights:
    """The numbers of items in a window: its gradient is that of sum(n * loss) / sum(n), over its batches and over all processes.

    The sum is known last. So each loss is multiplied by n / unit, and `unit`, the first n times the number of batches that are expected,
    keeps gradients at their final size, within the range of half precision; unit / sum(n) is left for the end of the window.

    Several processes tell each other their sums between the forward and the backward of the closing batch: the gradients of the earlier
    ones are brought to the final unit, the same on all, and then backward averages what belongs together.

    A number on a device is not read. That a batch without items adds nothing is then left to its factor of 0, for which the gradient of its
    loss must be finite, as it is for the losses of torch.
    """

    __slots__ = ("_settled", "_sync", "open", "total", "unit")

    def __init__(self, sync: GradientSync) -> None:
        self._sync = sync
        self.clear()

    def clear(self) -> None:
        """Begins a window; `open` says whether one of its batches gave a number."""
        self.open = self._settled = False
        self.unit: float | Tensor = 0.0
        self.total: float | Tensor = 0.0

    def check(self, items: float | Tensor | None, contributed: int, batch_idx: int) -> None:
        """Raises `MisconfigurationException` unless the batches of a window all give a number, or none does."""
        if items is None and self.open:
            problem = "returned no 'num_items', and did so for an earlier batch"
        elif items is not None and contributed and not self.open:
            problem = "returned 'num_items', and not so for an earlier batch"
        else:
            return
        raise MisconfigurationException(
            f"training_step, for batch {batch_idx}, {problem} of the same optimizer step; it must return it for each batch or for none."
        )

    def is_nothing(self, items: float | Tensor) -> bool:
        """Whether a batch is known to hold no items."""
        return not isinstance(items, Tensor) and items == 0

    def skips(self, items: float | Tensor) -> bool:
        """Whether a batch is known to hold no items, and no other process waits for its backward."""
        return self.is_nothing(items) and (self._sync.paused or not self._sync.shared)

    def weigh(self, loss: Tensor, items: float | Tensor, batches: float, earlier: Iterable[Any]) -> Tensor:
        """The loss of the next batch in the unit of the window, of which `batches` are expected.

        `earlier` are the optimizers whose parameters hold gradients of the window already.
        """
        self._add(items, batches)
        if self._sync.shared and not self._sync.paused:
            self._settle(earlier)
        scale = items / self.unit
        if not isinstance(scale, Tensor):
            return loss if scale == 1.0 else loss * scale
        some = scale > 0  # neither 0 nor, where the unit is still 0, not a number
        return torch.where(some, loss, 0.0) * torch.where(some, scale, 0.0).to(loss.dtype)

    def _add(self, items: float | Tensor, batches: float) -> None:
        if not self.open and batches == 1:
            self.unit = self.total = items  # one object, so that the factor is known without reading it
        else:
            first = items * batches
            if isinstance(self.unit, Tensor):
                self.unit = torch.where(self.unit > 0, self.unit, first)
            else:
                self.unit = self.unit or first
            self.total = self.total + items
        self.open = True

    def _settle(self, earlier: Iterable[Any]) -> None:
        whole = self._sync.mean(self.total)
        whole = torch.where(whole > 0, whole, 1.0)
        for optimizer in earlier:
            rescale_gradients(optimizer, self.unit / whole)
        self.unit, self._settled = whole, True

    def share(self, optimizers: Iterable[Any]) -> None:
        """For a window without a closing batch, what its backward would have done: averages gradients over processes. A collective."""
        if self._sync.shared:
            if self.open:
                self._settle(optimizers)
            self._sync.average(optimizers)

    def pass_over(self, loss: Tensor | None, batches: float, optimizers: Iterable[Any], held: bool) -> None:
        """For a batch that contributes nothing: averages over processes what earlier ones of its window left, if it closes that.

        Where a forward pass expects a backward, there is one, which adds nothing. A collective.
        """
        if not self._sync.shared or self._sync.paused:
            return
        if loss is None:
            if held:
                self.share(optimizers)
            return
        if self.open:
            loss = self.weigh(loss, 0.0, batches, optimizers if held else ())
        with no_gradient(optimizers):
            loss.backward()

    def factor(self) -> float | Tensor:
        """What gradients are still to be multiplied by when the window closes."""
        if self._settled or self.unit is self.total:
            return 1.0
        if isinstance(self.total, Tensor):
            return torch.where(self.total > 0, self.unit / self.total, 1.0)
        return self.unit / self.total

    def mean(self, weighed: Tensor) -> Tensor:
        """The mean loss of the window on this process, of the sum of n * loss."""
        return (weighed / self.total).to(weighed.dtype)

    def state(self) -> dict[str, float]:
        """The numbers of an open window, for a checkpoint; empty where its batches gave none."""
        return {"unit": float(self.unit), "items": float(self.total)} if self.open else {}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Goes on from what `state` gave."""
        self.clear()
        if "unit" in state:
            self.open, self.unit, self.total = True, state["unit"], state["items"]

    def snapshot(self) -> tuple[Any, ...]:
        """All that is known of the window, for `restore`; nothing is read from the device."""
        return self.open, self._settled, self.unit, self.total

    def restore(self, snapshot: tuple[Any, ...]) -> None:
        """Goes back to a snapshot."""
        self.open, self._settled, self.unit, self.total = snapshot


def rescale_gradients(optimizer: Any, factor: float | Tensor) -> None:
    """Multiplies all gradients of an optimizer, in place; a factor on the device is not read."""
    if not isinstance(factor, Tensor) and factor == 1:
        return
    for parameter in optimizer_parameters(optimizer):
        if parameter.grad is not None:
            parameter.grad.mul_(factor)


@contextmanager
def no_gradient(optimizers: Iterable[Any]) -> Iterator[None]:
    """Within it backward adds nothing to the gradients of the optimizers' parameters, whatever it comes to; other processes are met all the
    same."""
    parameters = [each for optimizer in optimizers for each in optimizer_parameters(optimizer) if each.requires_grad]
    handles = [parameter.register_hook(torch.zeros_like) for parameter in parameters]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
