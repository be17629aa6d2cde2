"""A batch in pieces along its first dimension."""

import itertools
from typing import Any

from torch import Tensor

from lx.batch import apply_to_collection
from lx.kernel.errors import MisconfigurationException
from lx.logging.batch_size import first_size


def split_batch(batch: Any, size: int) -> list[Any]:
    """The batch in as few pieces of at most `size` samples as there can be, which are as equally large as they can be.

    Every tensor is cut along its first dimension, which must be the batch's; so is a list with an item for each sample. Tensors
    without dimensions, and whatever else there is, belong to every piece.

    Raises `MisconfigurationException` for a tensor with another first dimension: nobody can know where that is to be cut.

    >>> import torch
    >>> split_batch({"x": torch.arange(3), "name": ["a", "b", "c"], "scale": 2.0}, 2)
    [{'x': tensor([0]), 'name': ['a'], 'scale': 2.0}, {'x': tensor([1, 2]), 'name': ['b', 'c'], 'scale': 2.0}]
    """
    total = first_size(batch)
    count = -(-total // size)
    bounds = [total * place // count for place in range(count + 1)]
    return [_cut(batch, total, begin, end) for begin, end in itertools.pairwise(bounds)]


def _cut(batch: Any, total: int, begin: int, end: int) -> Any:
    def cut(part: Any) -> Any:
        if isinstance(part, list):
            whole = all(isinstance(item, Tensor) and item.ndim and item.size(0) == total for item in part)
            if len(part) == total and not whole:
                return part[begin:end]
            return [walk(item) for item in part]
        if part.ndim == 0:
            return part
        if part.size(0) != total:
            raise MisconfigurationException(
                f"the batch of {total} samples holds a tensor of the shape {list(part.shape)}, which has no row for each; override"
                " split_batch(batch, size) of the module to say how it is cut."
            )
        return part[begin:end]

    def walk(data: Any) -> Any:
        return apply_to_collection(data, (Tensor, list), cut)

    return walk(batch)
