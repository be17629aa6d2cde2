"""The environment of processes on this machine, or on several where each is told its node."""

import functools
import logging
import os
import signal
import socket
import threading
import time

from lx.interfaces import ClusterEnvironment

log = logging.getLogger("lx")

PARENT_VARIABLE = "LX_LAUNCHER_PID"
"""Set by the script launcher for the processes that it starts: the process that they must not outlive."""

ORPHAN_GRACE = 10.0
"""Seconds between SIGTERM and the hard end of a process whose parent is gone."""


class LightningEnvironment(ClusterEnvironment):
    """Processes that lx starts itself, or that were started with `LOCAL_RANK` in their environment.

    It reads `LOCAL_RANK`, `NODE_RANK` (or `GROUP_RANK`), `WORLD_SIZE`, `MASTER_ADDR` and `MASTER_PORT` (or `STANDALONE_PORT`).
    For several nodes, the same command runs on each, with `NODE_RANK`, `MASTER_ADDR` and `MASTER_PORT` set.

    >>> LightningEnvironment.detect()
    True
    """

    def __init__(self) -> None:
        self._world_size = 1
        self._global_rank: int | None = None
        self._port: int | None = None
        if PARENT_VARIABLE in os.environ:
            end_with_parent(_number(PARENT_VARIABLE, 0))

    @property
    def creates_processes_externally(self) -> bool:
        """Whether `LOCAL_RANK` is set, so that somebody has started the processes."""
        return "LOCAL_RANK" in os.environ

    @property
    def main_address(self) -> str:
        """`MASTER_ADDR`, or this machine."""
        return os.environ.get("MASTER_ADDR", "127.0.0.1")

    @property
    def main_port(self) -> int:
        """`MASTER_PORT`, or `STANDALONE_PORT`, or a port that was free when it was first asked for."""
        for variable in ("MASTER_PORT", "STANDALONE_PORT"):
            if variable in os.environ:
                return _number(variable, 0)
        if self._port is None:
            self._port = find_free_port()
        return self._port

    @staticmethod
    def detect() -> bool:
        """Always: where nothing else is found, processes are local."""
        return True

    def world_size(self) -> int:
        """What the processes were started with, or else what the strategy has said."""
        return _number("WORLD_SIZE", self._world_size) if self.creates_processes_externally else self._world_size

    def set_world_size(self, size: int) -> None:
        """Told by the strategy."""
        self._world_size = size

    def global_rank(self) -> int:
        """What the strategy has said; before that, the rank on this node."""
        return self.local_rank() if self._global_rank is None else self._global_rank

    def set_global_rank(self, rank: int) -> None:
        """Told by the strategy."""
        self._global_rank = rank

    def local_rank(self) -> int:
        """`LOCAL_RANK`, or 0 in the process that the user started."""
        return _number("LOCAL_RANK", 0)

    def node_rank(self) -> int:
        """`NODE_RANK`, or `GROUP_RANK`, or 0."""
        return _number("NODE_RANK", _number("GROUP_RANK", 0))

    def validate_settings(self, num_devices: int, num_nodes: int) -> None:
        """Raises `ValueError` for several nodes that have no place to meet, or a node that is not one of them."""
        if num_nodes == 1:
            return
        missing = [name for name in ("NODE_RANK", "MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
        if "GROUP_RANK" in os.environ and "NODE_RANK" in missing:
            missing.remove("NODE_RANK")
        if missing:
            raise ValueError(
                f"num_nodes={num_nodes}, and no cluster was detected: set {', '.join(missing)} in the environment of every node, "
                "NODE_RANK from 0, MASTER_ADDR and MASTER_PORT to a host and port of node 0."
            )
        if not 0 <= self.node_rank() < num_nodes:
            raise ValueError(f"NODE_RANK={self.node_rank()}: num_nodes={num_nodes} has the ranks 0 to {num_nodes - 1}.")


def find_free_port() -> int:
    """A port of this machine that nobody uses at this moment."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])


@functools.cache
def end_with_parent(parent: int) -> None:
    """Ends this process if the parent that launched it is gone, in whatever way it went; nothing happens in other processes.

    A collective with a dead process may wait for as long as its timeout, and keep a device busy all that time.
    """
    if os.getppid() == parent:
        threading.Thread(target=_await_orphanhood, args=(parent,), name="lx-parent-watch", daemon=True).start()


def _await_orphanhood(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    log.error("lx: the process that started this one (pid %d) is gone; this one ends.", parent)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(ORPHAN_GRACE)  # the run may have its own way to end on SIGTERM
    os._exit(1)


def _number(variable: str, default: int) -> int:
    given = os.environ.get(variable)
    if given is None:
        return default
    try:
        return int(given)
    except ValueError:
        raise ValueError(f"the environment variable {variable} must be an integer, not {given!r}.") from None
