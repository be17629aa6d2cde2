"""The way of a batch: precision, hooks, device. What nobody overrides is left out."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from lx.batch import move_to
from lx.dataloader_iter import DataLoaderIter, takes_iterator
from lx.dispatch import Dispatch, overrides
from lx.hooks import DataHooks
from lx.interfaces.precision import Precision
from lx.rank_zero import rank_zero_warn

STEPS = ("training_step", "validation_step", "test_step", "predict_step")
HOOKS = ("on_before_batch_transfer", "transfer_batch_to_device", "on_after_batch_transfer")


def compile_transfer(
    module: Any, datamodule: Any, device: torch.device, precision: Precision, non_blocking: bool, dispatch: Dispatch
) -> Callable[[Any, int], Any]:
    """One function of (batch, dataloader_idx) that brings a batch to the device; the data module's hooks win over the module's."""
    before, move, after = (_hook(name, module, datamodule, dispatch) for name in HOOKS)
    before, after = _in_turn(dispatch.on_before_batch_transfer, before), _in_turn(dispatch.on_after_batch_transfer, after)
    converts = precision.convert_input if type(precision).convert_input is not Precision.convert_input else None
    default_move = _stay_or_move(device, non_blocking)
    fetches_itself = any(takes_iterator(getattr(module, name)) for name in STEPS if hasattr(module, name))

    def transfer(batch: Any, dataloader_idx: int = 0) -> Any:
        if converts is not None:
            batch = converts(batch)
        if before is not None:
            batch = before(batch, dataloader_idx)
        batch = default_move(batch, dataloader_idx) if move is None else move(batch, device, dataloader_idx)
        return batch if after is None else after(batch, dataloader_idx)

    chosen = default_move if converts is None and before is None and move is None and after is None else transfer
    return _past_iterators(chosen) if fetches_itself else chosen


def _past_iterators(transfer: Callable[[Any, int], Any]) -> Callable[[Any, int], Any]:
    """A transfer that leaves alone what steps are handed that fetch and move their batches themselves."""

    def pass_or_transfer(batch: Any, dataloader_idx: int = 0) -> Any:
        return batch if isinstance(batch, DataLoaderIter) else transfer(batch, dataloader_idx)

    return pass_or_transfer


def _in_turn(callbacks: Callable[..., Any] | None, hook: Callable[..., Any] | None) -> Callable[..., Any] | None:
    """The callbacks' part of a hook and then its own, where there are both."""
    if callbacks is None or hook is None:
        return callbacks or hook
    return lambda batch, dataloader_idx: hook(callbacks(batch, dataloader_idx), dataloader_idx)


def _hook(name: str, module: Any, datamodule: Any, dispatch: Dispatch) -> Callable[..., Any] | None:
    owners = ((datamodule, "LightningDataModule"), (module, "LightningModule"))
    found = [(owner, kind) for owner, kind in owners if owner is not None and overrides(owner, name, DataHooks)]
    if not found:
        return None
    if len(found) > 1:
        rank_zero_warn(
            f"{type(datamodule).__name__} and {type(module).__name__} both override {name}; that of the data module is called alone."
        )
    owner, kind = found[0]
    return dispatch.timed(getattr(owner, name), owner, kind, name)


def _stay_or_move(device: torch.device, non_blocking: bool) -> Callable[[Any, int], Any]:
    """Moves a batch; on the CPU a look at a flat batch saves the walk through it, since its tensors are there already."""
    if device.type != "cpu":

        def move(batch: Any, dataloader_idx: int = 0) -> Any:
            return move_to(batch, device, non_blocking)

        return move

    def stay(batch: Any, dataloader_idx: int = 0) -> Any:
        kind = type(batch)
        if kind is Tensor:
            return batch if batch.is_cpu else batch.to(device)
        if kind is tuple or kind is list:
            for part in batch:
                if type(part) is not Tensor or not part.is_cpu:
                    return move_to(batch, device)
            return batch
        return move_to(batch, device)

    return stay
