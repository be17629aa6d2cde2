"""Timer: how long each stage has run, and the end of training after a set time."""

import math
from datetime import timedelta
from time import monotonic
from typing import Any

from lx.arguments.spans import duration as read_duration
from lx.interfaces import Callback
from lx.kernel.errors import MisconfigurationException
from lx.rank_zero import rank_zero_info
from lx_plugin_timer.stopwatch import Stopwatch

STAGES = ("train", "sanity_check", "validate", "test", "predict")

MOST_BATCHES_UNASKED = 100
"""So many batches may pass before the ranks agree on the time again; one small message in a hundred batches costs nothing."""


def starts(stage: str) -> Any:
    """A hook that starts a stage's stopwatch."""

    def hook(self: "Timer", trainer: Any, pl_module: Any) -> None:
        """Begins to measure."""
        if not (trainer.sanity_checking and stage == "validate"):
            self.stages[stage].start()

    return hook


def stops(stage: str) -> Any:
    """A hook that stops a stage's stopwatch."""

    def hook(self: "Timer", trainer: Any, pl_module: Any) -> None:
        """Stops measuring."""
        self.stages[stage].stop()

    return hook


class Timer(Callback):
    """Measures how long the stages of a run take, and ends training when it has taken as long as it may.

    Training time includes validation, and that of earlier runs if this one was resumed. It is compared when `fit` begins, and after
    each batch or epoch. Rank 0's clock decides for all; several ranks agree on it the more often the nearer the end is, so that a
    step does not have to wait for all of them. `Trainer(max_time=...)` adds this callback if no other timer is there.

    Args:
        duration: How long to train: `"90min"`, `"1h30min"`, `"DD:HH:MM:SS"`, a timedelta, or its keyword arguments, such as
            `{"hours": 12}`; None: no limit.
        interval: `"step"` to compare after each batch, `"epoch"` after each epoch.
        verbose: Whether the end is reported to the logger `lx`, at level INFO.

    Raises:
        MisconfigurationException: for anything else; epochs and steps are bounds of the Trainer.

    >>> timer = Timer("90min", interval="epoch")
    >>> timer.time_remaining(), timer.time_elapsed(), timer.listens_to("on_train_batch_end")
    (5400.0, 0.0, False)
    """

    roles = frozenset({"timer"})

    def __init__(self, duration: str | timedelta | dict[str, float] | None = None, interval: str = "step", verbose: bool = True) -> None:
        if interval not in ("step", "epoch"):
            raise MisconfigurationException(f"interval={interval!r}: it must be 'step' or 'epoch'.")
        self.duration = None if duration is None else read_duration("duration", duration).total_seconds()
        self.interval = interval
        self.verbose = verbose
        self.stages = {stage: Stopwatch() for stage in STAGES}
        self._over = False
        self._batches = 0
        self._unasked = 0
        self._unhurried_until = math.inf

    def listens_to(self, event: str) -> bool:
        """Batches and epochs only where the clock is looked at after them, unless a subclass has its own code for them."""
        idle = {
            "on_train_batch_end": self.duration is None or self.interval != "step",
            "on_train_epoch_end": self.duration is None or self.interval != "epoch",
        }
        if idle.get(event) and getattr(type(self), event) is getattr(Timer, event):
            return False
        return super().listens_to(event)

    # -- what was measured -----------------------------------------------------------------------------------------------

    def start_time(self, stage: str = "train") -> float | None:
        """When the stage last began, on the monotonic clock, in seconds; None if it did not."""
        return self._stage(stage).started

    def end_time(self, stage: str = "train") -> float | None:
        """When the stage last ended, on the monotonic clock, in seconds; None if it did not, or runs."""
        return self._stage(stage).stopped

    def time_elapsed(self, stage: str = "train") -> float:
        """How long the stage has run, in seconds: in this fit, and in those from which it was resumed."""
        return self._stage(stage).elapsed

    def time_remaining(self, stage: str = "train") -> float | None:
        """What is left of `duration`, in seconds, negative when it was exceeded; None without one."""
        return None if self.duration is None else self.duration - self.time_elapsed(stage)

    def _stage(self, stage: str) -> Stopwatch:
        if stage not in self.stages:
            raise ValueError(f"stage={stage!r}: it must be one of {', '.join(STAGES)}.")
        return self.stages[stage]

    # -- the run ---------------------------------------------------------------------------------------------------------

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Forgets what an earlier run in this process took; a checkpoint that is resumed from is read after this."""
        for name in STAGES if stage == "fit" else [stage]:
            self.stages[name] = Stopwatch()
        self._over = False

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        """Ends training before it begins, if the runs before took all of its time."""
        self._batches = self._unasked = 0
        self._compare(trainer)

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Begins to measure; compares again, since some strategies restore a checkpoint only now."""
        watch = self.stages["train"]
        watch.start()
        self._compare(trainer)
        if self.duration is None or self.interval != "step":
            self._unhurried_until = math.inf
        elif trainer.world_size > 1:
            self._unhurried_until = -math.inf  # rank 0's clock decides, which takes asking
        else:
            self._unhurried_until = (watch.started or 0.0) + self.duration - watch.before

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Ends training if its time is over."""
        if monotonic() < self._unhurried_until:
            return
        self._batches += 1
        if self._unasked > 0:
            self._unasked -= 1
        else:
            self._compare(trainer)

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Ends training if its time is over."""
        if self.interval == "epoch":
            self._compare(trainer)

    on_train_end = stops("train")
    on_sanity_check_start, on_sanity_check_end = starts("sanity_check"), stops("sanity_check")
    on_validation_start, on_validation_end = starts("validate"), stops("validate")
    on_test_start, on_test_end = starts("test"), stops("test")
    on_predict_start, on_predict_end = starts("predict"), stops("predict")

    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Stops measuring what an exception has ended."""
        for watch in self.stages.values():
            watch.stop()

    def _compare(self, trainer: Any) -> None:
        """Asks rank 0 whether the time is over; once it is, nobody needs to be asked again."""
        if self.duration is None:
            return
        if not self._over:
            self._over, self._unasked = trainer.strategy.broadcast(self._answer(trainer.world_size))
            if self._over and self.verbose:
                rank_zero_info(f"Timer: training has taken {timedelta(seconds=int(self.time_elapsed()))}, all of its time. It stops.")
        if self._over:
            trainer.should_stop = True

    def _answer(self, world_size: int) -> tuple[bool, int]:
        """Whether the time is over, and how many batches need not ask: half of those that fit into the rest; none in one process."""
        remaining, running = self.time_remaining() or 0.0, self.stages["train"].running
        if remaining <= 0 or world_size == 1 or running <= 0:
            return remaining <= 0, 0
        return False, min(int(remaining * self._batches / running / 2), MOST_BATCHES_UNASKED)

    # -- state -----------------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """The time of each stage, in seconds."""
        return {"time_elapsed": {stage: watch.elapsed for stage, watch in self.stages.items()}}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Counts on from there."""
        for stage, elapsed in state_dict.get("time_elapsed", {}).items():
            if stage in self.stages:
                self.stages[stage].before = float(elapsed)
