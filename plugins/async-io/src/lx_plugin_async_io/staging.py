"""Memory into which the tensors of checkpoints are copied, and the copying."""

import contextlib
import mmap
import threading
from collections.abc import Iterator

import torch

THREADS = 4
"""One core does not use up what memory can carry."""
PIECE = 1 << 24
WORTH_THREADS = 1 << 26
"""From so many bytes on, threads gain more than it takes to start them."""


class Staging:
    """Memory that is kept from one checkpoint to the next: to have new memory mapped, page by page, takes as long as to copy into it."""

    def __init__(self) -> None:
        self._free: list[mmap.mmap] = []
        self._in_use = False

    def reserve(self, size: int) -> None:
        """Maps memory for the first checkpoint ahead, if that has not come meanwhile; from any thread."""
        memory = _map(size)
        torch.frombuffer(memory, dtype=torch.uint8)[:: mmap.PAGESIZE].zero_()  # touches each page
        if not self._in_use:
            self._free.append(memory)

    def take(self, size: int) -> mmap.mmap:
        """Memory of at least so many bytes, to be given back."""
        self._in_use = True
        for memory in self._free:
            if len(memory) >= size:
                self._free.remove(memory)
                return memory
        self._free.clear()  # what has become too small
        return _map(size)

    def give_back(self, memory: mmap.mmap) -> None:
        """Lets the next checkpoint overwrite it."""
        self._free.append(memory)

    def release(self) -> None:
        """Lets go of what is not in use."""
        self._free.clear()
        self._in_use = False


def _map(size: int) -> mmap.mmap:
    if not hasattr(mmap, "MAP_PRIVATE"):
        return mmap.mmap(-1, max(size, 1))
    memory = mmap.mmap(-1, max(size, 1), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with contextlib.suppress(OSError):  # a kernel without them
            memory.madvise(mmap.MADV_HUGEPAGE)
    return memory


def copy_all(pairs: list[tuple[torch.Tensor, torch.Tensor]]) -> None:
    """Copies bytes, of pairs of a target on the CPU and a source of the same length; large ones in pieces, on several threads."""
    here = [pair for pair in pairs if pair[1].device.type == "cpu"]
    for target, source in pairs:
        if source.device.type != "cpu":  # in this thread, whose stream has made the values
            target.copy_(source)
    pieces = iter([piece for pair in here for piece in _cut(*pair)])
    failures: list[BaseException] = []

    def copy() -> None:
        try:
            for target, source in pieces:
                target.copy_(source)
        except BaseException as error:
            failures.append(error)

    large = sum(len(target) for target, _ in here) >= WORTH_THREADS
    others = [threading.Thread(target=copy, daemon=True) for _ in range(THREADS - 1 if large else 0)]
    for thread in others:
        thread.start()
    copy()
    for thread in others:
        thread.join()
    if failures:
        raise failures[0]


def _cut(target: torch.Tensor, source: torch.Tensor) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    for start in range(0, len(target), PIECE):
        yield target[start : start + PIECE], source[start : start + PIECE]
