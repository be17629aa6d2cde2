"""Runs a training script as `python SCRIPT ARGS` does, and writes down what its trainers do: `python -m lx.cli.resuming.child`.

lx is imported here, and torch is not, so that a script can still set the variables that torch reads when it is imported.
"""

import functools
import inspect
import json
import os
import runpy
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from lx.cli.resuming.journal import Journal
from lx.kernel import default_manager, hookimpl

if TYPE_CHECKING:
    from lx.cli.resuming.watch import Events


class Watching:
    """A plugin that puts a `Watch` into every trainer of this process, and has `fit` go on from where a process before was killed."""

    def __init__(self, order: dict[str, Any]) -> None:
        self._journal = Journal(order["journal"])
        self._strike = order.get("strike")
        self._events: Events | None = None
        self._fits = 0
        self._asked = False
        self._known: set[int] = set()

    @hookimpl
    def lx_trainer_created(self, trainer: Any) -> None:
        """Waits for `fit`, so that until then a script finds the callbacks of its trainer as they are without this."""
        trainer.fit = resuming(trainer.fit, lambda asked: self._join(trainer, asked))

    def _join(self, trainer: Any, asked: bool) -> None:
        from lx.cli.resuming.watch import Events, Late, Strike, Watch  # noqa: PLC0415

        self._asked = asked
        if self._events is None:
            self._events = Events(self._journal, None if self._strike is None else Strike(**self._strike))
        if not any(isinstance(callback, Watch) for callback in trainer.callbacks):
            trainer.callbacks[:] = [Watch(self._events), *trainer.callbacks, Late(self._events)]

    @hookimpl
    def lx_run_started(self, run: Any) -> None:
        """Notes where a fit begins, and listens to the loggers that there are now."""
        from lx.cli.resuming.watch import Watch  # noqa: PLC0415

        trainer = run.trainer
        for logger in trainer.loggers:
            if id(logger) not in self._known:
                self._known.add(id(logger))
                logger.log_metrics = self._recording(logger.log_metrics, f"{type(logger).__name__} {len(self._known)}")
        if run.fn != "fit":
            return
        self._fits += 1
        for watch in trainer.callbacks:
            if isinstance(watch, Watch):
                watch.fit = self._fits
                watch.events.hear_files()
        path = None if trainer.ckpt_path is None else os.path.relpath(str(trainer.ckpt_path))
        counted = {"step": trainer.global_step, "processes": trainer.world_size}
        self._journal.write("start", fit=self._fits, checkpoint=path, asked=self._asked, **counted)

    def _recording(self, log_metrics: Callable[..., Any], name: str) -> Callable[..., Any]:
        from lx.cli.resuming.digest import number  # noqa: PLC0415

        @functools.wraps(log_metrics)
        def recording(metrics: Any, step: int | None = None, **kwargs: Any) -> Any:
            values = {key: number(value) for key, value in metrics.items()}
            self._journal.write("log", fit=self._fits, logger=name, step=step, values=values)
            return log_metrics(metrics=metrics, step=step, **kwargs)

        return recording

    def close(self) -> None:
        """Notes how often each event happened, once the script has ended by itself."""
        self._journal.write("events", counts={} if self._events is None else dict(self._events.counts))


def resuming(fit: Callable[..., Any], join: Callable[[bool], None]) -> Callable[..., Any]:
    """A `fit` that first calls `join` with whether a `ckpt_path` was passed, and takes "auto" where it was not."""
    signature = inspect.signature(fit)

    @functools.wraps(fit)
    def resumed(*args: Any, **kwargs: Any) -> Any:
        bound = signature.bind(*args, **kwargs)
        asked = bound.arguments.get("ckpt_path") is not None
        join(asked)
        if not asked:
            bound.arguments["ckpt_path"] = "auto"
        return fit(*bound.args, **bound.kwargs)

    return resumed


def main(arguments: Sequence[str]) -> None:
    """Runs a script; the arguments are the order as JSON, the script's absolute path, and its own arguments."""
    order, script, *rest = arguments
    sys.argv = [script, *rest]
    if not sys.flags.safe_path:
        sys.path[0] = os.path.dirname(script)
    watching = Watching(json.loads(order))
    default_manager().load()
    default_manager().register(watching, "lx verify-resume")
    try:
        runpy.run_path(script, run_name="__main__")
    finally:
        watching.close()


if __name__ == "__main__":
    main(sys.argv[1:])
