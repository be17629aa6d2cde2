"""Several loaders iterated as one."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from torch.utils.data import IterableDataset

from lx.data.samplers import set_epoch

MODES = ("min_size", "max_size_cycle", "max_size", "sequential")


class CombinedLoader:
    """Iterates a collection of loaders (any nesting of lists, tuples and mappings) together, or one after the other.

    A loader is any iterable; within the collection a list of batches is one, too.

    Yields `(batch, batch_idx, dataloader_idx)`. `"min_size"` ends with the shortest, `"max_size_cycle"` starts exhausted ones again
    until the longest ends, `"max_size"` gives None for exhausted ones, and in these three `batch` has the shape of the collection;
    `"sequential"` goes through one after the other. Raises `ValueError` for another mode.

    >>> list(CombinedLoader({"a": [1, 2, 3], "b": [4, 5]}, "max_size"))
    [({'a': 1, 'b': 4}, 0, 0), ({'a': 2, 'b': 5}, 1, 0), ({'a': 3, 'b': None}, 2, 0)]
    """

    def __init__(self, iterables: Any, mode: str = "min_size") -> None:
        if mode not in MODES:
            raise ValueError(f"CombinedLoader: mode={mode!r}; it must be one of {', '.join(MODES)}.")
        self.mode = mode
        self.iterables = iterables
        self._limits: list[int | float] | None = None

    @property
    def flattened(self) -> list[Any]:
        """The loaders as a flat list; assign a list of the same length to replace them."""
        return list(_leaves(self.iterables))

    @flattened.setter
    def flattened(self, loaders: Sequence[Any]) -> None:
        if len(loaders) != len(self.flattened):
            raise ValueError(f"CombinedLoader: {len(loaders)} loaders cannot replace {len(self.flattened)}.")
        self.iterables = _rebuild(self.iterables, iter(loaders))

    @property
    def limits(self) -> list[int | float] | None:
        """The number of batches taken from each loader at the most, in `"max_size_cycle"` before it starts again."""
        return self._limits

    @limits.setter
    def limits(self, limits: int | float | Sequence[int | float] | None) -> None:
        if isinstance(limits, int | float):
            limits = [limits] * len(self.flattened)
        if limits is not None and len(limits) != len(self.flattened):
            raise ValueError(f"CombinedLoader: {len(limits)} limits for {len(self.flattened)} loaders.")
        self._limits = None if limits is None else list(limits)

    @property
    def sampler(self) -> Any:
        """The samplers, in the shape of the collection."""
        return _rebuild(self.iterables, iter([getattr(loader, "sampler", None) for loader in self.flattened]))

    @property
    def batch_sampler(self) -> Any:
        """The batch samplers, in the shape of the collection."""
        return _rebuild(self.iterables, iter([getattr(loader, "batch_sampler", None) for loader in self.flattened]))

    def lengths(self) -> list[int | float]:
        """The number of batches of each loader under the limits; `inf` where it has no length."""
        return [min(length_of(loader), limit) for loader, limit in self._limited()]

    def __len__(self) -> int:
        lengths = self.lengths() or [0]
        total = sum(lengths) if self.mode == "sequential" else min(lengths) if self.mode == "min_size" else max(lengths)
        if total == math.inf:
            raise TypeError("a loader in this CombinedLoader has no length, and so the whole has none.")
        return int(total)

    def __iter__(self) -> Iterator[tuple[Any, int, int]]:
        if self.mode == "sequential":
            return self._one_after_the_other()
        return self._together()

    def _limited(self) -> list[tuple[Any, int | float]]:
        """Each loader with its limit."""
        loaders = self.flattened
        return list(zip(loaders, self._limits or [math.inf] * len(loaders), strict=True))

    def _one_after_the_other(self) -> Iterator[tuple[Any, int, int]]:
        for dataloader_idx, (loader, limit) in enumerate(self._limited()):
            for batch_idx, batch in enumerate(_first(loader, limit)):
                yield batch, batch_idx, dataloader_idx

    def _together(self) -> Iterator[tuple[Any, int, int]]:
        limited = self._limited()
        return self._rows([_first(loader, limit) for loader, limit in limited], [False] * len(limited))

    def taken(self, rows: int) -> list[int]:
        """How many batches of each loader's pass are taken when so many came of the whole; not where one comes after the other."""
        if self.mode != "max_size_cycle":
            return [int(min(rows, length)) for length in self.lengths()]
        # After its last batch a loader starts again when it is asked for one more.
        return [int((rows - 1) % length) + 1 if 0 < length < rows else rows for length in self.lengths()]

    def gone_on_with(self, iterators: list[Iterator[Any]], rows: int) -> Iterator[tuple[Any, int, int]]:
        """What comes after so many batches of the whole, of passes over the loaders that stand at what `taken` says."""
        parts = zip(iterators, self._limited(), self.taken(rows), strict=True)
        left = [batches if limit == math.inf else islice(batches, max(int(limit) - gone, 0)) for batches, (_, limit), gone in parts]
        return self._rows(left, [rows > length for length in self.lengths()])

    def _rows(self, iterators: list[Iterator[Any]], exhausted: list[bool]) -> Iterator[tuple[Any, int, int]]:
        limited = self._limited()
        batch_idx = 0
        while limited:
            row = []
            for place, (loader, limit) in enumerate(limited):
                batch = next(iterators[place], _NOTHING)
                if batch is _NOTHING:
                    exhausted[place] = True
                    if self.mode == "min_size" or all(exhausted):
                        return
                    if self.mode == "max_size_cycle":
                        iterators[place] = _first(loader, limit)
                    batch = next(iterators[place], None)
                row.append(batch)
            yield _rebuild(self.iterables, iter(row)), batch_idx, 0
            batch_idx += 1

    def reset(self) -> None:
        """Ends the workers of all loaders."""
        for loader in self.flattened:
            if hasattr(loader, "_iterator"):  # torch keeps persistent workers behind this name, and offers no other way to end them
                loader.__dict__["_iterator"] = None

    def state_dict(self) -> list[Any]:
        """The states of those loaders that have one, or whose data set has, in order."""
        return [keeper.state_dict() for keeper in map(_keeper, self.flattened) if keeper is not None]

    def load_state_dict(self, states: Sequence[Any]) -> None:
        """Takes up what `state_dict` gave; raises `RuntimeError` if the number of loaders with a state differs."""
        keepers = [keeper for keeper in map(_keeper, self.flattened) if keeper is not None]
        if len(keepers) != len(states):
            raise RuntimeError(f"the checkpoint holds the states of {len(states)} loaders, and {len(keepers)} loaders here have one.")
        for keeper, state in zip(keepers, states, strict=True):
            keeper.load_state_dict(state)


def as_combined(loader: Any) -> CombinedLoader:
    """A combined loader itself, or any other loader as the only one of a combination."""
    return loader if isinstance(loader, CombinedLoader) else CombinedLoader([loader])


def _keeper(loader: Any) -> Any:
    """What keeps the state of a loader: itself, or the iterable data set that it reads in this process; None where neither does."""
    dataset = getattr(loader, "dataset", None)
    reads_here = isinstance(dataset, IterableDataset) and not getattr(loader, "num_workers", 0)
    for one in (loader, dataset) if reads_here else (loader,):
        if callable(getattr(one, "state_dict", None)) and callable(getattr(one, "load_state_dict", None)):
            return one
    return None


_NOTHING = object()


def _first(loader: Any, limit: int | float) -> Iterator[Any]:
    """The first batches of a loader; of none, its workers are not even started."""
    if limit <= 0:
        return iter(())
    return iter(loader) if limit == math.inf else islice(loader, int(limit))


def combine(loaders: Any, mode: str) -> CombinedLoader:
    """What was given for loaders, one or several, as one that combines them; a list of batches counts as one loader.

    >>> combine([(1.0, 2.0), (3.0, 4.0)], "sequential").flattened, combine([range(3), range(2)], "sequential").flattened
    ([[(1.0, 2.0), (3.0, 4.0)]], [range(0, 3), range(0, 2)])
    """
    if isinstance(loaders, CombinedLoader):
        return loaders
    single = _is_plain_sequence(loaders) and not is_collection(loaders)
    return CombinedLoader([loaders] if single else loaders, mode)


def is_collection(value: Any) -> bool:
    """Whether a value holds loaders and is none itself; a list of batches is a loader.

    >>> is_collection([range(3), range(2)]), is_collection([(1.0, 2.0), (3.0, 4.0)])
    (True, False)
    """
    if isinstance(value, Mapping):
        return True
    return _is_plain_sequence(value) and (not _holds_data(value) or any(map(_is_loader, value)))


def _is_plain_sequence(value: Any) -> bool:
    """Whether a value is a list or a tuple, named or not, and nothing more: a data set or a loader may be a subclass of list."""
    return type(value) in (list, tuple) or (isinstance(value, tuple) and hasattr(value, "_fields"))


def _holds_data(value: Any) -> bool:
    """Whether the first leaf of a nesting is a tensor, an array, a number or a text, none of which is a loader."""
    while isinstance(value, Mapping) or _is_plain_sequence(value):
        value = next(iter(value.values() if isinstance(value, Mapping) else value), None)
    return _is_data(value)


def _is_data(value: Any) -> bool:
    return isinstance(value, int | float | complex | str | bytes) or hasattr(value, "dtype")


def _is_loader(value: Any) -> bool:
    """Whether a value is a loader beyond doubt: it can be gone through, and is neither data nor a nesting that may hold some."""
    return hasattr(value, "__iter__") and not (isinstance(value, Mapping) or _is_plain_sequence(value) or _is_data(value))


def length_of(loader: Any) -> int | float:
    """The number of batches of a loader, `inf` where it has no length.

    >>> length_of([1, 2]), length_of(iter([]))
    (2, inf)
    """
    try:
        return len(loader)
    except (TypeError, NotImplementedError):
        return math.inf


def _leaves(value: Any, outermost: bool = True) -> Iterable[Any]:
    """The loaders in a collection; the outermost list is one whatever it holds, since whoever combines loaders says so."""
    if not (is_collection(value) or (outermost and _is_plain_sequence(value))):
        yield value
    else:
        for item in value.values() if isinstance(value, Mapping) else value:
            yield from _leaves(item, False)


def _rebuild(shape: Any, leaves: Iterator[Any], outermost: bool = True) -> Any:
    if not (is_collection(shape) or (outermost and _is_plain_sequence(shape))):
        return next(leaves)
    if isinstance(shape, Mapping):
        return {key: _rebuild(item, leaves, False) for key, item in shape.items()}
    rebuilt = [_rebuild(item, leaves, False) for item in shape]
    return type(shape)(*rebuilt) if hasattr(shape, "_fields") else type(shape)(rebuilt)


def set_epochs(loader: Any, epoch: int) -> None:
    """Tells the samplers of a loader, or of all loaders in a combined one, the epoch."""
    for one in loader.flattened if isinstance(loader, CombinedLoader) else [loader]:
        set_epoch(one, epoch)
