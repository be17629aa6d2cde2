"""For how long a run has not moved, as somebody sees who looks at it now and then; and the thread that looks."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

LOOKS = 20
"""How often the thread looks within a bound."""

LONGEST_PAUSE = 5.0
"""Seconds between two looks at the most, so that long bounds are as exact as anybody wants to know."""

AT_MOST_LATE = 2.0
"""Seconds by which a look may come late. What is more is time in which this process was stopped, such as by Ctrl-Z, a suspended job, or a
machine that slept: nobody has hung then."""


@dataclass
class Watch:
    """Adds up the seconds in which a pulse has not changed.

    >>> watch = Watch(now=0.0, pause=1.0)
    >>> [watch.look(now, pulse) for now, pulse in ((1.0, "a"), (2.0, "a"), (3.0, "a"))], watch.idle, watch.is_due(2.0)
    ([None, None, None], 2.0, True)
    """

    now: float
    pause: float
    pulse: Any = None
    idle: float = 0.0
    reports: int = 0

    def look(self, now: float, pulse: Any) -> float | None:
        """Notes the pulse; returns how many seconds a stillness lasted that was reported, and is over."""
        passed = min(now - self.now, self.pause + AT_MOST_LATE)
        self.now = now
        if pulse == self.pulse:
            self.idle += passed
            return None
        took = self.idle + passed if self.reports else None
        self.pulse = pulse
        self.forgive()
        return took

    def is_due(self, limit: float) -> bool:
        """Whether a report is due: after the limit, then after twice as long again, four times as long, and so on."""
        return self.idle >= limit * ((2 << self.reports) - 1)

    def forgive(self) -> None:
        """Has it begin anew."""
        self.idle, self.reports = 0.0, 0


class Looker:
    """A daemon thread that calls a function every `pause` seconds, from `start` to `stop`."""

    def __init__(self, look: Callable[[], None], pause: float) -> None:
        self._look, self._pause = look, pause
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lx-watchdog", daemon=True)

    def start(self) -> None:
        """Begins to look."""
        self._thread.start()

    def stop(self) -> None:
        """Looks no more; waits for the thread, unless that is what calls or is stuck in a write."""
        self._stop.set()
        if threading.current_thread() is not self._thread:
            self._thread.join(LONGEST_PAUSE)

    def _run(self) -> None:
        while not self._stop.wait(self._pause):
            self._look()
