"""A stopwatch that can be started again, and that goes on from what was measured elsewhere."""

from dataclasses import dataclass
from time import monotonic


@dataclass(slots=True)
class Stopwatch:
    """Adds up the time between starts and stops. Times are in seconds, those of `started` and `stopped` on the monotonic clock."""

    before: float = 0.0
    started: float | None = None
    stopped: float | None = None

    def start(self) -> None:
        """Begins to measure."""
        self.started, self.stopped = monotonic(), None

    def stop(self) -> None:
        """Stops measuring; nothing happens if it does not run."""
        if self.started is not None and self.stopped is None:
            self.stopped = monotonic()
            self.before += self.stopped - self.started

    @property
    def running(self) -> float:
        """How long it has been running since the last start; 0 if it does not run."""
        return 0.0 if self.started is None or self.stopped is not None else monotonic() - self.started

    @property
    def elapsed(self) -> float:
        """All that was measured."""
        return self.before + self.running
