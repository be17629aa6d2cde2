"""What a forward pass changes beside the weights, so that a batch can be taken back."""

from collections.abc import Callable
from operator import is_
from typing import Any

import torch
from torch import nn

from lx.logging.deferred import DeferredLog


class Forward:
    """Runs a step so that it may have never been: what it logged waits for a verdict, and the buffers of the model are kept, such as the
    running statistics of batch norm; those that no checkpoint holds are not."""

    def __init__(self, step: Callable[[Any, int], Any], module: nn.Module, log: Any) -> None:
        self._step = step
        self._deferred = DeferredLog(log)
        saved = set(module.state_dict())
        self._slots = [
            (part, name)
            for path, part in module.named_modules()
            for name, _ in part.named_buffers(recurse=False)
            if (f"{path}.{name}" if path else name) in saved
        ]
        self._buffers: list[torch.Tensor] = []
        self._kept: list[torch.Tensor] = []

    def run(self, batch: Any, batch_idx: int) -> Any:
        """What the step returns."""
        self._keep()
        with self._deferred:
            return self._step(batch, batch_idx)

    def accept(self) -> None:
        """Logs what the step has logged."""
        for call in self._deferred.take():
            self._deferred.play(call)

    @torch.no_grad()
    def take_back(self) -> None:
        """Puts the buffers back, and forgets what was logged."""
        self._deferred.take()
        for (part, name), buffer, kept in zip(self._slots, self._buffers, self._kept, strict=True):
            buffer.copy_(kept)
            if getattr(part, name) is not buffer:  # the step has put another one in its place
                setattr(part, name, buffer)

    @torch.no_grad()
    def _keep(self) -> None:
        buffers = [getattr(part, name) for part, name in self._slots]
        if len(buffers) == len(self._buffers) and all(map(is_, buffers, self._buffers)):
            for kept, buffer in zip(self._kept, buffers, strict=True):
                kept.copy_(buffer)
        else:
            self._buffers, self._kept = buffers, [buffer.clone() for buffer in buffers]
