"""What objects hold at a moment, kept in memory, and put back in place."""

from collections import deque
from collections.abc import Callable
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.nn.parameter import is_lazy
from torch.optim import Optimizer

LONG = 10_000
"""A list of more items than this holds data, and no state; that it is not changed within is taken for granted."""


class Snapshot:
    """Remembers what objects hold; `restore` puts it back into the very objects, so that whoever holds one of them need not be told.

    Modules and optimizers are walked, with the dictionaries, lists, sets and tuples in them. Of tensors the values, the gradient and
    `requires_grad` are remembered, of a random generator its state; of any other object only that it was there. The values lie on the
    CPU, so that a device has as much memory free as before.

    >>> layer = nn.Linear(1, 1)
    >>> before, weight = layer.weight.item(), layer.weight
    >>> snapshot = Snapshot()
    >>> snapshot.take(layer)
    >>> _ = layer.weight.data.fill_(7.0), layer.register_buffer("count", torch.ones(1))
    >>> snapshot.restore()
    >>> layer.weight is weight, layer.weight.item() == before, hasattr(layer, "count")
    (True, True, False)
    """

    def __init__(self) -> None:
        self._undo: list[Callable[[], Any]] = []
        self._seen: dict[int, Any] = {}  # the objects are kept with their ids, which would be given to others otherwise

    def take(self, value: Any) -> None:
        """Remembers what a value holds; what has been remembered already is not looked at again."""
        if id(value) in self._seen:
            return
        if isinstance(value, nn.Module | Optimizer):
            self._seen[id(value)] = value
            self.take(vars(value))
        elif isinstance(value, Tensor):
            self._seen[id(value)] = value
            self._take_tensor(value)
        elif isinstance(value, dict | list | set | deque | tuple):
            self._seen[id(value)] = value
            self._take_container(value)
        elif isinstance(value, Generator):
            self._seen[id(value)] = value
            state = value.get_state()
            self._undo.append(lambda: value.set_state(state))

    def take_attributes(self, owner: Any) -> None:
        """Remembers which attributes an object has and what they are, and not what is in those, which may be all the data of a run."""
        attributes = getattr(owner, "__dict__", None)
        if attributes is not None and id(attributes) not in self._seen:
            self._seen[id(attributes)] = attributes
            self._undo.append(_refill(attributes))

    def take_state(self, owner: Any) -> None:
        """Remembers what an object's `state_dict` gives, for its `load_state_dict`; nothing where it has none, or an empty one."""
        if callable(getattr(owner, "state_dict", None)) and callable(getattr(owner, "load_state_dict", None)):
            state = owner.state_dict()
            if state:
                inner = Snapshot()  # a state may hold the very tensors and lists that change
                inner.take(state)
                self._undo += [inner.restore, lambda: owner.load_state_dict(state)]

    def restore(self) -> None:
        """Puts everything back."""
        for undo in self._undo:
            undo()

    def _take_container(self, container: Any) -> None:
        if isinstance(container, dict) or len(container) <= LONG:
            for item in list(container.values() if isinstance(container, dict) else container):
                self.take(item)
        if not isinstance(container, tuple):
            self._undo.append(_refill(container))

    def _take_tensor(self, tensor: Tensor) -> None:
        leaf = tensor.is_leaf  # what has a history was computed, and is no state
        if not leaf or tensor.is_meta or is_lazy(tensor):
            return
        local = tensor.to_local() if hasattr(tensor, "to_local") else tensor  # of a tensor that lies on several devices, the part here
        values, trained, gradient = local.detach().to("cpu", copy=True), tensor.requires_grad, tensor.grad
        if gradient is not None:
            self.take(gradient)

        def undo() -> None:
            with torch.inference_mode() if tensor.is_inference() else torch.no_grad():
                _put_back(tensor, local, values)
            if tensor.requires_grad != trained:
                tensor.requires_grad_(trained)
            tensor.grad = gradient

        self._undo.append(undo)


def _put_back(tensor: Tensor, local: Tensor, values: Tensor) -> None:
    now = tensor.to_local() if hasattr(tensor, "to_local") else tensor
    if now.shape != values.shape or now.dtype != values.dtype or now.device != local.device:
        tensor.data = values.to(local.device)
    elif not _repeats(now):
        now.copy_(values)


def _repeats(tensor: Tensor) -> bool:
    """Whether several elements share one place, as after `expand`; such a tensor cannot be changed in place by anybody."""
    return tensor.layout is torch.strided and any(
        stride == 0 and size > 1 for stride, size in zip(tensor.stride(), tensor.shape, strict=True)
    )


def _refill(container: Any) -> Callable[[], None]:
    """A function that gives a container the items back that it has now."""
    if isinstance(container, dict):
        items = dict(container)

        def refill() -> None:
            container.clear()
            container.update(items)

        return refill
    elements = list(container)

    def refill_elements() -> None:
        container.clear()
        (container.update if isinstance(container, set) else container.extend)(elements)

    return refill_elements
