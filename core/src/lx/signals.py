"""Signals that ask a run to end."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def heeding_sigterm(trainer: Any) -> Iterator[None]:
    """While a run goes on, SIGTERM asks it to end at the next boundary; a handler that was there is called, too."""
    trainer.received_sigterm = False
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)

    def handle(signum: int, frame: Any) -> None:
        trainer.received_sigterm = True
        if trainer.fabric.launcher is not None:
            trainer.fabric.launcher.kill(signum)
        if callable(before):
            before(signum, frame)

    signal.signal(signal.SIGTERM, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
