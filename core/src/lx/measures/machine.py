"""What the machines that a program runs on have in common, and how many workers they bear."""

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

if TYPE_CHECKING:
    from lx.interfaces.strategy import Strategy

SECONDS_BETWEEN_LOOKS = 0.05


def is_shared_filesystem(strategy: "Strategy", path: str | Path | None = None, timeout: float = 3) -> bool:
    """Whether all processes see the same files in a folder (None: the working directory); call it on every rank.

    Rank 0 writes a file there, and the others look for it for at most `timeout` seconds, which a network may need. Of one process, and of a
    remote path such as `s3://...`, it is true without a look. Raises `FileNotFoundError` for a folder that rank 0 does not have.
    """
    folder = Path.cwd() if path is None else Path(path)
    if strategy.world_size == 1 or "://" in str(path):
        return True
    if not strategy.broadcast(folder.is_dir()):
        raise FileNotFoundError(f"is_shared_filesystem looks into folders that exist, and {str(folder)!r} is none.")
    probe = folder / strategy.broadcast(f".lx-{uuid4().hex}")
    written = False
    try:
        if strategy.is_global_zero:
            written = _touch(probe)
        sees = strategy.broadcast(written) and _appears(probe, timeout)
        return strategy.reduce_boolean_decision(sees, all=True)
    finally:
        strategy.barrier("is_shared_filesystem")
        if written:
            probe.unlink(missing_ok=True)


def _touch(path: Path) -> bool:
    try:
        path.touch()
    except OSError:  # a folder that cannot be written to is of no use as a shared one, and all ranks must go on together
        return False
    return True


def _appears(path: Path, timeout: float) -> bool:
    until = time.monotonic() + timeout
    while not path.exists():
        if time.monotonic() >= until:
            return False
        time.sleep(SECONDS_BETWEEN_LOOKS)
    return True


def suggested_max_num_workers(local_world_size: int) -> int:
    """The most workers for one loader of each of `local_world_size` processes of a machine: their share of the cores, one kept free.

    Cores are those that this process may use. Raises `ValueError` for fewer than one process.

    >>> suggested_max_num_workers(10_000)
    1
    """
    if not local_world_size >= 1:
        raise ValueError(f"local_world_size={local_world_size!r}: it is the number of processes on this machine, 1 or more.")
    return max(1, usable_cores() // local_world_size - 1)


def usable_cores() -> int:
    """The cores that this process may run on, where the system tells; else all."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity is not None else os.cpu_count() or 1
