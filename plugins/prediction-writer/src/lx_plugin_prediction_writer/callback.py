"""BasePredictionWriter: predictions as they come, with the samples that they are of."""

from collections import deque
from enum import StrEnum
from typing import Any

import torch
from torch import Tensor

from lx.batch import map_tensors
from lx.data import CombinedLoader, batch_indices
from lx.dataloader_iter import takes_iterator
from lx.interfaces import Callback
from lx.kernel.errors import MisconfigurationException


class WriteInterval(StrEnum):
    """When predictions are handed on."""

    BATCH = "batch"
    EPOCH = "epoch"
    BATCH_AND_EPOCH = "batch_and_epoch"

    @property
    def on_batch(self) -> bool:
        """Whether each batch's are."""
        return self is not WriteInterval.EPOCH

    @property
    def on_epoch(self) -> bool:
        """Whether all of them are, when the last is made."""
        return self is not WriteInterval.BATCH


class BasePredictionWriter(Callback):
    """Hands predictions to `write_on_batch_end` or `write_on_epoch_end`, of which a subclass overrides the one that it needs.

    Every rank writes what it predicted; `batch_indices` say which samples of the data set those were, in whatever order and on whichever
    rank they came. With `trainer.predict(return_predictions=False)` nothing is kept in memory beside what an interval needs.

    Args:
        write_interval: `"batch"`: after each batch; `"epoch"`: when all are made; `"batch_and_epoch"`: both.

    Raises:
        MisconfigurationException: for another interval.

    >>> class Prints(BasePredictionWriter):
    ...     def write_on_batch_end(self, trainer, pl_module, prediction, batch_indices, batch, batch_idx, dataloader_idx):
    ...         print(batch_indices, prediction)
    >>> Prints("batch").interval.on_epoch
    False
    """

    def __init__(self, write_interval: str = "batch") -> None:
        try:
            self.interval = WriteInterval(write_interval)
        except ValueError:
            raise MisconfigurationException(
                f"write_interval={write_interval!r}: it must be one of {', '.join(map(repr, map(str, WriteInterval)))}."
            ) from None
        self._coming: list[deque[list[Any]] | None] = []
        self._indices: list[list[list[Any]]] = []
        self._predictions: list[list[Any]] = []

    def write_on_batch_end(
        self, trainer: Any, pl_module: Any, prediction: Any, batch_indices: list[Any], batch: Any, batch_idx: int, dataloader_idx: int
    ) -> None:
        """Writes what `predict_step` returned for a batch; called on every rank, with `"batch"` and `"batch_and_epoch"`.

        `batch_indices` are the indices of the batch's samples in their data set; empty for a loader that draws none, such as one over an
        iterable data set.
        """

    def write_on_epoch_end(self, trainer: Any, pl_module: Any, predictions: Any, batch_indices: list[list[list[Any]]]) -> None:
        """Writes all predictions of this rank, which are on the CPU; called with `"epoch"` and `"batch_and_epoch"`.

        `predictions` are what `trainer.predict` returns: a list for one loader, a list of lists for several. `batch_indices` are a list for
        each loader, with one list for each of its batches.
        """

    def on_predict_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        """Asks the loaders for the indices of what is to come; raises `NotImplementedError` for a `predict_step` that fetches itself."""
        if takes_iterator(pl_module.predict_step):
            raise NotImplementedError(
                f"{type(self).__name__} hands on a batch and its indices, and predict_step(dataloader_iter) takes its batches unseen: def"
                " predict_step(self, batch, batch_idx)."
            )
        loaders = CombinedLoader(trainer.predict_dataloaders, "sequential").flattened
        self._coming = [batch_indices(loader) for loader in loaders]
        self._indices, self._predictions = [[] for _ in loaders], [[] for _ in loaders]

    def on_predict_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Hands on a batch's prediction, or keeps it."""
        coming = self._coming[dataloader_idx]
        indices = coming.popleft() if coming else []
        if self.interval.on_batch:
            self.write_on_batch_end(trainer, pl_module, outputs, indices, batch, batch_idx, dataloader_idx)
        if self.interval.on_epoch:
            self._predictions[dataloader_idx].append(map_tensors(_to_cpu, outputs))
            if coming is not None:
                self._indices[dataloader_idx].append(indices)

    def on_predict_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Hands on what was kept, and lets go of it."""
        indices, predictions = self._indices, self._predictions
        self._coming, self._indices, self._predictions = [], [], []
        if self.interval.on_epoch:
            self.write_on_epoch_end(trainer, pl_module, predictions[0] if len(predictions) == 1 else predictions, indices)


def _to_cpu(tensor: Tensor) -> Tensor:
    return tensor.to(torch.device("cpu"))
