"""The content of a checkpoint as a flat list of names and values, and what its tensors come to."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch

Place = tuple[Any, ...]
"""The keys and indices that lead to a value."""


def leaves(content: Any, place: Place = ()) -> Iterator[tuple[Place, Any]]:
    """The values in nested dictionaries, lists and tuples, each with its place; an empty one of these is a value.

    >>> list(leaves({"epoch": 3, "betas": (0.9, 0.99), "state": {}}))
    [(('epoch',), 3), (('betas', 0), 0.9), (('betas', 1), 0.99), (('state',), {})]
    """
    parts: Any = ()
    if isinstance(content, Mapping):
        parts = content.items()
    elif isinstance(content, list | tuple):
        parts = enumerate(content)
    if not parts or not content:
        yield place, content
        return
    for key, value in parts:
        yield from leaves(value, (*place, key))


def name_of(place: Place) -> str:
    """A place in words.

    >>> name_of(("optimizer_states", 0, "state"))
    'optimizer_states.0.state'
    """
    return ".".join(map(str, place))


@dataclass(frozen=True, slots=True)
class Amount:
    """What tensors come to: how many they are, the numbers in them, and their bytes; those that share memory count once in the bytes."""

    tensors: int
    numbers: int
    bytes: int


def amount(content: Any) -> Amount:
    """What the tensors in a content come to.

    >>> amount({"weight": torch.zeros(3, 2), "step": 4})
    Amount(tensors=1, numbers=6, bytes=24)
    """
    tensors = [value for _, value in leaves(content) if isinstance(value, torch.Tensor)]
    stored = {_memory(tensor): tensor.nbytes for tensor in tensors}
    return Amount(len(tensors), sum(tensor.numel() for tensor in tensors), sum(stored.values()))


def apart(weights: Mapping[str, Any]) -> dict[str, Any]:
    """The same weights, each with memory of its own, for programs that know nothing of tied ones."""
    seen: set[int] = set()
    found = {}
    for name, value in weights.items():
        own = value
        if isinstance(value, torch.Tensor) and value.layout is torch.strided:
            storage = value.untyped_storage()
            if storage.data_ptr() in seen or storage.nbytes() != value.nbytes or not value.is_contiguous():
                own = value.clone(memory_format=torch.contiguous_format)
            seen.add(storage.data_ptr())
        found[name] = own
    return found


def _memory(tensor: torch.Tensor) -> Any:
    """The same for two tensors that are one in memory."""
    if tensor.is_meta or tensor.layout is not torch.strided:
        return id(tensor)
    return tensor.data_ptr() or id(tensor), tensor.dtype, tensor.shape
