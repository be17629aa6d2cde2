"""Where the loaders of a run come from, and how they are made ready: samplers, limits, workers."""

import math
import os
from collections.abc import Iterator
from itertools import islice
from typing import Any

from torch.utils.data import DataLoader, Dataset, IterableDataset

from lx.arguments.limits import num_batches
from lx.data.combined import CombinedLoader, combine, is_collection, length_of
from lx.data.indices import recorded
from lx.data.samplers import distribute, in_sequence, is_distributed, is_shuffled
from lx.data.workers import warn_of_workers
from lx.hooks import DataHooks
from lx.rank_zero import PossibleUserWarning, rank_zero_warn
from lx.rng import SEED_VARIABLE, WORKERS_VARIABLE, worker_init_function


class Source:
    """The loaders of one run, by prefix (`train`, `val`, `test`, `predict`): given as arguments, or asked of data module or module."""

    def __init__(self, module: Any, datamodule: Any, given: dict[str, Any]) -> None:
        self.given = given
        self.owner = datamodule if datamodule is not None else module

    def has(self, prefix: str) -> bool:
        """Whether there are such loaders: passed, or the hook is overridden."""
        if self.given.get(prefix) is not None:
            return True
        hook = f"{prefix}_dataloader"
        return getattr(type(self.owner), hook, None) is not getattr(DataHooks, hook) or hook in vars(self.owner)

    def request(self, prefix: str) -> Any:
        """The loaders; asks the hook if none were passed. Raises `TypeError` for what cannot be iterated."""
        given = self.given.get(prefix)
        if given is not None:
            return given
        loaders = getattr(self.owner, f"{prefix}_dataloader")()
        check_loaders(loaders, prefix, f"what {type(self.owner).__name__}.{prefix}_dataloader() returned")
        return loaders

    def check_given(self) -> None:
        """Raises `TypeError` for loaders that were passed and cannot be iterated, `ValueError` for a wrong mode of a combined one."""
        for prefix, loaders in self.given.items():
            argument = f"{prefix}_dataloaders" if "train" in self.given else "dataloaders"
            if loaders is not None:
                check_loaders(loaders, prefix, argument)


class LoaderSetup:
    """How loaders are made ready in this run: which share of the data, in which order, how many batches."""

    def __init__(self, strategy: Any, use_distributed_sampler: bool, overfits: bool, allow_empty: bool, reloads: bool = False) -> None:
        self.strategy = strategy
        self.reloads = reloads
        self.use_distributed_sampler = use_distributed_sampler
        self.overfits = overfits
        self.allow_empty = allow_empty

    def train(self, loaders: Any) -> Any:
        """The one loader to train on; a collection becomes a `CombinedLoader` that cycles the shorter ones."""
        if isinstance(loaders, CombinedLoader) or is_collection(loaders):
            combined = combine(loaders, "max_size_cycle")
            combined.flattened = [self._ready(loader, "train") for loader in combined.flattened]
            return combined
        return self._ready(loaders, "train")

    def evaluation(self, loaders: Any, prefix: str) -> CombinedLoader:
        """The loaders of an evaluation, one after the other unless the user combined them otherwise."""
        combined = combine(loaders, "sequential")
        combined.flattened = [self._ready(loader, prefix) for loader in combined.flattened]
        return combined

    def _ready(self, loader: Any, prefix: str) -> Any:
        if isinstance(loader, Dataset) and not isinstance(loader, IterableDataset):
            rank_zero_warn(
                f"the {prefix} loader is a data set, so that each of its samples is a batch; wrap it in a DataLoader to have batches of"
                " several.",
                PossibleUserWarning,
            )
        if not isinstance(loader, DataLoader):
            return loader
        if self.overfits and prefix in ("train", "val") and is_shuffled(loader):
            rank_zero_warn(
                f"overfit_batches: the {prefix} loader shuffles; it is iterated in order, so that every epoch sees the same batches."
            )
            loader = in_sequence(loader)
        elif prefix != "train" and is_shuffled(loader):
            rank_zero_warn(f"the {prefix} loader shuffles; an evaluation is easier to compare without.", PossibleUserWarning)
        warn_of_workers(loader, prefix, len(self.strategy.parallel_devices or ()) or 1, self.reloads)
        loader = self._shared(loader, prefix)
        if os.environ.get(WORKERS_VARIABLE, "0") == "1" and loader.worker_init_fn is None:
            loader.worker_init_fn = worker_init_function
        return recorded(loader) if prefix == "predict" else loader

    def _shared(self, loader: DataLoader[Any], prefix: str) -> DataLoader[Any]:
        distributed = self.strategy.capabilities.distributed and self.use_distributed_sampler
        if not distributed or is_distributed(loader) or isinstance(loader.dataset, IterableDataset):
            return loader
        if prefix in ("val", "test") and self.strategy.world_size > 1:
            rank_zero_warn(
                f"the {prefix} data is shared out over {self.strategy.world_size} processes; to make the shares equal, some samples may"
                " count twice.",
                PossibleUserWarning,
            )
        seed = int(os.environ.get(SEED_VARIABLE, "0"))
        return distribute(loader, **self.strategy.distributed_sampler_kwargs, pad=prefix != "predict", seed=seed)

    def count(self, loader: Any, name: str, limit: int | float) -> int | float:
        """How many batches of a loader will be used; raises if only some processes have none."""
        available = length_of(loader)
        if available == 0:
            rank_zero_warn(f"a loader has no batches ({name} limits it).")
        if self.strategy.capabilities.distributed and available != math.inf:
            some = self.strategy.reduce_boolean_decision(available > 0, all=False)
            if some and available == 0 and not self.allow_empty:
                raise RuntimeError(
                    "the loader of this process is empty, and that of another is not, which would wait forever; share out the data evenly,"
                    " or set allow_zero_length_dataloader_with_multiple_devices = True."
                )
        return num_batches(name, limit, available)


def check_loaders(loaders: Any, prefix: str, where: str) -> None:
    """Raises `TypeError` for loaders that cannot be iterated, `ValueError` for a `CombinedLoader` whose mode the stage cannot have.

    `where` says in messages where the loaders came from.
    """
    combined = combine(loaders, "sequential")
    for loader in combined.flattened:
        if isinstance(loader, type):
            raise TypeError(f"{where}: {loader.__name__} is a class; use an object of it, {loader.__name__}(...).")
        if isinstance(loader, str | bytes) or not (hasattr(loader, "__iter__") or hasattr(loader, "__getitem__")):
            raise TypeError(f"{where}: it must be an iterable of batches, such as a DataLoader, or a collection of these, not {loader!r}.")
    if combined is not loaders:
        return
    if prefix == "train" and combined.mode == "sequential":
        raise ValueError("a CombinedLoader to train on cannot have mode='sequential'; use 'min_size', 'max_size' or 'max_size_cycle'.")
    if prefix == "predict" and combined.mode != "sequential":
        raise ValueError(f"predict takes a CombinedLoader with mode='sequential' only, not mode={combined.mode!r}.")


class Batches:
    """The batches of an iterator with their indices, from `start` on and up to `total` (`inf` for all there are).

    `last` is the index of the last batch, once it is known. Of a loader that has a length it is known at once, and nothing is fetched
    ahead; without (`sized=False`), one batch is, to know which is the last: that is in `ahead`.

    >>> batches = Batches(iter("ab"), math.inf, sized=False)
    >>> [(index, batch, index == batches.last) for index, batch in batches]
    [(0, 'a', False), (1, 'b', True)]
    """

    __slots__ = ("_iterator", "_start", "ahead", "last")

    def __init__(self, iterator: Iterator[Any], total: int | float, *, sized: bool = True, start: int = 0) -> None:
        self._iterator = iterator
        self._start = start
        self.ahead: tuple[Any, ...] = ()
        self.last = total - 1
        if sized and total != math.inf:
            # Plain C iterators: this is in the way of every batch.
            self._iterator = islice(iterator, max(int(total) - start, 0))
        else:
            self._iterator = self._ahead(iterator)

    def __iter__(self) -> Iterator[tuple[int, Any]]:
        return enumerate(self._iterator, self._start)

    def _ahead(self, iterator: Iterator[Any]) -> Iterator[Any]:
        nothing = object()
        index, batch = self._start, next(iterator, nothing) if self._start <= self.last else nothing
        while batch is not nothing:
            following = next(iterator, nothing) if index < self.last else nothing
            if following is nothing:
                self.last = index
            self.ahead = () if following is nothing else (following,)
            yield batch
            index, batch = index + 1, following
