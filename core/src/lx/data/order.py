"""The order of a pass over a loader: drawn by its sampler, begun in its midst if need be, and told to whoever asks."""

from collections import deque
from collections.abc import Callable, Iterator
from itertools import chain, count, islice
from typing import Any
from zlib import crc32

from torch.utils.data import (
    BatchSampler,
    DistributedSampler,
    RandomSampler,
    SequentialSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
)

from lx.data.samplers import ShareSampler
from lx.data.seeded import Drawn
from lx.data.stand_in import StandIn

STEP = 0x9E3779B97F4A7C15
"""2**64 over the golden ratio, made odd: its multiples spread evenly (Steele, Lea and Flood 2014, doi:10.1145/2660193.2660195)."""


DRAW_AT_ONCE = (DistributedSampler, RandomSampler, SequentialSampler, ShareSampler, SubsetRandomSampler, WeightedRandomSampler)
"""Samplers whose order follows from what they draw when they are first asked. Another one may draw between batches, as training does."""


def nothing() -> None:
    """What there is to do where nothing is to be put back."""


class Order(StandIn):
    """In the place of a sampler, or of a batch sampler, one whose pass can begin in its midst; in all else it is the one within.

    For workers it says what each batch is drawn from, too. `draws` is called right before the sampler is asked for the first time.
    """

    def __init__(self, inner: Any, works: bool) -> None:
        super().__init__(inner)
        self.works = works
        self.seed = 0
        self.draws: Callable[[], Any] = nothing
        self.kept: deque[list[Any]] | None = None
        """The indices of the batches to come, the next one first, if somebody wants them; with workers these are ahead."""
        self._skip: int | None = None
        self._source: Iterator[Any] = iter(())
        sampler = inner.sampler if type(inner) is BatchSampler else inner
        self.digests: list[int] | None = None if type(sampler) in DRAW_AT_ONCE else [0]
        """A number that stands for the first n batches, for each n, of a sampler whose order may not come again; else None."""

    def __iter__(self) -> Iterator[Any]:
        self._source = iter(self.inner)
        if self.digests is not None:
            self.digests = [0]
        if self.works:
            return self._numbered()
        return self._in_order() if self._skip is None else self._later()

    def begin_at(self, skip: int) -> None:
        """Has the next pass begin after so many batches."""
        self._skip = skip

    def draw(self) -> None:
        """In a pass that begins in its midst, draws the order, and passes over the batches before; once, and nothing in any other."""
        if self._skip is None:
            return
        if self.digests is not None:
            deque(islice(self._keeping(None, self.digests), self._skip), maxlen=0)
        elif type(self.inner) is BatchSampler:  # samples are passed over in a tenth of the time that batches of them take
            samples = iter(self.inner.sampler)
            deque(islice(samples, self._skip * self.inner.batch_size), maxlen=0)
            self._source = iter(BatchSampler(samples, self.inner.batch_size, self.inner.drop_last))
        else:
            deque(islice(self._source, self._skip), maxlen=0)
        self._skip = None
        first = list(islice(self._source, 1))  # most samplers draw when they are asked for the first time
        self._source = chain(first, self._source)

    def _told(self) -> Iterator[Any]:
        if self.kept is not None:
            self.kept.clear()
        return self._source if self.kept is None and self.digests is None else self._keeping(self.kept, self.digests)

    def _keeping(self, kept: "deque[list[Any]] | None", digests: list[int] | None) -> Iterator[Any]:
        for indices in self._source:
            if kept is not None:
                kept.append(list(indices) if isinstance(indices, list | tuple) else [indices])
            if digests is not None:
                digests.append(crc32(repr(indices).encode(), digests[-1]))
            yield indices

    def _in_order(self) -> Iterator[Any]:
        self.draws()
        yield from self._told()

    def _later(self) -> Iterator[Any]:
        self.draw()
        yield from self._told()

    def _numbered(self) -> Iterator[Drawn]:
        first = self._skip or 0
        self.draws()
        self.draw()
        for number, indices in zip(count(first), self._told()):
            yield Drawn((self.seed + number * STEP) % 2**64, indices)
