"""Which samples a batch holds: a loader that tells the indices of its batches to whoever asks for them."""

from collections import deque
from collections.abc import Iterator
from typing import Any

from torch.utils.data import DataLoader, IterableDataset

from lx.data.samplers import clone


class RecordedIndices:
    """A sampler, or a batch sampler, that remembers what it has handed out once `kept` is set; in all else it is the one within.

    A loader with workers is ahead of its batches, and they come in order: the first of `kept` belongs to the next batch.
    """

    def __init__(self, inner: Any) -> None:
        self.inner = inner
        self.kept: deque[list[Any]] | None = None

    def __len__(self) -> int:
        return len(self.inner)

    def __iter__(self) -> Iterator[Any]:
        for handed in self.inner:
            if self.kept is not None:
                self.kept.append(list(handed) if isinstance(handed, list | tuple) else [handed])
            yield handed

    def __getattr__(self, name: str) -> Any:
        if name == "inner":  # while a copy is made
            raise AttributeError(name)
        return getattr(self.inner, name)


def recorded(loader: Any) -> Any:
    """The same loader with indices that can be asked for; itself where it draws none."""
    if not isinstance(loader, DataLoader) or isinstance(loader.dataset, IterableDataset):
        return loader
    if loader.batch_sampler is None:
        return clone(loader, sampler=RecordedIndices(loader.sampler))
    return clone(loader, batch_sampler=RecordedIndices(loader.batch_sampler))


def batch_indices(loader: Any) -> "deque[list[Any]] | None":
    """The indices of the batches to come of a loader that a prediction goes through, one list a batch; None if nobody knows them.

    Ask before the loader is iterated, as in `on_predict_epoch_start`, and take the first one away for each batch.
    """
    batch_sampler = getattr(loader, "batch_sampler", None)
    source = getattr(loader, "sampler", None) if batch_sampler is None else batch_sampler
    if not isinstance(source, RecordedIndices):
        return None
    source.kept = deque()
    return source.kept
