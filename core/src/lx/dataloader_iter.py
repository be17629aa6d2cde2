"""Steps that fetch their batches themselves: `training_step(self, dataloader_iter)`."""

import inspect
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

ITERATOR = "dataloader_iter"
"""The name of the parameter by which a step asks for the iterator."""


class DataLoaderIter:
    """What a step with the parameter `dataloader_iter` is handed in the place of a batch, and hooks of batches, too.

    `next(dataloader_iter)` gives `(batch, batch_idx, dataloader_idx)`, on the host and past the transfer hooks; `batch` is the one that was
    given last. A step may take several. A step that comes to the end of the loader before it has all that it wants counts for nothing.

    >>> batches = DataLoaderIter(iter("ab"))
    >>> [next(step) for step in batches.once_a_step()]
    [('a', 0, 0), ('b', 1, 0)]
    """

    def __init__(self, batches: Iterator[Any], dataloader_idx: int = 0) -> None:
        self.batch: Any = None
        self._batches = batches
        self._dataloader_idx = dataloader_idx
        self._fetched = 0
        self._waiting: deque[Any] = deque()

    def __iter__(self) -> Iterator[tuple[Any, int, int]]:
        return self

    def __next__(self) -> tuple[Any, int, int]:
        if not self._waiting and not self._fetch():
            raise StopIteration
        self.batch = self._waiting.popleft()
        return self.batch, self._fetched - len(self._waiting) - 1, self._dataloader_idx

    def once_a_step(self) -> Iterator["DataLoaderIter"]:
        """Gives itself as long as there is a batch left, which is fetched to know that."""
        steps = 0
        # A batch for each step, since whoever looks ahead for the last step asks for the next one before this one has taken its batch.
        while (self._waiting and self._fetched > steps) or self._fetch():
            if self._fetched > steps:
                steps += 1
                yield self

    def _fetch(self) -> bool:
        batch = next(self._batches, _NOTHING)
        if batch is _NOTHING:
            return False
        self._waiting.append(batch)
        self._fetched += 1
        return True


_NOTHING = object()


def takes_iterator(step: Callable[..., Any]) -> bool:
    """Whether a step fetches its batches itself.

    >>> takes_iterator(lambda dataloader_iter: None), takes_iterator(lambda batch, batch_idx: None)
    (True, False)
    """
    return ITERATOR in inspect.signature(step).parameters


def handed_to(step: Callable[..., Any], batches: Iterator[Any], dataloader_idx: int = 0) -> Iterator[Any]:
    """What a loop hands to a step one by one: the batches, or, to a step that fetches itself, the iterator once for each step."""
    return DataLoaderIter(batches, dataloader_idx).once_a_step() if takes_iterator(step) else batches


def until_the_end(step: Callable[..., Any]) -> Callable[..., Any]:
    """A step that returns None where the loader ends within it."""

    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            return step(*args, **kwargs)
        except StopIteration:
            return None

    return call
