"""The values that callbacks, loggers and the progress bar see."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor


@dataclass(slots=True)
class Published:
    """Three dictionaries of name to value, one for each audience; they last as long as a run."""

    callback: dict[str, Any] = field(default_factory=dict)
    logged: dict[str, Any] = field(default_factory=dict)
    progress_bar: dict[str, Any] = field(default_factory=dict)

    def clear(self) -> None:
        """Empties the dictionaries, at the start of an entry point."""
        self.restore(({}, {}, {}))

    def snapshot(self) -> tuple[dict[str, Any], ...]:
        """The dictionaries as they are, for `restore`: the sanity check leaves no trace."""
        return dict(self.callback), dict(self.logged), dict(self.progress_bar)

    def restore(self, before: tuple[dict[str, Any], ...]) -> None:
        """Puts the dictionaries back, which stay the same objects."""
        for values, old in zip((self.callback, self.logged, self.progress_bar), before, strict=True):
            values.clear()
            values.update(old)


def numbers(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """The metrics with tensors as python numbers, by one transfer from the device for all of them.

    >>> numbers({"a": torch.tensor(1.5), "b": 2})
    {'a': 1.5, 'b': 2}
    """
    tensors = {name: value for name, value in metrics.items() if isinstance(value, Tensor)}
    if not tensors:
        return dict(metrics)
    device = next(iter(tensors.values())).device
    exact = torch.float64 if any(value.dtype is torch.float64 for value in tensors.values()) else torch.float32
    flat = torch.stack([value.detach().reshape(()).to(device=device, dtype=exact) for value in tensors.values()])
    found = dict(zip(tensors, flat.tolist(), strict=True))
    return {name: found.get(name, value) for name, value in metrics.items()}
