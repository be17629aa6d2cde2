"""Which samples a batch holds: a loader that tells the indices of its batches to whoever asks for them."""

from collections import deque
from typing import Any

from torch.utils.data import DataLoader, IterableDataset

from lx.data.order import Order
from lx.data.samplers import clone


def recorded(loader: Any) -> Any:
    """The same loader with indices that can be asked for; itself where it draws none."""
    if not isinstance(loader, DataLoader) or isinstance(loader.dataset, IterableDataset):
        return loader
    if loader.batch_sampler is None:
        return clone(loader, sampler=Order(loader.sampler, works=False))
    return clone(loader, batch_sampler=Order(loader.batch_sampler, works=False))


def batch_indices(loader: Any) -> "deque[list[Any]] | None":
    """The indices of the batches to come of a loader that a prediction goes through, one list a batch; None if nobody knows them.

    Ask before the loader is iterated, as in `on_predict_epoch_start`, and take the first one away for each batch.
    """
    batch_sampler = getattr(loader, "batch_sampler", None)
    source = getattr(loader, "sampler", None) if batch_sampler is None else batch_sampler
    if not isinstance(source, Order):
        return None
    source.kept = deque()
    return source.kept
