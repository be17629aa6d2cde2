"""One task of the display, and when it is next worth drawing."""

import math
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

SHARE_OF_TIME = 0.01
"""How much of the time may go into drawing: a slow terminal slows the bar, not the training."""

LONGEST_LOOK = 0.1
"""How many seconds a line looks ahead, at the speed of its last batches, before it looks at the clock again."""

SMOOTHING = 0.3
"""The weight of the batches since the last draw in the speed that is shown."""


class Pace:
    """Says whether it is time to draw again; the lines of a progress bar share one.

    >>> pace = Pace(0.1, clock=iter([0.0, 1.0, 1.0, 1.1, 9.1, 30.0]).__next__)
    >>> pace.wait() <= 0
    True
    >>> with pace:  # from 1.0 to 1.1, which may then be 1% of the time
    ...     pass
    >>> round(pace.wait(), 6), pace.wait() <= 0
    (2.0, True)
    """

    def __init__(self, interval: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.interval = interval
        self.clock = clock
        self.now = clock()
        self._next = self.now + interval
        self._began = 0.0

    def wait(self) -> float:
        """The seconds until it is time, not above 0 when it is; `now` is when this was asked."""
        self.now = self.clock()
        return self._next - self.now

    def __enter__(self) -> None:
        self._began = self.clock()

    def __exit__(self, *exc_info: object) -> None:
        ended = self.clock()
        self._next = ended + max(self.interval, (ended - self._began) / SHARE_OF_TIME)


class Line:
    """How many batches are done, how fast, and from which batch on the line may be drawn again.

    `done` and `next` are plain fields, because they are written and compared at every batch. `task` is the id of rich's task, None where
    there is no terminal, and `fresh` says that it is still that of before a restart. `seconds` are those of its batches: a pause does not
    count.
    """

    def __init__(self, rate: int, pace: Pace) -> None:
        self.rate = rate
        self.pace = pace
        self.task: Any = None
        self.metrics = ""
        self.restart(math.inf, "")

    def restart(self, total: float, description: str) -> None:
        """Begins again at 0 of `total` (`inf`: not known) batches."""
        self.total = total
        self.description = description
        self.fresh = True
        self.done = self.shown = self._asked_at = self._counted = self._initial = 0
        self.next = self.rate
        self.seconds = self.speed = 0.0
        self._since = self._asked_when = self._paused = self.pace.clock()

    def due(self) -> bool:
        """Whether to draw now, `done` having come to `next`; sets `next`, a multiple of the rate.

        Looking at the clock costs more than all else here, so it is not done at every batch, but again when, at the speed of the last
        batches, half of the waiting time has passed.
        """
        if self.done > self.next:
            self._resume_at(self.done - 1)
        wait = self.pace.wait()
        passed = self.pace.now - self._asked_when
        batches = 1
        if wait > 0 and passed > 0:
            batches += int((self.done - self._asked_at) / passed * min(wait, LONGEST_LOOK) / 2)
        self._asked_at, self._asked_when = self.done, self.pace.now
        self.next = (self.done + batches - 1) // self.rate * self.rate + self.rate
        return wait <= 0

    def count(self) -> None:
        """Brings time and speed up to `done`."""
        now = self.pace.clock()
        passed, batches = now - self._since, self.done - self._counted
        if batches <= 0 or passed <= 0:
            return
        self.seconds += passed
        latest = batches / passed
        self.speed = SMOOTHING * latest + (1 - SMOOTHING) * self.speed if self.speed else latest
        self._since, self._counted = now, self.done

    def pause(self) -> None:
        """Stops the line's time."""
        self.count()
        self._paused = self.pace.clock()

    def resume(self) -> None:
        """Lets it go on, from where it stood at `pause`."""
        self._since += self.pace.clock() - self._paused

    def finish(self) -> None:
        """Makes the speed that of all batches."""
        self.count()
        self.speed = (self.done - self._initial) / self.seconds if self.seconds else 0.0

    def _resume_at(self, batches: int) -> None:
        """An epoch that is resumed midway has batches that were done in another run, and at no time of this one."""
        self._initial = self._counted = self._asked_at = batches

    def text(self) -> str:
        """The line as it is printed where there is no terminal."""
        total = "" if math.isinf(self.total) else f"/{int(self.total)}"
        return f"{self.description}: {self.done}{total} [{clock_text(self.seconds)}, {self.speed:.2f}it/s] {self.metrics}".rstrip()


def clock_text(seconds: float | None) -> str:
    """Hours, minutes and seconds.

    >>> clock_text(3723.4), clock_text(None)
    ('1:02:03', '-:--:--')
    """
    return "-:--:--" if seconds is None else str(timedelta(seconds=int(seconds)))
