"""Wall time and number of calls of each action, as a table."""

from pathlib import Path
from time import perf_counter

from lx.interfaces.profiler import Profiler


class SimpleProfiler(Profiler):
    """Measures the wall time of each action, and how often it ran.

    `dirpath` and `filename` say where `describe` writes (see `Profiler`); `extended` adds the calls and the percentage of each action.
    Actions may overlap and nest, so that the percentages, of the time since the first action, may add up to more than 100. What is kept
    does not grow with the number of calls.

    >>> profiler = SimpleProfiler()
    >>> with profiler.profile("load"):
    ...     pass
    >>> profiler.calls("load")
    1
    """

    def __init__(self, dirpath: str | Path | None = None, filename: str | None = None, extended: bool = True) -> None:
        super().__init__(dirpath, filename)
        self.extended = extended
        self._running: dict[str, float] = {}
        self._seconds: dict[str, float] = {}
        self._calls: dict[str, int] = {}
        self._begun: float | None = None

    def start(self, action_name: str) -> None:
        """Begins an action; raises `ValueError` if it runs already."""
        if action_name in self._running:
            raise ValueError(
                f"the action {action_name!r} was started already, and not stopped. Stop it, or give the inner one a name of its own."
            )
        now = self._running[action_name] = perf_counter()
        if self._begun is None:
            self._begun = now

    def stop(self, action_name: str) -> None:
        """Ends an action; raises `ValueError` if it does not run."""
        now = perf_counter()
        started = self._running.pop(action_name, None)
        if started is None:
            raise ValueError(f"the action {action_name!r} was not started. Running: {', '.join(map(repr, self._running)) or 'none'}.")
        self._seconds[action_name] = self._seconds.get(action_name, 0.0) + now - started
        self._calls[action_name] = self._calls.get(action_name, 0) + 1

    def calls(self, action_name: str) -> int:
        """How often an action has ended."""
        return self._calls.get(action_name, 0)

    def seconds(self, action_name: str) -> float:
        """The wall time of an action, in seconds, over all of its calls."""
        return self._seconds.get(action_name, 0.0)

    def summary(self) -> str:
        """The table, the actions that took longest first; "" if nothing has ended."""
        if self._begun is None or not self._calls:
            return ""
        elapsed = perf_counter() - self._begun
        rows: list[tuple[str, ...]] = [("Action", "Mean duration (s)", "Num calls", "Total time (s)", "Percentage %")]
        rows.append(("Total", "-", str(sum(self._calls.values())), f"{elapsed:.5g}", "100 %"))
        for name, seconds in sorted(self._seconds.items(), key=lambda item: -item[1]):
            calls = self._calls[name]
            rows.append((name, f"{seconds / calls:.5g}", str(calls), f"{seconds:.5g}", f"{100 * seconds / (elapsed or 1.0):.5g}"))
        shown: list[tuple[str, ...]] = rows if self.extended else [(row[0], row[1], row[3]) for row in rows[:1] + rows[2:]]
        return "Profiler Report\n" + _table(shown)


def _table(rows: "list[tuple[str, ...]]") -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["|  " + "  |  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + "  |" for row in rows]
    rule = "-" * len(lines[0])
    return "\n".join([rule, lines[0], rule, *lines[1:], rule, ""])
