"""What `training_step` returned: its loss, and of how many items that is the mean."""

import math
from collections.abc import Mapping
from numbers import Real
from typing import Any

import torch
from torch import Tensor

from lx.kernel.errors import MisconfigurationException


class Skipped:
    """What a function around `training_step` returns, on all ranks alike, for a batch that is to contribute nothing.

    `loss` is its loss, through whose backward the processes meet, None where its step was not run.
    """

    __slots__ = ("loss",)

    def __init__(self, loss: Tensor | None = None) -> None:
        self.loss = loss


def loss_in(output: Any, world_size: int) -> Tensor | None:
    """The loss, None where the batch is to be skipped; raises `MisconfigurationException` for what has none."""
    if output is None:
        if world_size > 1:
            raise RuntimeError(
                "training_step returned None on one of several processes, and the others would wait for its gradients; return a loss of 0."
            )
        return None
    if isinstance(output, Tensor):
        return output
    if isinstance(output, Skipped):
        return None
    if not isinstance(output, Mapping):
        raise MisconfigurationException(
            f"training_step returned a {type(output).__name__}; it must return a scalar tensor, a mapping with the key 'loss', or None"
            " to skip the batch."
        )
    if "loss" not in output:
        raise MisconfigurationException(f"training_step returned a mapping with the keys {list(output)}; the key 'loss' is missing.")
    loss = output["loss"]
    if not isinstance(loss, Tensor):
        raise MisconfigurationException(f"training_step returned {loss!r} as 'loss'; it must be a scalar tensor.")
    return loss


def items_in(output: Any, exact: torch.dtype) -> float | Tensor | None:
    """How many items the loss is the mean of, None where that is not said.

    What lies on another device than the CPU stays there, in the dtype `exact`, since to read it would be to wait for the device. Raises
    `MisconfigurationException` for what is no number of items.
    """
    items = output.get("num_items") if isinstance(output, Mapping) else None
    if items is None:
        return None
    if isinstance(items, Tensor) and items.numel() == 1:
        if items.device.type != "cpu":
            return items.detach().reshape(()).to(exact)
        items = items.item()
    number = float(items) if isinstance(items, Real) else math.nan
    if not 0 <= number < math.inf:
        raise MisconfigurationException(
            f"training_step returned {items!r} as 'num_items'; it must be the number of samples or tokens that the loss is the mean of: a"
            " number from 0 on, or a tensor of one element."
        )
    return number


def note_unfit_loss(error: RuntimeError, loss: Tensor) -> None:
    """Adds to what torch says of a loss without backward what that means for `training_step`."""
    if loss.numel() != 1:
        error.add_note(f"training_step returned a loss of shape {tuple(loss.shape)}; return one number, such as loss.mean().")
    elif not loss.requires_grad:
        error.add_note(
            "training_step returned a loss that depends on no parameter that is trained: it was detached or made without gradients, or all"
            " parameters are frozen."
        )
