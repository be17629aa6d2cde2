"""How many samples training has seen: read off the loader where it says, and else off its batches."""

from array import array
from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, IterableDataset

from lx.logging.batch_size import first_size


class SamplesSeen:
    """Counts samples over all epochs and processes, as far as `processed()`, the batches of this epoch that were trained on.

    A `DataLoader` over a data set with a length says by itself how many samples its first batches hold, and then nothing is done per
    batch. Of any other loader the batches are looked at when they are fetched.

    >>> seen = SamplesSeen(lambda: 3)
    >>> seen.begin(DataLoader(range(5), batch_size=2), processes=1)
    >>> seen.total
    5
    """

    def __init__(self, processed: Callable[[], int]) -> None:
        self.before = 0
        self._processed = processed
        self._start = self._first = 0
        self._processes = 1
        self._count: Callable[[int], int] | None = None

    @property
    def total(self) -> int:
        """The samples of all batches trained on so far."""
        return self.before + self._of_epoch()

    def begin(self, loader: Any, *, processes: int, start: int = 0, held: int = 0) -> None:
        """Begins with the batches of a loader; the first `start` of them were counted in an earlier run, and `held` of these come again."""
        self._start, self._first, self._processes, self._count = start, start - held, processes, counting(loader)

    def end(self) -> None:
        """Adds the epoch that is over to what came before."""
        self.before, self._count = self.total, None

    def restore(self, total: int) -> None:
        """Goes on from the total of an earlier run."""
        self.before, self._count = total, None

    def fetched(self, batches: Iterator[Any]) -> Iterator[Any]:
        """The iterator itself, or, where the loader does not tell, one that looks at each batch."""
        if self._count is not None:
            return batches
        sums = array("q", [0])
        first = self._first

        def told(processed: int) -> int:
            return sums[min(max(processed - first, 0), len(sums) - 1)]  # batches that are fetched ahead do not count yet

        self._count = told
        return looked_at(batches, sums)

    def _of_epoch(self) -> int:
        if self._count is None:
            return 0
        return (self._count(self._processed()) - self._count(self._start)) * self._processes


def looked_at(batches: Iterator[Any], sums: "array[int]") -> Iterator[Any]:
    """The batches, while `sums` grows by how many samples there were up to each."""
    total = sums[-1]
    for batch in batches:
        kind = type(batch)
        first = batch[0] if (kind is tuple or kind is list) and batch else batch
        total += first.size(0) if type(first) is Tensor and first.ndim else first_size(batch)
        sums.append(total)
        yield batch


def counting(loader: Any) -> Callable[[int], int] | None:
    """How many samples the first batches of a loader hold, as a function of their number; None where only the batches tell.

    >>> counting(DataLoader(range(5), batch_size=2))(3), counting([1, 2])
    (5, None)
    """
    if not isinstance(loader, DataLoader) or loader.batch_size is None or type(loader.batch_sampler) is not BatchSampler:
        return None
    if isinstance(loader.dataset, IterableDataset):  # each worker may end with a batch that is not full
        return None
    size, sampler = loader.batch_size, loader.sampler
    try:
        length = len(sampler)  # type: ignore[arg-type]
    except TypeError:
        return None
    return lambda batches: min(batches * size, length)
