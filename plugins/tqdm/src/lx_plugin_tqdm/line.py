"""One bar on the terminal, or one line in a log, and when it is next worth drawing."""

import io
import math
import os
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, TextIO

from tqdm import tqdm  # type: ignore[import-untyped]

SECONDS_BETWEEN_DRAWS = 0.1
SECONDS_BETWEEN_LOG_LINES = 60.0
SHARE_OF_TIME = 0.02
"""How much of the time may go into drawing: a slow terminal slows the bar, not the training."""

COLAB_RATE = 20
"""What a refresh rate of 1 becomes on Colab, whose pages cannot keep up with more."""


class Tqdm(tqdm):  # type: ignore[misc]
    """A bar without the thread by which tqdm redraws bars behind the program's back."""

    monitor_interval = 0


class Pace:
    """Says whether it is time to draw again; the lines of a progress bar share one.

    >>> pace = Pace(0.1, clock=iter([0.0, 1.0, 1.5, 20.0, 30.0]).__next__)
    >>> pace.due()
    True
    >>> with pace:  # from 1.0 to 1.5, which may then be 2% of the time
    ...     pass
    >>> pace.due(), pace.due()
    (False, True)
    """

    def __init__(self, interval: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.interval = interval
        self.clock = clock
        self._next = -math.inf
        self._began = 0.0

    def due(self) -> bool:
        """Whether enough time has passed."""
        return self.clock() >= self._next

    def __enter__(self) -> None:
        self._began = self.clock()

    def __exit__(self, *exc_info: object) -> None:
        now = self.clock()
        self._next = now + max(self.interval, (now - self._began) / SHARE_OF_TIME)


class Nowhere(io.TextIOBase):
    """What tqdm writes to where there is no terminal: a log must not hold the same line a hundred times."""

    def write(self, text: str, /) -> int:
        """Forgets the text."""
        return len(text)


class Line:
    """A tqdm bar, how many batches are done, and from which batch on it may be drawn again.

    `done` and `next` are plain fields, because they are written and compared at every batch. On a terminal the bar is drawn in place;
    elsewhere `log` is a stream, and to draw is to print a line there.
    """

    __slots__ = ("bar", "done", "log", "next", "pace", "rate")

    def __init__(self, bar: Any, rate: int, pace: Pace, log: TextIO | None) -> None:
        self.bar = bar
        self.rate = rate
        self.pace = pace
        self.log = log
        self.done = 0
        self.next = rate

    def due(self) -> bool:
        """Whether to draw now, `done` having come to `next`; sets the next batch to ask at, a multiple of the rate."""
        self.next = self.done - self.done % self.rate + self.rate
        return self.pace.due()

    def restart(self, total: float, description: str, endless_format: str) -> None:
        """Begins again at 0 of `total` (`inf`: not known) batches."""
        bar = self.bar
        self.done, self.next = 0, self.rate
        bar.set_description_str(description, refresh=False)
        if math.isinf(total):
            bar.bar_format = endless_format
        with self.pace:
            bar.reset(None if math.isinf(total) else int(total))

    def refresh(self, metrics: Mapping[str, Any] | None = None) -> None:
        """Shows `done` on the terminal, and the metrics if they are given."""
        bar = self.bar
        if metrics is not None:
            bar.set_postfix_str(", ".join(f"{name}={short(value)}" for name, value in metrics.items()), refresh=False)
        with self.pace:
            if not bar.update(self.done - bar.n):
                bar.refresh()

    def draw(self, metrics: Mapping[str, Any] | None = None) -> None:
        """Refreshes, and prints a line where there is no terminal."""
        self.refresh(metrics)
        if self.log is not None:
            print(self.bar, file=self.log, flush=True)

    def close(self, leave: bool) -> None:
        """Leaves the line as it is and goes to the next one, or wipes it."""
        self.bar.unpause()  # what has happened since it was drawn last, such as writing a checkpoint, does not count as slow batches
        self.bar.leave = leave
        self.bar.close()


def bar_class() -> type[Any]:
    """tqdm's class for where the program runs."""
    if not in_notebook():
        return Tqdm
    # Imported here: it looks for the widgets of a notebook.
    from tqdm.notebook import tqdm as notebook_tqdm  # type: ignore[import-untyped]  # noqa: PLC0415

    return notebook_tqdm  # type: ignore[no-any-return]


def in_notebook() -> bool:
    """Whether this is the kernel of a notebook."""
    get_ipython = getattr(sys.modules.get("IPython"), "get_ipython", None)
    return get_ipython is not None and "IPKernelApp" in getattr(get_ipython(), "config", {})


def is_live(stream: TextIO) -> bool:
    """Whether bars can be drawn in place there."""
    return stream.isatty() or in_notebook()


def effective_rate(refresh_rate: int) -> int:
    """The refresh rate, raised by `TQDM_MINITERS` and on Colab; 0 stays 0.

    >>> effective_rate(5), effective_rate(0)
    (5, 0)
    """
    if refresh_rate == 0:
        return 0
    if refresh_rate == 1 and "COLAB_GPU" in os.environ:
        return COLAB_RATE
    return max(refresh_rate, int(os.environ.get("TQDM_MINITERS") or 0))


def short(value: object) -> str:
    """A metric in few and mostly as many characters, so that the bar does not jump.

    >>> [short(value) for value in (0.0, 0.5, 12.3456, -1234.5, 1e-5, 2e9, 12345, "a3f9", float("nan"))]
    ['0.000', '0.500', '12.35', '-1234', '1.00e-05', '2.00e+09', '12345', 'a3f9', 'nan']
    """
    if not isinstance(value, float) or not math.isfinite(value):
        return str(value)
    size = abs(value)
    if size and not 1e-3 <= size < 1e4:
        return f"{value:.2e}"
    return f"{value:.{3 if size < 10 else 2 if size < 100 else 1 if size < 1000 else 0}f}"
