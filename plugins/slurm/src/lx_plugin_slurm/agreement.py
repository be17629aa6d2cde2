"""How the processes of a run agree on the step after which they end together.

SLURM sends its signal to all of them, not at one moment. Who ends at once leaves the others in a collective, waiting for it, and who asks
the others in a collective of its own mixes that up with theirs. So they tell each other beside the collectives, and go on training
meanwhile. Nothing is said before a signal comes, so that steps cost nothing.
"""

from datetime import timedelta
from typing import Any, Protocol

from torch.distributed import PrefixStore, TCPStore  # type: ignore[attr-defined]

from lx.interfaces import Strategy

_MEETING_TIMEOUT = timedelta(minutes=5)


class Counters(Protocol):
    """What all processes see, such as a store of torch."""

    def add(self, key: str, amount: int) -> int:
        """Adds to a counter, which begins with 0, and returns its value."""


class Agreement:
    """One process's part of it; `reached` is asked at each boundary once the signal has come to this process.

    Each counts itself. When rank 0 sees that the signal has come to all, it names the next step as the last. The others cannot take that
    step without it, since they average its gradients with its own, and so they know before they are through: all end after the same one.
    """

    def __init__(self, counters: Counters, rank: int, world_size: int) -> None:
        self._counters = counters
        self._rank, self._world_size = rank, world_size
        self._counted = False
        self._last = 0

    def reached(self, step: int) -> bool:
        """Whether the run ends here, after the step of this number (from 1); does not wait."""
        if not self._counted:
            self._counted = True
            self._counters.add("heard", 1)
        if not self._last:
            if self._rank == 0 and self._counters.add("heard", 0) == self._world_size:
                self._counters.add("last", step + 1)  # all see it when this returns
            self._last = self._counters.add("last", 0)
        return 0 < self._last <= step


_meetings: dict[tuple[str, int], tuple[Any, int]] = {}
"""The store of each address and world size, and how many runs have used it; kept, since a program may fit many times."""


def meet(strategy: Strategy, address: str) -> Counters:
    """Counters for one run, which live on rank 0; called on every rank."""
    place = (address, strategy.world_size)
    if place not in _meetings:
        _meetings[place] = (_connect(strategy, address), 0)
    store, uses = _meetings[place]
    _meetings[place] = (store, uses + 1)
    return PrefixStore(f"requeue/{uses}", store)


def _connect(strategy: Strategy, address: str) -> Any:
    """A store on a port that is free on rank 0, which it tells the others."""
    store = None
    if strategy.global_rank == 0:
        store = TCPStore(address, 0, is_master=True, wait_for_workers=False, timeout=_MEETING_TIMEOUT)
    port = strategy.broadcast(store.port if store is not None else 0)
    return store or TCPStore(address, port, is_master=False, timeout=_MEETING_TIMEOUT)
