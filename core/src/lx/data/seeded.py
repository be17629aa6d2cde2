"""What workers draw from while they load a batch: a seed that comes with its indices."""

import random
import sys
from typing import Any, NamedTuple

import torch
from torch.utils.data import Dataset, get_worker_info

from lx.data.stand_in import StandIn
from lx.generators import generators_in, reseed


class Drawn(NamedTuple):
    """What a worker is told of a batch: the seed of all that is drawn for it, and the indices of its samples."""

    seed: int
    indices: Any


class Seeded(StandIn, Dataset[Any]):
    """A data set in a worker, whose generators are seeded for each batch with what comes with its indices; else it is the one within."""

    def __init__(self, inner: Any) -> None:
        super().__init__(inner)
        self._own: list[Any] | None = None

    def __getitems__(self, drawn: Drawn) -> Any:
        self._seed(drawn.seed)
        at_once = getattr(self.inner, "__getitems__", None)
        return at_once(drawn.indices) if at_once else [self.inner[index] for index in drawn.indices]

    def __getitem__(self, drawn: Drawn) -> Any:
        self._seed(drawn.seed)
        return self.inner[drawn.indices]

    def _seed(self, seed: int) -> None:
        if self._own is None:
            self._own = generators_in(self.inner)
        torch.default_generator.manual_seed(seed)  # of the CPU alone: torch.manual_seed keeps a list for devices that nobody uses here
        random.seed(seed)
        if "numpy" in sys.modules:
            sys.modules["numpy"].random.seed([seed >> 32, seed % 2**32])  # in the other order python would draw the same
        for place, generator in enumerate(self._own):
            reseed(generator, (seed + place) % 2**63)


class SeededWorker:
    """A `worker_init_fn` that has the user's, and whoever asks for the data set of the worker, find the user's data set."""

    def __init__(self, user: Any) -> None:
        self.user = user

    def __call__(self, worker_id: int) -> None:
        info = get_worker_info()
        if info is not None and isinstance(info.dataset, Seeded):
            object.__setattr__(info, "dataset", info.dataset.inner)  # it is frozen
        if self.user is not None:
            self.user(worker_id)
