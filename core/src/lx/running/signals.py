"""Signals that ask a run to end, and those that come while it ends."""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

INTERRUPTED = 128 + signal.SIGINT
"""The exit code after Ctrl-C, which is what shells and schedulers read as such; a failed program ends with 1."""


@contextmanager
def heeding_sigterm(trainer: Any) -> Iterator[None]:
    """While a run goes on, SIGTERM asks it to end at the next boundary; the processes that were launched get it, too."""

    def note(signum: int) -> None:
        trainer.received_sigterm = True
        if trainer.fabric.launcher is not None:
            trainer.fabric.launcher.kill(signum)

    with heeding(signal.SIGTERM, note):
        yield


@contextmanager
def heeding(number: int, note: Callable[[int], None]) -> Iterator[None]:
    """Within it a signal is noted, and a handler that was there before is called, too; in other threads than the main one nothing is."""
    if not _is_main_thread():
        yield
        return
    before = signal.getsignal(number)

    def handle(signum: int, frame: Any) -> None:
        note(signum)
        if callable(before):
            before(signum, frame)

    signal.signal(number, handle)
    try:
        yield
    finally:
        _put_back(number, before)


class CleanUp:
    """What goes on while a run that was cut off is cleaned up; `doing` says what, for who asks by Ctrl-C."""

    doing = "cleaning up"


@contextmanager
def cleaning_up(trainer: Any) -> Iterator[CleanUp]:
    """Within it Ctrl-C and SIGTERM do not interrupt: the run ends anyway, and others wait for its files.

    The first Ctrl-C says what goes on, so that the second, which ends the process at once, is meant. SIGTERM is noted in the trainer; who
    sends it sends SIGKILL when time is up.
    """
    state, pressed = CleanUp(), 0
    if not _is_main_thread():
        yield state
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def interrupt(signum: int, frame: Any) -> None:
        nonlocal pressed
        pressed += 1
        if pressed == 1:
            if trainer.is_global_zero:
                say(f"lx: the run is ending ({state.doing}); Ctrl-C once more ends the process at once, and leaves the rest undone.")
            return
        if trainer.fabric.launcher is not None:
            trainer.fabric.launcher.kill(signal.SIGTERM)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)

    def terminate(signum: int, frame: Any) -> None:
        trainer.received_sigterm = True

    signal.signal(signal.SIGINT, interrupt)
    signal.signal(signal.SIGTERM, terminate)
    try:
        yield state
    finally:
        for number, handler in before.items():
            _put_back(number, handler)


def is_interactive() -> bool:
    """Whether somebody types at this interpreter, as in a notebook, so that the process must outlive a run.

    IPython and Jupyter set `sys.ps1`, too; `python -i` does when the script is over.
    """
    return hasattr(sys, "ps1") or bool(sys.flags.interactive)


def say(text: str) -> None:
    """Writes a line to the error stream, also within a signal handler that has cut off another write."""
    with suppress(RuntimeError, OSError, ValueError, AttributeError):
        print(text, file=sys.stderr, flush=True)


def _is_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def _put_back(number: int, handler: Any) -> None:
    """Restores a handler; one that Python did not set cannot be set again, and the default takes its place."""
    signal.signal(number, signal.SIG_DFL if handler is None else handler)
