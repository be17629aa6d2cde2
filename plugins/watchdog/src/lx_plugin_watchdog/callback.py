"""Watchdog: a thread that sees when a run no longer moves, says where it hangs, and ends it or lets it go on."""

import os
import signal
import sys
import threading
from contextlib import suppress
from datetime import timedelta
from time import monotonic
from typing import Any

from lx.arguments.spans import duration
from lx.interfaces import Callback
from lx.kernel.errors import LxError, MisconfigurationException
from lx_plugin_watchdog.report import at_a_prompt, children, in_words, tell, tell_stacks, threads, whereabouts
from lx_plugin_watchdog.watch import LONGEST_PAUSE, LOOKS, Looker, Watch

EXIT_CODE = 124
"""With what the process ends where nothing else helps: as `timeout` ends, by which schedulers and scripts know it."""

FIRST = 3
"""The first step may take so many bounds, unless it is said how long."""

Duration = str | timedelta | dict[str, float]


class WatchdogTimeout(LxError, TimeoutError):
    """Ends a run of which a step took longer than its bound; where it hung is its cause, and the stacks are on the error stream."""


def notes(event: str) -> Any:
    """A hook that is a sign of life."""

    def hook(self: "Watchdog", trainer: Any, pl_module: Any, *args: Any) -> None:
        """Notes that the run moves."""
        self.stir(event)

    return hook


def begins(event: str, stage: str = "") -> Any:
    """A hook by which a run, or an evaluation in it, begins."""

    def hook(self: "Watchdog", trainer: Any, pl_module: Any) -> None:
        """Begins to watch, unless that was begun, and notes that the run moves."""
        self.watch(trainer)
        self.stir(event)
        self.evaluated_before = self.evaluated.get(stage, 0)

    return hook


def counts(stage: str, event: str) -> Any:
    """A hook that counts the batches of an evaluation."""

    def hook(self: "Watchdog", trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Counts a batch."""
        self.evaluated[stage] += 1

    return hook


class Watchdog(Callback):
    """Says where a run hangs: when no batch, and no other event, has come for longer than a bound, the error stream gets what the run was
    doing, the stacks of all threads, and the child processes, such as the workers of loaders; again after each further bound, each
    twice as long as the one before.

    Then the run ends, or goes on. To end it, `WatchdogTimeout` is raised in what hangs, where that is Python or waits for it, and
    everybody may clean up; a call that never comes back to Python (of a driver, or for a process that has died) ends the process with
    the exit code 124 when `grace` is over. Training steps cost nothing: a thread looks at what the loop counts anyway. Each rank watches
    itself. It watches from `on_fit_start`, or the start of another loop, to `teardown`; time at a breakpoint, and time in which the process
    is stopped, do not count. Code that hangs and holds Python's lock stops this thread, too.

    Args:
        bound: How long a step may take: `"10min"`, `"DD:HH:MM:SS"`, a timedelta, or its keyword arguments, such as `{"minutes": 10}`.
        on_hang: `"end"` ends the run, `"report"` tells, and tells again how long it took if it goes on.
        first: How long the first step of training and of each evaluation may take, in which models are compiled and workers start; three
            times the bound by default.
        grace: How long the run may take to end after that; a clean-up that has begun has the bound for each of its steps.

    Raises:
        MisconfigurationException: for anything else, also for no time at all.
        WatchdogTimeout: in the thread that trains, if a step hangs.

    >>> watchdog = Watchdog("5min", on_hang="report")
    >>> watchdog.bound, watchdog.first, watchdog.listens_to("on_train_batch_end")
    (300.0, 900.0, False)
    """

    phase = "last"  # others tear down before it, and are watched while they do

    def __init__(self, bound: Duration = "10min", on_hang: str = "end", first: Duration | None = None, grace: Duration = "30s") -> None:
        if on_hang not in ("end", "report"):
            raise MisconfigurationException(f"on_hang={on_hang!r}: it must be 'end' or 'report'.")
        self.bound = _seconds("bound", bound)
        self.first = FIRST * self.bound if first is None else _seconds("first", first)
        self.grace = _seconds("grace", grace)
        self.on_hang = on_hang
        self.evaluated = {"validate": 0, "test": 0, "predict": 0}
        self.evaluated_before = 0
        self.error: WatchdogTimeout | None = None
        self._event, self._events = "", 0
        self._trainer: Any = None
        self._trains = 0
        self._trained_before = 0
        self._deadline = 0.0
        self._watch: Watch | None = None
        self._looker: Looker | None = None

    # -- signs of life -----------------------------------------------------------------------------------------------------

    def stir(self, event: str) -> None:
        """Notes that the run moves, for code of your own that takes long between batches."""
        self._event, self._events = event, self._events + 1

    on_fit_start = begins("on_fit_start")
    on_validation_start, on_validation_end = begins("on_validation_start", "validate"), notes("on_validation_end")
    on_test_start, on_test_end = begins("on_test_start", "test"), notes("on_test_end")
    on_predict_start, on_predict_end = begins("on_predict_start", "predict"), notes("on_predict_end")
    on_train_start, on_train_end = notes("on_train_start"), notes("on_train_end")
    on_train_epoch_start, on_train_epoch_end = notes("on_train_epoch_start"), notes("on_train_epoch_end")
    on_validation_epoch_end = notes("on_validation_epoch_end")
    on_save_checkpoint, on_load_checkpoint = notes("on_save_checkpoint"), notes("on_load_checkpoint")
    on_fit_end = notes("on_fit_end")
    on_validation_batch_end = counts("validate", "on_validation_batch_end")
    on_test_batch_end = counts("test", "on_test_batch_end")
    on_predict_batch_end = counts("predict", "on_predict_batch_end")

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """Watches no more, unless it has ended the run itself: then the clean-up is watched to its end."""
        self.stir("on_exception")
        if exception is not self.error:
            self.stop()

    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Watches no more."""
        self.stop()

    # -- the thread --------------------------------------------------------------------------------------------------------

    def watch(self, trainer: Any) -> None:
        """Begins to watch the thread that calls this, unless it is watched."""
        if self._looker is not None:
            return
        pause = min(min(self.bound, self.first) / LOOKS, LONGEST_PAUSE)
        self._trainer, self._trains, self.error = trainer, threading.get_ident(), None
        self._trained_before = trainer.fit_loop.progress.batch.total_processed
        self.evaluated.update(dict.fromkeys(self.evaluated, 0))
        self._watch = Watch(monotonic(), pause, self._pulse())
        self._looker = Looker(lambda: self.look(monotonic()), pause)
        self._looker.start()

    def stop(self) -> None:
        """Watches no more; the thread has ended when this returns."""
        looker, self._looker = self._looker, None
        if looker is not None:
            looker.stop()
        self._watch = self._trainer = None

    def look(self, now: float) -> None:
        """What the thread does now and then: sees whether the run has moved, and tells, or ends it, if it has not for too long."""
        watch, trainer = self._watch, self._trainer
        if watch is None or trainer is None or (trainer.interrupted and self.error is None):
            return  # another exception ends the run
        took = watch.look(now, self._pulse())
        if took is not None:
            self._tell(trainer, f"the step took {in_words(took)}; the run {'goes on' if self.error is None else 'ends'}.")
        if self.error is not None:
            self._insist(trainer, watch)
        elif watch.is_due(limit := self._limit(trainer)):
            if at_a_prompt(self._trains):
                watch.forgive()
            else:
                watch.reports += 1
                self._report(trainer, watch.idle, limit)
                if self.on_hang == "end":
                    self._end(trainer, watch)

    def _pulse(self) -> tuple[int, ...]:
        """What changes whenever the run moves; the loop counts the batches of training anyway."""
        trainer, batch = self._trainer, self._trainer.fit_loop.progress.batch
        trained = batch.total_ready, batch.started, batch.processed, batch.completed
        return (self._events, trainer.interrupted, *trained, *self.evaluated.values())

    def _limit(self, trainer: Any) -> float:
        """How long the step may take that the run is in."""
        stage = str(trainer.state.stage or "")
        if stage == "train":
            moved = trainer.fit_loop.progress.batch.total_processed > self._trained_before
        else:
            moved = self._evaluated(stage) > 0
        return self.bound if moved else max(self.first, self.bound)

    def _evaluated(self, stage: str) -> int:
        return self.evaluated.get("validate" if stage == "sanity_check" else stage, 0)

    # -- what it does about it ---------------------------------------------------------------------------------------------

    def _tell(self, trainer: Any, text: str) -> None:
        rank = f"rank {trainer.global_rank}: " if trainer.world_size > 1 else ""
        tell(f"lx: watchdog: {rank}{text}\n")

    def _place(self, trainer: Any) -> str:
        return whereabouts(trainer, self._event, self._evaluated(str(trainer.state.stage or "")) - self.evaluated_before)

    def _report(self, trainer: Any, idle: float, limit: float) -> None:
        self._tell(trainer, f"nothing has moved for {in_words(idle)}, and the bound is {in_words(limit)} (process {os.getpid()}).")
        self._tell(trainer, f"where it stands: {self._place(trainer)}.")
        self._tell(trainer, f"threads: {threads(self._trains)}.")
        self._tell(trainer, f"child processes: {children()}.")
        tell_stacks()

    def _end(self, trainer: Any, watch: Watch) -> None:
        """Asks the run to end, at its next boundary if there is one."""
        self.error = WatchdogTimeout(
            f"a step took longer than {in_words(self._limit(trainer))}, the bound of the callback watchdog: {self._place(trainer)}. The"
            " stacks of all threads are on the error stream. Pass a longer bound if it does not hang, or on_hang='report' to have it go on."
        )
        self._deadline = watch.idle + self.grace
        trainer.run.interrupt(self.error)

    def _insist(self, trainer: Any, watch: Watch) -> None:
        """Breaks off what hangs, or, once its time is over, the process; a run that has moved cleans up, with the bound for each step."""
        if watch.reports == 0:
            self._deadline = max(self.bound, self.grace)
        elif watch.reports == 1:
            watch.reports += 1
            self._tell(trainer, "the run is asked to end, and what hangs is broken off.")
            trainer.run.interrupt(self.error, at_once=True)
        if watch.idle >= self._deadline and not at_a_prompt(self._trains):
            self._tell(trainer, f"it has not ended for {in_words(watch.idle)}; the process ends with the exit code {EXIT_CODE}.")
            end_process(trainer)


def end_process(trainer: Any) -> None:
    """Ends this process at once, and those that it has launched; output that is buffered is written, unless that hangs, too."""
    if trainer.fabric.launcher is not None:
        with suppress(Exception):
            trainer.fabric.launcher.kill(signal.SIGTERM)
    flush = threading.Thread(target=lambda: (sys.stdout.flush(), sys.stderr.flush()), daemon=True)
    flush.start()
    flush.join(1.0)
    os._exit(EXIT_CODE)


def _seconds(name: str, value: Any) -> float:
    seconds = duration(name, value).total_seconds()
    if seconds <= 0:
        raise MisconfigurationException(f"{name}={value!r}: it must be longer than nothing, such as '10min'.")
    return seconds
