"""The memory that training a model takes: what is counted, what is measured, and what is estimated."""

import sys
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from shutil import get_terminal_size
from textwrap import fill
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.optim import Optimizer

MEGABYTE = 1e6
LINE = 80


@dataclass(frozen=True, slots=True)
class Footprint:
    """Bytes on the device of this process; None for what is not known.

    `parameters`, `buffers` and `gradients` (of what requires them) are counted. `optimizers` are the states that optimizers have, or, as
    long as they have none, an estimate: those that a step leaves beside a small parameter, scaled up. `activations` are what the forward of
    one example input keeps for the backward, in eval mode, so that the masks of dropout are not among it.
    """

    parameters: int
    buffers: int
    gradients: int
    optimizers: int | None = None
    activations: int | None = None

    @property
    def total(self) -> int:
        """All that is known."""
        return self.parameters + self.buffers + self.gradients + (self.optimizers or 0) + (self.activations or 0)

    def __str__(self) -> str:
        known = [(name, getattr(self, name)) for name in ("parameters", "gradients", "optimizers", "buffers", "activations")]
        parts = [f"{size / MEGABYTE:,.3f} {_SAID.get(name, name)}" for name, size in known if size is not None]
        width = min(LINE, get_terminal_size().columns)
        return fill(f"{self.total / MEGABYTE:,.3f} MB to train: {', '.join(parts)}", width, subsequent_indent="    ")


_SAID = {"optimizers": "optimizer states", "activations": "activations of the example input"}


def footprint(model: nn.Module, optimizers: Iterable[Optimizer] = (), activations: int | None = None) -> Footprint:
    """What this process holds for a model and its optimizers; parameters that layers share count once, uninitialised ones as 0.

    >>> model = nn.Linear(9, 1)
    >>> print(footprint(model, [torch.optim.Adam(model.parameters())]))
    0.000 MB to train: 0.000 parameters, 0.000 gradients, 0.000 optimizer states, 0.000 buffers
    >>> footprint(model, [torch.optim.Adam(model.parameters())]).optimizers
    80
    """
    parameters = list(model.parameters())
    buffers = {id(buffer): buffer for buffer in model.buffers()}
    given = list(optimizers)
    states = [states_size(optimizer) for optimizer in given]
    return Footprint(
        parameters=sum(map(local_bytes, parameters)),
        buffers=sum(map(local_bytes, buffers.values())),
        gradients=sum(local_bytes(parameter) for parameter in parameters if parameter.requires_grad),
        optimizers=sum(size or 0 for size in states) if given and None not in states else None,
        activations=activations,
    )


def local_size(tensor: Tensor) -> int:
    """The number of elements of a parameter that this process holds; 0 of one that is not initialised."""
    if is_lazy(tensor):
        return 0
    shard = getattr(tensor, "ds_tensor", None)  # DeepSpeed's
    to_local = getattr(tensor, "to_local", None)  # a distributed tensor
    local = shard if shard is not None else to_local() if to_local is not None else tensor
    return int(local.numel())


def local_bytes(tensor: Tensor) -> int:
    """The bytes of a parameter or buffer that this process holds."""
    return local_size(tensor) * tensor.dtype.itemsize


def states_size(optimizer: Optimizer) -> int | None:
    """The bytes of an optimizer's states, measured, or before its first step estimated; None where neither can be."""
    held = sum(local_bytes(value) for state in optimizer.state.values() for value in _tensors(state))
    if held:
        return held
    total = 0
    for group in optimizer.param_groups:
        per_element: dict[tuple[int, torch.dtype], int] = {}
        for parameter in group["params"]:
            kind = parameter.ndim, parameter.dtype
            try:
                per_element[kind] = per_element.get(kind) or _state_per_element(type(optimizer), group, *kind)
            except Exception:  # an optimizer of the user's own may need whatever it likes
                return None
            total += local_size(parameter) * per_element[kind]
    return total


def _tensors(state: Any) -> list[Tensor]:
    values = state.values() if isinstance(state, dict) else ()
    return [value for value in values if isinstance(value, Tensor) and value.ndim]  # a counter of steps is no matter


def _state_per_element(kind: Any, group: dict[str, Any], ndim: int, dtype: torch.dtype) -> int:
    """The bytes for each element of a parameter, told by the state of another optimizer of the class after a step with a small one.

    State of another shape than the parameter's, as of optimizers that keep sums of rows and columns, is small, and left out.
    """
    small = nn.Parameter(torch.ones((2,) * ndim, dtype=dtype))
    small.grad = torch.ones_like(small)
    alike = {name: value for name, value in group.items() if name not in ("fused", "capturable")}  # which need a GPU
    probe = kind([{**alike, "params": [small]}])
    probe.step()
    return sum(value.element_size() for value in _tensors(probe.state[small]) if value.shape == small.shape)


def kept_for_backward(model: nn.Module, forward: Callable[[], Any]) -> int:
    """The bytes that a forward keeps for the backward beside parameters and buffers, each storage once."""
    own = {tensor.untyped_storage().data_ptr() for tensor in (*model.parameters(), *model.buffers()) if not is_lazy(tensor)}
    kept: dict[int, Tensor] = {}  # the tensors are held, since the address of one that is freed is given to another

    def keep(tensor: Tensor) -> Tensor:
        address = tensor.untyped_storage().data_ptr()
        if address not in own:
            kept.setdefault(address, tensor)
        return tensor

    with torch.enable_grad(), _uncompiled(), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        output = forward()
    size = sum(tensor.untyped_storage().nbytes() for tensor in kept.values())
    del output
    return size


def _uncompiled() -> AbstractContextManager[Any]:
    """Within it what `torch.compile` made runs as it was written; compiling it for a measurement would take longer than all else."""
    return torch.compiler.set_stance("force_eager") if "torch._dynamo" in sys.modules else nullcontext()
