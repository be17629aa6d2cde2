"""Values that are logged a little later than the call: when a step is compiled, or may have to be run again."""

from types import TracebackType
from typing import Any

from lx.logging.log import RunLog

Call = tuple[str | None, tuple[Any, ...]]


class DeferredLog:
    """Within it, calls of `self.log` are noted, each with where it was made, and nothing else happens; `play` makes them later.

    It stands in for `RunLog.log` by an attribute of that one object, so that logging costs nothing more where nobody defers it. All
    that happens inside is the append to a list, which a compiler can follow without breaking its graph.

    >>> log = RunLog.__new__(RunLog)
    >>> log.site = "training_step"
    >>> with DeferredLog(log) as deferred:
    ...     log.log("loss", 1.0)
    >>> deferred.take()
    [('training_step', ('loss', 1.0))]
    """

    def __init__(self, log: RunLog) -> None:
        self.calls: list[Call] = []
        self._log = log
        self._outer: Any = None

    def note(self, *arguments: Any) -> None:
        """Stands in for `RunLog.log`."""
        self.calls.append((self._log.site, arguments))

    def __enter__(self) -> "DeferredLog":
        space = vars(self._log)
        self._outer = space.get("log")
        space["log"] = self.note
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        space = vars(self._log)
        if self._outer is None:
            del space["log"]
        else:
            space["log"] = self._outer

    def take(self) -> list[Call]:
        """The calls since the last time."""
        calls = self.calls[:]
        self.calls.clear()
        return calls

    def play(self, call: Call) -> None:
        """Makes a call, as from where it was made."""
        log, (site, arguments) = self._log, call
        outer, log.site = log.site, site
        try:
            log.log(*arguments)
        finally:
            log.site = outer
