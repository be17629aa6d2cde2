"""Shares of a data set for each process: the user's sampler is wrapped, and nobody's `__init__` is called again by guesswork."""

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader, DistributedSampler, IterableDataset, RandomSampler, Sampler, SequentialSampler

from lx.kernel.errors import MisconfigurationException


class ShareSampler(Sampler[Any]):
    """The share of one rank in what another sampler yields.

    With `pad`, the shares are made equally long by repeating the first items, since in training every rank must take
    as many steps; without, every item comes once over all ranks, as predictions need it. A random sampler draws on every rank from a
    generator seeded by seed and epoch, so that all ranks draw the same order.

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
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed + self.epoch)
            items = list(self.sampler)
        if self.pad and items:
            missing = math.ceil(len(items) / self.num_replicas) * self.num_replicas - len(items)
            items += (items * math.ceil(missing / len(items)))[:missing]
        return iter(items[self.rank :: self.num_replicas])


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
    inner = getattr(batch_sampler, "sampler", None)
    if inner is None:
        raise MisconfigurationException(
            f"the batch sampler {type(batch_sampler).__name__} has no attribute `sampler` whose items could be shared out; give it one, "
            "or share out the data yourself and pass use_distributed_sampler=False."
        )
    return clone(loader, batch_sampler=_drawing_from(ShareSampler(inner, num_replicas, rank, pad=pad, seed=seed), batch_sampler))


def _drawing_from(sampler: Any, batch_sampler: Any) -> Any:
    """The same batch sampler over another sampler; its `__init__`, whose arguments nobody knows, is not called again."""
    copy = object.__new__(type(batch_sampler))
    copy.__dict__.update({**vars(batch_sampler), "sampler": sampler})
    return copy


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
    copy: DataLoader[Any] = object.__new__(type(loader))
    copy.__dict__.update(vars(loader))
    copy.__dict__["_iterator"] = None  # workers belong to the loader that started them
    sampler = replaced.get("sampler")
    if "batch_sampler" in replaced:
        copy.__dict__["batch_sampler"] = replaced["batch_sampler"]
        sampler = getattr(replaced["batch_sampler"], "sampler", loader.sampler)
    copy.__dict__["sampler"] = sampler
    return copy


def set_epoch(loader: Any, epoch: int) -> None:
    """Tells the samplers of a loader the epoch, from which distributed ones derive their order."""
    for sampler in (
        getattr(loader, "sampler", None),
        getattr(loader, "batch_sampler", None),
        getattr(getattr(loader, "batch_sampler", None), "sampler", None),
    ):
        if sampler is not None and callable(getattr(sampler, "set_epoch", None)):
            sampler.set_epoch(epoch)
