"""Shares of a data set for each process: the user's sampler is wrapped, and nobody's `__init__` is called again by guesswork."""

import copy
import math
from collections.abc import Iterator
from itertools import islice
from typing import Any, NoReturn

import torch
from torch.utils.data import BatchSampler, DataLoader, DistributedSampler, IterableDataset, RandomSampler, Sampler, SequentialSampler

from lx.kernel.errors import MisconfigurationException

DRAWN_AT_ONCE = 64
"""So many items for each rank are drawn together from a sampler without a length."""


class ShareSampler(Sampler[Any]):
    """The share of one rank in what another sampler yields.

    With `pad`, the shares are made equally long by repeating the first items, since in training every rank must take
    as many steps; without, every item comes once over all ranks, as predictions need it. A random sampler draws on every rank from a
    generator seeded by seed and epoch, so that all ranks draw the same order. Of a sampler without a length, which may be endless, items
    are drawn as they are needed.

    >>> [list(ShareSampler(range(5), num_replicas=2, rank=rank)) for rank in (0, 1)]
    [[0, 2, 4], [1, 3, 0]]
    >>> [list(ShareSampler(range(5), num_replicas=2, rank=rank, pad=False)) for rank in (0, 1)]
    [[0, 2, 4], [1, 3]]
    """

    def __init__(self, sampler: Any, num_replicas: int, rank: int, *, pad: bool = True, seed: int = 0) -> None:
        self.sampler = sampler
        self.num_replicas = num_replicas
        self.rank = rank
        self.pad = pad
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Sets the epoch, from which the order of a random sampler follows."""
        self.epoch = epoch
        if callable(getattr(self.sampler, "set_epoch", None)):
            self.sampler.set_epoch(epoch)

    def __len__(self) -> int:
        total = len(self.sampler)
        return math.ceil(total / self.num_replicas) if self.pad else len(range(self.rank, total, self.num_replicas))

    def __iter__(self) -> Iterator[Any]:
        if not hasattr(self.sampler, "__len__"):
            return self._as_needed()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed + self.epoch)
            items = list(self.sampler)
        if self.pad and items:
            missing = math.ceil(len(items) / self.num_replicas) * self.num_replicas - len(items)
            items += (items * math.ceil(missing / len(items)))[:missing]
        return iter(items[self.rank :: self.num_replicas])

    def _as_needed(self) -> Iterator[Any]:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed + self.epoch)
            states, source = torch.get_rng_state(), iter(self.sampler)
        first: list[Any] = []
        while True:
            with torch.random.fork_rng(devices=[]):  # what the sampler draws is drawn alike on every rank, whatever they draw in between
                torch.set_rng_state(states)
                items = list(islice(source, DRAWN_AT_ONCE * self.num_replicas))
                states = torch.get_rng_state()
            first = first or items[: self.num_replicas]
            missing = -len(items) % self.num_replicas if self.pad else 0
            items += [first[place % len(first)] for place in range(missing)]
            if not items:
                return
            yield from items[self.rank :: self.num_replicas]


def distribute(loader: DataLoader[Any], num_replicas: int, rank: int, *, pad: bool = True, seed: int = 0) -> DataLoader[Any]:
    """The loader with its sampler cut to the share of one rank; iterable data sets and distributed samplers stay as they are.

    Raises `MisconfigurationException` for a batch sampler of one's own that holds no `sampler` to be wrapped.
    """
    if isinstance(loader.dataset, IterableDataset) or is_distributed(loader) or num_replicas == 1:
        return loader
    batch_sampler = loader.batch_sampler
    if batch_sampler is None:
        share: Any = ShareSampler(loader.sampler, num_replicas, rank, pad=pad, seed=seed)
        return clone(loader, sampler=share)
    share = ShareSampler(_sampler_of(batch_sampler), num_replicas, rank, pad=pad, seed=seed)
    return clone(loader, batch_sampler=_sharing(batch_sampler, share))


class _AskedError(Exception):
    """Raised by `_Probe`, to say that it was asked."""


class _Probe:
    """In the place of a sampler, tells whether a batch sampler draws from it."""

    def __iter__(self) -> NoReturn:
        raise _AskedError

    __len__ = __iter__


def _sampler_of(batch_sampler: Any) -> Any:
    """The sampler that a batch sampler draws from; raises `MisconfigurationException` for one that holds none, or does not use it."""
    inner, name = getattr(batch_sampler, "sampler", None), type(batch_sampler).__name__
    cure = "or share out the data yourself and pass use_distributed_sampler=False."
    if inner is None:
        raise MisconfigurationException(
            f"the batch sampler {name} has no attribute `sampler` whose items could be shared out; give it one, {cure}"
        )
    if type(batch_sampler).__iter__ is not BatchSampler.__iter__:
        try:
            next(iter(_drawing_from(_Probe(), batch_sampler)), None)
        except _AskedError:
            return inner
        raise MisconfigurationException(
            f"the batch sampler {name} makes its batches without a look at its attribute `sampler`, perhaps in __init__, so that every"
            f" process would get all of them; draw from self.sampler in __iter__, {cure}"
        )
    return inner


def _sharing(batch_sampler: Any, share: ShareSampler) -> Any:
    """The batch sampler over a share; raises `MisconfigurationException` if its length stays that of all data."""
    ready = _drawing_from(share, batch_sampler)
    if type(batch_sampler).__len__ is BatchSampler.__len__ or not hasattr(share.sampler, "__len__"):
        return ready
    try:
        claimed = len(_drawing_from(_Probe(), batch_sampler))
    except _AskedError:
        return ready
    with torch.random.fork_rng(devices=[]):
        found = sum(1 for _ in islice(ready, claimed))
    if found < claimed:
        raise MisconfigurationException(
            f"the batch sampler {type(batch_sampler).__name__} says that it has {claimed} batches, and has {found} of the share of this"
            " process; compute the length in __len__ from len(self.sampler), or share out the data yourself and pass"
            " use_distributed_sampler=False."
        )
    return ready


def _drawing_from(sampler: Any, batch_sampler: Any) -> Any:
    """The same batch sampler over another sampler; its `__init__`, whose arguments nobody knows, is not called again."""
    other = copy.copy(batch_sampler)
    try:
        other.sampler = sampler
    except AttributeError as error:
        raise MisconfigurationException(
            f"the attribute `sampler` of the batch sampler {type(batch_sampler).__name__} cannot be set, so that its data cannot be shared"
            " out; let it be set, or share out the data yourself and pass use_distributed_sampler=False."
        ) from error
    return other


def is_distributed(loader: Any) -> bool:
    """Whether the loader's sampler yields one rank's share already."""
    samplers = (getattr(loader, "sampler", None), getattr(getattr(loader, "batch_sampler", None), "sampler", None))
    return any(isinstance(sampler, DistributedSampler | ShareSampler) for sampler in samplers)


def is_shuffled(loader: Any) -> bool:
    """Whether a loader draws its samples in random order."""
    sampler = getattr(getattr(loader, "batch_sampler", None), "sampler", None) or getattr(loader, "sampler", None)
    return isinstance(getattr(sampler, "sampler", sampler), RandomSampler)


def in_sequence(loader: DataLoader[Any]) -> DataLoader[Any]:
    """The same loader without shuffling."""
    sampler = SequentialSampler(loader.dataset)  # type: ignore[arg-type]
    if loader.batch_sampler is None:
        return clone(loader, sampler=sampler)
    return clone(loader, batch_sampler=_drawing_from(sampler, loader.batch_sampler))


def clone(loader: DataLoader[Any], **replaced: Any) -> DataLoader[Any]:
    """The same loader, of the same class and with all that was set on it, but for its sampler; `__init__` is not called again."""
    other: DataLoader[Any] = object.__new__(type(loader))
    other.__dict__.update(vars(loader))
    other.__dict__["_iterator"] = None  # workers belong to the loader that started them
    sampler = replaced.get("sampler")
    if "batch_sampler" in replaced:
        other.__dict__["batch_sampler"] = replaced["batch_sampler"]
        sampler = getattr(replaced["batch_sampler"], "sampler", loader.sampler)
    other.__dict__["sampler"] = sampler
    return other


def set_epoch(loader: Any, epoch: int) -> None:
    """Tells the samplers of a loader the epoch, from which distributed ones derive their order."""
    for sampler in (
        getattr(loader, "sampler", None),
        getattr(loader, "batch_sampler", None),
        getattr(getattr(loader, "batch_sampler", None), "sampler", None),
    ):
        if sampler is not None and callable(getattr(sampler, "set_epoch", None)):
            sampler.set_epoch(epoch)
