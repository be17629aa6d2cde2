"""Losses that jump away from the mean of those before."""

import math
from collections import deque
from typing import Any

from lx.arguments.limits import count, is_number
from lx.kernel.errors import MisconfigurationException


class LossHistory:
    """The last losses, and whether the next one is a spike: at least `rtol` times their mean away from it, and at least `atol`, where these
    are given; above it, or below it with `falls`.

    The first `warmup` losses are no spikes. One that is a spike, or is not finite, does not join the mean.

    Raises `MisconfigurationException` for a wrong argument.

    >>> history = LossHistory(window=10, warmup=2)
    >>> [history.judge(loss) for loss in (9.0, 1.0, 1.0, 30.0)]
    [False, False, False, True]
    """

    def __init__(self, window: int, warmup: int, atol: float | None = None, rtol: float | None = 2.0, falls: bool = False) -> None:
        for name, value in (("atol", atol), ("rtol", rtol)):
            if value is not None and (not is_number(value) or not value >= 0):
                raise MisconfigurationException(f"{name}={value!r}: it must be a number of 0 or more, or None.")
        self.warmup = count("warmup", warmup)
        self.bounds = atol, rtol
        self.falls = falls
        self.seen = 0
        self.losses: deque[float] = deque(maxlen=count("window", window, least=1))

    @property
    def mean(self) -> float:
        """The mean of the last losses, NaN before the first."""
        return math.fsum(self.losses) / len(self.losses) if self.losses else math.nan

    def add(self, loss: float) -> None:
        """Counts a loss without a judgement."""
        self.seen += 1
        if math.isfinite(loss):  # others would make the mean useless
            self.losses.append(loss)

    def judge(self, loss: float) -> bool:
        """Whether the next loss is a spike; one that is none joins the mean."""
        if self.seen >= self.warmup and self._jumps(loss):
            self.seen += 1
            return True
        self.add(loss)
        return False

    def _jumps(self, loss: float) -> bool:
        mean, (atol, rtol) = self.mean, self.bounds
        away = mean - loss if self.falls else loss - mean
        bounds = [bound for bound in (atol, None if rtol is None else rtol * abs(mean)) if bound is not None]
        return bool(bounds) and away > 0 and all(away >= bound for bound in bounds)

    def state_dict(self) -> dict[str, Any]:
        """The losses that make the mean, and how many there were."""
        return {"losses": list(self.losses), "batches": self.seen}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from what `state_dict` gave."""
        self.losses = deque(state["losses"], maxlen=self.losses.maxlen)
        self.seen = state["batches"]
