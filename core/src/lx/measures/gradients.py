"""The norms of gradients, to be looked at or logged."""

import math

import torch
from torch import nn


def grad_norm(module: nn.Module, norm_type: float | int | str, group_separator: str = "/") -> dict[str, torch.Tensor]:
    """The norm of every parameter's gradient, and of all of them together, as scalar tensors on their device.

    The names are `grad_2.0_norm/<parameter>` and `grad_2.0_norm_total`, with the norm's own number. Parameters without a gradient are left
    out, and where there is none, the result is empty. Call it where gradients are unscaled and complete, as in
    `on_before_optimizer_step`, and log it with `self.log_dict`; under sharding a gradient is that of the whole parameter, and every rank
    must call it. Raises `ValueError` for a `norm_type` that is neither a positive number nor `"inf"`.

    >>> layer = nn.Linear(2, 1, bias=False)
    >>> layer(torch.tensor([3.0, 4.0])).backward()
    >>> grad_norm(layer, 2)
    {'grad_2.0_norm/weight': tensor(5.), 'grad_2.0_norm_total': tensor(5.)}
    """
    norm = _read_norm(norm_type)
    found = {name: parameter.grad for name, parameter in module.named_parameters() if parameter.grad is not None}
    if not found:
        return {}
    norms = [_whole(torch.linalg.vector_norm(gradient, norm)) for gradient in found.values()]
    first = norms[0].device
    total = torch.linalg.vector_norm(
        torch.stack([value.to(first, torch.promote_types(value.dtype, torch.float32)) for value in norms]), norm
    )
    named = {f"grad_{norm}_norm{group_separator}{name}": value for name, value in zip(found, norms, strict=True)}
    return {**named, f"grad_{norm}_norm_total": total}


def _read_norm(norm_type: float | int | str) -> float:
    try:
        norm = float(norm_type)
    except (TypeError, ValueError):
        norm = math.nan
    if not norm > 0:  # nor NaN
        raise ValueError(f"norm_type={norm_type!r}: give a positive number, or 'inf' for the largest element.")
    return norm


def _whole(norm: torch.Tensor) -> torch.Tensor:
    """The norm over all shards of a gradient that is a distributed tensor."""
    full = getattr(norm, "full_tensor", None)
    return norm if full is None else full()
