"""The processes that a launcher has started: watched, and ended when one of them fails or the program is over."""

import atexit
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from types import FrameType

from lx.kernel.errors import LxError

log = logging.getLogger("lx")

_SIGNS = ("gloo", "nccl", "connection closed", "connection reset", "broken pipe")
_BY_SIGNAL = {128 + getattr(signal, name) for name in ("SIGTERM", "SIGUSR1") if hasattr(signal, name)}
"""The exit codes of processes that a signal ended at a batch boundary, where this one ends, too."""
_GLANCE = 0.2
"""Seconds between two looks at what the main thread does, once a process has failed."""


class LaunchError(LxError, RuntimeError):
    """A process of the run has failed, so that the run cannot go on."""


class Children:
    """Child processes by global rank. The first to fail has the others ended, and is what `watched` raises.

    `grace` is the number of seconds that a process has to end by itself once another has failed, before it is ended.
    """

    def __init__(self, grace: float) -> None:
        self.grace = grace
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        self._lock = threading.Lock()
        self._failed = threading.Event()
        self._failure: LaunchError | None = None
        self._running = False
        self._fell_out = False
        self._is_over = False
        self._thread = 0

    def start(self, rank: int, command: Sequence[str], environ: Mapping[str, str], directory: str | None = None) -> None:
        """Starts a process, and watches it; if it cannot be started, ends those that were."""
        if not self._processes:
            atexit.register(self._end_of_program)
        try:
            process = subprocess.Popen(command, env=dict(environ), cwd=directory)
        except OSError:
            self._end(self.grace)
            raise
        self._processes[rank] = process
        threading.Thread(target=self._watch, args=(rank, process), name=f"lx-rank-{rank}", daemon=True).start()

    def signal(self, signum: int) -> None:
        """Sends a signal to those that still run."""
        for process in list(self._processes.values()):
            if process.poll() is None:
                process.send_signal(signum)

    @contextmanager
    def watched(self) -> Iterator[None]:
        """While this thread is inside, a failed child is its failure too, whether it notices or not: `LaunchError` is raised.

        An error of its own is raised as it is.
        """
        self._thread = threading.get_ident()
        self._running = True
        try:
            yield
        except Exception as error:
            if self._processes and _is_broken_connection(error):
                self._failed.wait(self.grace)  # the connection broke because a process is dying, which takes it a moment
                if self._failure is not None:
                    raise self._failure from error
            if self._failure is not None:
                error.add_note(str(self._failure))
            raise
        except BaseException:  # sys.exit and Ctrl-C leave no trace for the end of the program
            self._fell_out = True
            raise
        finally:
            self._running = False
        if self._failure is not None:
            raise self._failure

    def _watch(self, rank: int, process: "subprocess.Popen[bytes]") -> None:
        """The life of a watching thread: until its process ends, and if it is the first to fail, until the main thread knows."""
        code = process.wait()
        with self._lock:
            ended_alike = self._fell_out and code in _BY_SIGNAL
            if code == 0 or ended_alike or self._failure is not None or self._is_over:
                return
            by = f" ({signal.Signals(-code).name})" if -code in set(signal.Signals) else ""
            self._failure = LaunchError(
                f"the process of rank {rank} ended with exit code {code}{by}, so the others are ended too; what it said is above."
            )
        log.error("lx: %s", self._failure)
        self._failed.set()
        self._end(self.grace)
        self._end_this_process_if_stuck()

    def _end_this_process_if_stuck(self) -> None:
        """A thread that waits in native code for a dead process cannot be interrupted, and may wait for the timeout of the collective."""
        spot, since = None, time.monotonic()
        while True:
            time.sleep(_GLANCE)
            frame = sys._current_frames().get(self._thread)
            here = (id(frame), frame.f_lasti) if frame is not None else None
            if here != spot or not (self._running or _is_communicating(frame)):
                spot, since = here, time.monotonic()
            elif time.monotonic() - since > self.grace:
                log.error("lx: this process waits for one that is gone, and ends.")
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(1)
            del frame

    def _end(self, patience: float) -> None:
        """Ends those that still run: politely, and after `patience` seconds for good."""
        self.signal(signal.SIGTERM)
        self._await(patience)
        for process in list(self._processes.values()):
            if process.poll() is None:
                process.kill()
                process.wait()

    def _end_of_program(self) -> None:
        """Waits for the others to come to the end of the program too; if this one fell out of it by an error, not for long.

        They may be waiting in a collective for this process, which has its connections to the very end.
        """
        self._is_over = self._fell_out or self._failure is not None or getattr(sys, "last_value", None) is not None
        patience = self.grace / 5
        try:
            self._await(patience if self._is_over else self.grace)
            behind = [rank for rank, process in self._processes.items() if process.poll() is None]
            if behind and not self._is_over:
                log.warning("lx: the program is at its end in this process, and waits for that of rank %s.", ", ".join(map(str, behind)))
                self._await(None)
        except KeyboardInterrupt:
            self._is_over = True
        self._end(patience)

    def _await(self, seconds: float | None) -> None:
        """Waits until all have ended, or for that long."""
        deadline = None if seconds is None else time.monotonic() + seconds
        with suppress(subprocess.TimeoutExpired):
            for process in list(self._processes.values()):
                process.wait(None if deadline is None else max(0.0, deadline - time.monotonic()))


def _is_broken_connection(error: BaseException | None) -> bool:
    """Whether an error, or one that led to it, is a collective's: torch raises a plain RuntimeError for gloo."""
    while error is not None:
        text = str(error).lower()
        if isinstance(error, RuntimeError) and any(sign in text for sign in _SIGNS):
            return True
        error = error.__cause__ or error.__context__
    return False


def _is_communicating(frame: FrameType | None) -> bool:
    while frame is not None:
        if str(frame.f_globals.get("__name__", "")).startswith("torch.distributed"):
            return True
        frame = frame.f_back
    return False
