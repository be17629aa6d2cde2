"""An error from elsewhere, such as another thread, that ends a run at its next batch boundary."""

import signal
import threading
from typing import Any


class Interruption:
    """What `trainer.run.interrupt` leaves to be raised in the thread that trains.

    The loops look at `trainer.received_sigterm` after each batch anyway, so that the steps cost what they did.
    """

    def __init__(self, trainer: Any) -> None:
        self._trainer = trainer
        self._lock = threading.Lock()
        self._error: BaseException | None = None
        self._over = False
        self._thread = threading.get_ident()
        self._pressed = False

    def interrupt(self, error: BaseException, at_once: bool = False) -> bool:
        """Leaves an error to be raised at the next boundary; returns whether it will be, which it is not once the run is over.

        `at_once` breaks off, as Ctrl-C does, what the thread that trains does or waits in, which must be the main thread.
        """
        with self._lock:
            if self._over:
                return False
            if self._error is None:
                self._error = error
            elif self._error is not error:
                _note(self._error, error)
            self._trainer.received_sigterm = True  # the flag that the loops look at
            if at_once and self._thread == threading.main_thread().ident:
                self._pressed = True
                _press(self._thread)
        return True

    def meant_by(self, raised: BaseException) -> BaseException:
        """The error that is meant where a run was broken off, which looks like Ctrl-C; any other as it is."""
        with self._lock:
            if not (self._pressed and isinstance(raised, KeyboardInterrupt) and self._error is not None):
                return raised
            error, self._error = self._error, None
        self._trainer.received_sigterm = False
        return error

    def surface(self, *, signalled: bool = False) -> None:
        """Raises what was left, if anything was; `signalled` says whether the flag is up for a signal, too, and stays."""
        with self._lock:
            error, self._error = self._error, None
            if error is None:
                return
            self._trainer.received_sigterm = signalled
        raise error

    def close(self, raised: BaseException | None = None) -> None:
        """Ends it with the run; what has not been raised is a note of what was, or, where nothing was, raised now."""
        with self._lock:
            self._over = True
            error = self._error
        if raised is None:
            self.surface()
        elif error is not None and error is not raised:
            _note(raised, error)


def _press(thread: int) -> None:
    """What Ctrl-C does, to a thread: a system call that waits is broken off, too."""
    if hasattr(signal, "pthread_kill"):
        signal.pthread_kill(thread, signal.SIGINT)
    else:
        signal.raise_signal(signal.SIGINT)


def _note(error: BaseException, other: BaseException) -> None:
    error.add_note(f"Another error was to end the run: {type(other).__name__}: {other}")
