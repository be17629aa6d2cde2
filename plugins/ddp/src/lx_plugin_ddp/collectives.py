"""Collectives over torch's process groups, for every dtype and device, and with gradients."""

from typing import Any

import torch
import torch.distributed as dist

_OPS = {"sum": dist.ReduceOp.SUM, "mean": dist.ReduceOp.SUM, "avg": dist.ReduceOp.SUM, "min": dist.ReduceOp.MIN, "max": dist.ReduceOp.MAX}
_NARROW = (torch.bool, torch.uint8, torch.int8, torch.int16)


def all_reduce(tensor: torch.Tensor, op: str, device: torch.device, group: Any = None) -> torch.Tensor:
    """The `sum`, `mean`, `min` or `max` over a group, in place if the tensor is on `device` and the result fits its dtype.

    A sum of bool or of integers under 32 bits is an int64, as in `Tensor.sum`; a mean of integers has the default float dtype.
    Raises `ValueError` for another operation.
    """
    name = op.lower() if isinstance(op, str) else op
    if name not in _OPS:
        raise ValueError(f"reduce_op={op!r}: it must be 'sum', 'mean', 'min' or 'max'.")
    work = tensor.detach()
    if tensor.dtype in _NARROW:
        work = work.to(torch.int64)
    if device.type != "cpu":
        work = work.to(device)
    dist.all_reduce(work, _OPS[name], group=group)
    if name in ("mean", "avg"):
        size = dist.get_world_size(group)
        work = work.div_(size) if work.is_floating_point() or work.is_complex() else work / size
    elif name in ("min", "max"):
        work = work.to(tensor.dtype)
    return work.to(tensor.device)


def all_gather(tensor: torch.Tensor, device: torch.device, group: Any = None, sync_grads: bool = False) -> torch.Tensor:
    """The tensors of a group, all of one shape, as `(world, *shape)`; `sync_grads` has gradients flow back to where a row came from."""
    work = tensor if device.type == "cpu" else tensor.to(device)
    gathered: torch.Tensor = _AllGather.apply(work, group) if sync_grads else _gather(work.detach(), group)  # type: ignore[no-untyped-call]
    return gathered.to(tensor.device)


def _gather(tensor: torch.Tensor, group: Any) -> torch.Tensor:
    gathered = tensor.new_empty((dist.get_world_size(group), *tensor.shape))
    dist.all_gather(list(gathered.unbind(0)), tensor.contiguous(), group=group)
    return gathered


class _AllGather(torch.autograd.Function):
    """Every process may use every row, so the gradient of a row is the sum of what all processes have for it."""

    @staticmethod
    def forward(ctx: Any, tensor: torch.Tensor, group: Any) -> torch.Tensor:
        ctx.group = group
        return _gather(tensor, group)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, None]:
        total = grads[0].clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total, group=ctx.group)
        return total[dist.get_rank(ctx.group)], None
