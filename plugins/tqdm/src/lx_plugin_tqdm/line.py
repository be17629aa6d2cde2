"""One bar on the terminal, or one line in a log, and when it is next worth drawing."""

import io
import math
import os
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, TextIO

from tqdm import tqdm  # type: ignore[import-untyped]
from tqdm.utils import disp_len, disp_trim  # type: ignore[import-untyped]

SECONDS_BETWEEN_DRAWS = 0.1
SECONDS_BETWEEN_LOG_LINES = 60.0
LONGEST_LOOK = 0.1
"""How many seconds a line looks ahead, at the speed of its last batches, before it looks at the clock again."""

SHARE_OF_TIME = 0.005
"""How much of the time may go into drawing: a slow terminal slows the bar, not the training."""

COLAB_RATE = 20
"""What a refresh rate of 1 becomes on Colab, whose pages cannot keep up with more."""

SHORTEST_BAR = 8
TIMES = "{elapsed}<{remaining}, "
ECHO = 2
"""Columns left free for the `^C` of an interrupt, which would wrap to the next line and leave the bar there twice."""


class Tqdm(tqdm):  # type: ignore[misc]
    """A bar that fits its terminal, without the thread by which tqdm redraws bars behind the program's back."""

    monitor_interval = 0
    quiet = False

    def reset(self, total: float | None = None) -> None:
        """Begins again at 0; unlike tqdm's it does not draw, since the next update does."""
        self.quiet = True
        super().reset(total)
        self.total = total
        self.quiet = False

    def display(self, msg: str | None = None, pos: int | None = None) -> bool:
        """Draws the bar."""
        return not self.quiet and bool(super().display(msg, pos))

    @staticmethod
    def format_meter(  # type: ignore[no-untyped-def]
        n, total, elapsed, ncols=None, *args: Any, bar_format: str | None = None, postfix: Any = None, **kwargs: Any
    ) -> str:
        """The line. Where it is too wide go, one after the other: the version, the times, the graphic, and the metrics at the end."""

        def meter(width: int | None, bar_format: str | None, postfix: Any) -> str:
            return str(tqdm.format_meter(n, total, elapsed, width, *args, bar_format=bar_format, postfix=postfix, **kwargs))

        width = None if not ncols else ncols - ECHO
        if width is None or not bar_format or "{bar}" not in bar_format:
            text = meter(None, bar_format, postfix)
            return text if width is None else cut(text, width)
        metrics = str(postfix or "").rpartition("v_num=")[0].rstrip(", ") or postfix
        for layout, shown in ((bar_format, postfix), (bar_format, metrics), (bar_format.replace(TIMES, ""), metrics)):
            text = meter(None, layout.replace("{bar}|", ""), shown)
            if disp_len(text) + SHORTEST_BAR <= width:
                return meter(width, layout, shown)
        return cut(text, width)


class Pace:
    """Says whether it is time to draw again; the lines of a progress bar share one.

    >>> pace = Pace(0.1, clock=iter([0.0, 1.0, 1.0, 1.1, 19.1, 30.0]).__next__)
    >>> pace.wait() <= 0
    True
    >>> with pace:  # from 1.0 to 1.1, which may then be 0.5% of the time
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


class Nowhere(io.TextIOBase):
    """What tqdm writes to where there is no terminal: a log must not hold the same line a hundred times."""

    def write(self, text: str, /) -> int:
        """Forgets the text."""
        return len(text)


class Line:
    """A tqdm bar that is made when it is first drawn, how many batches are done, and from which batch on it may be drawn again.

    `done` and `next` are plain fields, because they are written and compared at every batch. On a terminal the bar is drawn in place;
    elsewhere `log` is a stream, and to draw is to print a line there. Its time is that of its batches: a pause does not count.
    """

    def __init__(self, make: Callable[[], Any], endless_format: str, rate: int, pace: Pace, log: TextIO | None) -> None:
        self.make = make
        self.endless_format = endless_format
        self.rate = rate
        self.pace = pace
        self.log = log
        self.bar: Any = None
        self.restart(math.inf, "")

    def restart(self, total: float, description: str) -> None:
        """Begins again at 0 of `total` (`inf`: not known) batches."""
        self.total = total
        self.description = description
        self.done = self.shown = self._asked_at = 0
        self.next = self.rate
        self._began = self._asked_when = self._paused = self.pace.clock()
        self._fresh = True

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

    def refresh(self, metrics: Mapping[str, Any] | None = None) -> None:
        """Shows `done` on the terminal, and the metrics if they are given."""
        with self.pace:
            bar = self._begun()
            if metrics is not None:
                ordered = sorted(metrics, key=lambda name: name == "v_num")  # last, so that it is the first to go where all do not fit
                bar.set_postfix_str(", ".join(f"{name}={short(metrics[name])}" for name in ordered), refresh=False)
            if not bar.update(self.done - bar.n):
                bar.refresh()
        self.shown = self.done

    def draw(self, metrics: Mapping[str, Any] | None = None) -> None:
        """Refreshes, and prints a line where there is no terminal."""
        self.refresh(metrics)
        if self.log is not None:
            print(self.bar, file=self.log, flush=True)

    def pause(self) -> None:
        """Stops the line's time."""
        self._paused = self.pace.clock()

    def resume(self) -> None:
        """Lets it go on, from where it stood at `pause`."""
        passed = self.pace.clock() - self._paused
        if self._fresh:
            self._began += passed
        else:
            self._shift(passed)

    def close(self, leave: bool) -> None:
        """Leaves the line as it is and goes to the next one, or wipes it."""
        if self.bar is not None:
            self.bar.leave = leave
            self.bar.close()

    def _begun(self) -> Any:
        if self.bar is None:
            self.bar = self.make()
        if self._fresh:
            self._fresh = False
            self.bar.set_description_str(self.description, refresh=False)
            if math.isinf(self.total):
                self.bar.bar_format = self.endless_format
            self.bar.initial = 0
            self.bar.reset(None if math.isinf(self.total) else int(self.total))
            self._shift(self._began - self.pace.clock())
        return self.bar

    def _resume_at(self, batches: int) -> None:
        """An epoch that is resumed midway has batches that were done in another run, and at no time of this one."""
        bar = self._begun()
        bar.n = bar.initial = bar.last_print_n = self._asked_at = batches

    def _shift(self, seconds: float) -> None:
        self.bar.start_t += seconds
        self.bar.last_print_t += seconds


def cut(text: str, width: int) -> str:
    """The text, shortened at a comma if it is too wide.

    >>> cut("Epoch 0:  60%| 30/50 [00:00<00:00, loss=0.256, accuracy=0.712]", 51)
    'Epoch 0:  60%| 30/50 [00:00<00:00, loss=0.256, ...]'
    """
    if disp_len(text) <= width:
        return text
    kept: str = disp_trim(text, max(width - len("...]"), 1))
    return kept.rpartition(", ")[0] + ", ...]" if ", " in kept else disp_trim(text, width)


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
