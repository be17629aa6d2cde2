"""Signals that ask a run to end, and those that come while it ends."""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

INTERRUPTED = 128 + signal.SIGINT
"""The exit code after Ctrl-C, which is what shells and schedulers read as such; a failed program ends with 1."""


@contextmanager
def heeding(number: int, note: Callable[[int], bool]) -> Iterator[None]:
    """Within it a signal is noted, a handler that was there before is called, too, and where `note` says so the process ends at once.

    In other threads than the main one nothing is done.
    """
    if not _is_main_thread():
        yield
        return
    before = signal.getsignal(number)

    def handle(signum: int, frame: Any) -> None:
        ends = note(signum)
        if callable(before):
            before(signum, frame)
        if ends:
            end_process(signum)

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
    """Within it Ctrl-C does not interrupt: the run ends anyway, and others wait for its files.

    The first says what goes on, so that the second, which ends the process at once, is meant. `Termination` does so with other signals.
    """
    state, pressed = CleanUp(), 0
    trainer.run.termination.clean_up = state
    if not _is_main_thread():
        yield state
        return
    before = signal.getsignal(signal.SIGINT)

    def interrupt(signum: int, frame: Any) -> None:
        nonlocal pressed
        pressed += 1
        if pressed == 1:
            if trainer.is_global_zero:
                say(f"lx: the run is ending ({state.doing}); Ctrl-C once more ends the process at once, and leaves the rest undone.")
            return
        if trainer.fabric.launcher is not None:
            trainer.fabric.launcher.kill(signal.SIGTERM)
        end_process(signal.SIGINT)

    signal.signal(signal.SIGINT, interrupt)
    try:
        yield state
    finally:
        _put_back(signal.SIGINT, before)


def end_process(signum: int) -> None:
    """Ends the process as the signal does where nobody heeds it."""
    signal.signal(signum, signal.SIG_DFL)
    os.kill(os.getpid(), signum)


def is_free(number: int) -> bool:
    """Whether nobody has set a handler for a signal, nor has it ignored; where there is a /proc, one outside of Python is seen, too.

    Such a one is that of `faulthandler.register`, of which `signal.getsignal` does not know.
    """
    if signal.getsignal(number) is not signal.SIG_DFL:
        return False
    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return True
    caught = next((int(line.split()[1], 16) for line in lines if line.startswith("SigCgt:")), 0)
    return not caught >> (number - 1) & 1


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
