"""How many samples a batch holds, read off its first tensor."""

from collections.abc import Iterable, Iterator, Mapping, Sized
from dataclasses import fields, is_dataclass
from typing import Any

from torch import Tensor

from lx.dataloader_iter import DataLoaderIter
from lx.kernel.errors import MisconfigurationException
from lx.rank_zero import PossibleUserWarning, rank_zero_warn


def batch_size_of(batch: Any) -> int:
    """The size of the first dimension of the first tensor in a batch; 1 without a batch.

    Warns if another tensor disagrees, or a value without a size follows; raises `MisconfigurationException` if there is no tensor.

    >>> import torch
    >>> batch_size_of({"x": torch.zeros(4, 2), "y": torch.zeros(4)})
    4
    """
    # Asked for every batch, so the common kind is looked at first: a flat one, of tensors that agree.
    kind, shared = type(batch), None
    for part in batch.values() if kind is dict else batch if kind is tuple or kind is list else ():
        if type(part) is not Tensor or not part.ndim:
            return _any_size_of(batch)
        size = part.size(0)
        if shared is None:
            shared = size
        elif size != shared:
            return _any_size_of(batch)
    return _any_size_of(batch) if shared is None else shared


def first_size(batch: Any) -> int:
    """The size of the first dimension of the first tensor in a batch; the number of its items where it holds none.

    >>> first_size(["a", "b"]), first_size(3)
    (2, 1)
    """
    size = next((size for size in _sizes(batch) if size is not None), None)
    if size is not None:
        return size
    return len(batch) if isinstance(batch, Sized) and not isinstance(batch, str | bytes) else 1


def _any_size_of(batch: Any) -> int:
    if batch is None:
        return 1
    if isinstance(batch, DataLoaderIter):
        raise MisconfigurationException("a step that takes dataloader_iter must say the size: self.log(..., batch_size=...).")
    if type(batch) is Tensor:
        return _size(batch)
    sizes = _sizes(batch)
    first = next((size for size in sizes if size is not None), None)
    if first is None:
        raise MisconfigurationException("the batch holds no tensor from which its size could be read; pass self.log(..., batch_size=...).")
    if any(size != first for size in sizes):
        rank_zero_warn(
            f"the batch size was read as {first}, and something else in the batch differs from it; pass self.log(..., batch_size=...).",
            PossibleUserWarning,
        )
    return first


def _size(tensor: Tensor) -> int:
    return tensor.shape[0] if tensor.ndim else 1


def _sizes(batch: Any) -> Iterator[int | None]:
    if isinstance(batch, Tensor):
        yield _size(batch)
    elif isinstance(batch, str | bytes):  # which would go on for ever: a letter is a text, too
        yield None
    elif isinstance(batch, Mapping):
        for value in batch.values():
            yield from _sizes(value)
    elif is_dataclass(batch) and not isinstance(batch, type):
        for field in fields(batch):
            yield from _sizes(getattr(batch, field.name))
    elif isinstance(batch, Iterable):
        for value in batch:
            yield from _sizes(value)
    else:
        yield None
