"""How long fit has run, and where on every axis a value stands."""

import time
from typing import Any

from lx.interfaces.logger import Logger, Point


class FitClock:
    """The seconds spent in fit: in this one, in those before on the same trainer, and in those that it was resumed from.

    It runs within a `with` block, and stands still outside, so that an evaluation after a fit stands at its end.

    >>> clock = FitClock()
    >>> clock.seconds
    0.0
    """

    def __init__(self) -> None:
        self._before = 0.0
        self._since: float | None = None

    def __enter__(self) -> None:
        self._since = time.monotonic()

    def __exit__(self, *error: object) -> None:
        self._before, self._since = self.seconds, None

    def restore(self, seconds: float) -> None:
        """Goes on from the seconds of a checkpoint; called before a fit begins."""
        self._before = seconds

    @property
    def seconds(self) -> float:
        """All that was measured."""
        return self._before + (0.0 if self._since is None else time.monotonic() - self._since)


def tell(logger: Any, point: Point | None) -> None:
    """Says to a logger where the values that it gets stand; one that is made by another interface asks for no such thing."""
    if isinstance(logger, Logger):
        logger.point = point
