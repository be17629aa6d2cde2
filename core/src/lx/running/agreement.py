"""How the processes of a fit agree on the step after which a signal ends them all.

A signal comes to them one after the other, or to one alone. Who ends at once leaves the others in a collective, waiting for it, and who
asks the others in a collective of its own mixes that up with theirs. So they tell each other beside the collectives, and go on training
meanwhile. Before a signal comes a thread of each waits for word of one, in native code, so that steps cost nothing.
"""

import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any

import torch.distributed as dist

_MEETING_TIMEOUT = timedelta(minutes=5)
_PATIENCE = timedelta(days=20)
"""How long a thread waits for word, after which a signal must come to its process itself; torch counts milliseconds in 32 bits."""


class Agreement:
    """One process's part of it; `reached` is asked at each boundary once this process knows of a signal.

    Each counts itself. When rank 0 sees that all know, it names the next step as the last. The others cannot take that step without it,
    since they average its gradients with its own, and so they know before they are through: all end after the same one.
    """

    def __init__(self, store: Any, rank: int, world_size: int) -> None:
        self._store = store
        self._rank, self._world_size = rank, world_size
        self._counted = False
        self._last = 0

    def announce(self, signum: int) -> None:
        """Lets all know of a signal; the first that is announced counts."""
        if not self._counted:
            self._counted = True
            self._store.compare_set("cause", "", str(signum))
            self._store.set("word/0", str(signum))
            self._store.add("heard", 1)

    def reached(self, step: int | None, signum: int) -> int:
        """The signal by which the run ends here, after the step of this number (from 1), 0 if it does not; does not wait.

        None stands for a boundary at which processes do not end, since they come there at paces of their own.
        """
        self.announce(signum)
        if step is None:
            return 0
        if not self._last:
            if self._rank == 0 and self._store.add("heard", 0) == self._world_size:
                self._store.add("last", step + 1)  # all see it when this returns
            self._last = self._store.add("last", 0)
        return self.cause if 0 < self._last <= step else 0

    @property
    def cause(self) -> int:
        """The signal that was announced first; to be asked when one was."""
        return int(self._store.get("cause"))


class Listener:
    """Tells this process of a signal that has come to another one. Who announces tells rank 0, and its listener all others."""

    def __init__(self, store: Any, ear: Any, rank: int, world_size: int, hear: Callable[[int], None]) -> None:
        self._store, self._ear = store, ear
        self._rank, self._world_size = rank, world_size
        self._hear = hear
        self._thread = threading.Thread(target=self._listen, name="lx-signals", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Ends it."""
        with suppress(RuntimeError):  # rank 0, which keeps the store, is gone
            if self._thread.is_alive():
                self._store.set(f"word/{self._rank}", "0")
        self._thread.join(timeout=5)

    def wait(self) -> None:
        """Waits until word has come."""
        self._thread.join()

    def _listen(self) -> None:
        with suppress(RuntimeError):
            key = f"word/{self._rank}"
            self._ear.wait([key], _PATIENCE)
            signum = int(self._ear.get(key))
            if signum and self._rank == 0:
                for other in range(1, self._world_size):
                    self._ear.set(f"word/{other}", str(signum))
            if signum:
                self._hear(signum)


_meetings: dict[tuple[str, int], tuple[Any, Any, int]] = {}
"""For each address and world size two connections to a store, and how many runs have used it: kept, since a program may fit often."""


def agree(strategy: Any, hear: Callable[[int], None]) -> tuple[Agreement, Listener] | None:
    """What a run needs to agree; called on every rank. None for one process, and for those that do not meet through torch.distributed."""
    if strategy.world_size == 1 or not (dist.is_available() and dist.is_initialized()):
        return None
    from torch.distributed import PrefixStore  # type: ignore[attr-defined]  # noqa: PLC0415 -- not in every build of torch

    environment = strategy.cluster_environment
    address = "127.0.0.1" if environment is None else environment.main_address
    place = (address, strategy.world_size)
    if place not in _meetings:
        _meetings[place] = (*_connect(strategy, address), 0)
    *connections, uses = _meetings[place]
    _meetings[place] = (*connections, uses + 1)
    store, ear = (PrefixStore(f"signals/{uses}", one) for one in connections)
    rank = strategy.global_rank
    return Agreement(store, rank, strategy.world_size), Listener(store, ear, rank, strategy.world_size, hear)


def _connect(strategy: Any, address: str) -> tuple[Any, Any]:
    """Two connections to a store on a port that is free on rank 0, which it tells the others: one waits, which blocks it."""
    from torch.distributed import TCPStore  # type: ignore[attr-defined]  # noqa: PLC0415 -- not in every build of torch

    store = None
    if strategy.global_rank == 0:
        store = TCPStore(address, 0, is_master=True, wait_for_workers=False, timeout=_MEETING_TIMEOUT)
    port = strategy.broadcast(store.port if store is not None else 0)

    def connection() -> Any:
        return TCPStore(address, port, is_master=False, timeout=_MEETING_TIMEOUT)

    return store or connection(), connection()
