"""When a checkpoint is due: the settings, the clock, and what the Trainer will do next."""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from lx.arguments.limits import count
from lx.arguments.spans import Unit, duration
from lx.kernel.errors import MisconfigurationException
from lx.rank_zero import rank_zero_warn

MOST_BATCHES_UNASKED = 100
"""So many batches may pass before the ranks agree on the time again; one small message in a hundred batches costs nothing."""


@dataclass(frozen=True, slots=True)
class Triggers:
    """What makes a checkpoint due; at most one of the three is on. 0 and None are off."""

    every_n_train_steps: int
    every_n_epochs: int
    train_time_interval: timedelta | None

    @property
    def per_batch(self) -> bool:
        """Whether one of them must be looked at after each batch."""
        return self.every_n_train_steps > 0 or self.train_time_interval is not None


def read_triggers(every_n_train_steps: int | str | None, train_time_interval: Any, every_n_epochs: int | str | None) -> Triggers:
    """Checks the three arguments; with none of them given, every epoch is due. Raises `MisconfigurationException`.

    >>> read_triggers(None, None, None).every_n_epochs, read_triggers("100st", None, None).every_n_train_steps
    (1, 100)
    """
    if every_n_train_steps is None and train_time_interval is None and every_n_epochs is None:
        return Triggers(0, 1, None)
    steps = count("every_n_train_steps", every_n_train_steps, optional=True, unit=Unit.STEPS) or 0
    epochs = count("every_n_epochs", every_n_epochs, optional=True, unit=Unit.EPOCHS) or 0
    interval = None if train_time_interval is None else duration("train_time_interval", train_time_interval)
    if (steps > 0) + (epochs > 0) + (interval is not None) > 1:
        raise MisconfigurationException(
            f"every_n_train_steps={every_n_train_steps!r}, every_n_epochs={every_n_epochs!r} and "
            f"train_time_interval={train_time_interval!r} exclude each other; give one, and use a second ModelCheckpoint for another."
        )
    return Triggers(steps, epochs, interval)


class Countdown:
    """Says after a batch whether an interval has passed since it last said so, the same on every rank: rank 0's clock decides.

    Asking rank 0 after each batch would make every step wait for all ranks. So with each answer rank 0 also says how many batches
    need not ask: half of those that will fit into the rest of the interval, and at most `MOST_BATCHES_UNASKED`.
    """

    def __init__(self, interval: timedelta, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds = interval.total_seconds()
        self._clock = clock
        self.start()

    def start(self) -> None:
        """Begins a new interval."""
        self._since = self._clock()
        self._batches = 0
        self._unasked = 0

    def due(self, strategy: Any) -> bool:
        """Whether the interval has passed; if so a new one begins. Called after every batch, on every rank."""
        self._batches += 1
        if strategy.world_size == 1:
            passed = self._clock() - self._since >= self._seconds
        elif self._unasked > 0:
            self._unasked -= 1
            return False
        else:
            passed, self._unasked = strategy.broadcast(self._answer())
        if passed:
            self.start()
        return passed

    def _answer(self) -> tuple[bool, int]:
        elapsed = self._clock() - self._since
        if elapsed >= self._seconds:
            return True, 0
        fitting = (self._seconds - elapsed) * self._batches / elapsed if elapsed > 0 else 0
        return False, min(int(fitting / 2), MOST_BATCHES_UNASKED)


def saves_at_epoch_end(trainer: Any, forced: bool | None) -> bool:
    """Whether the checkpoint of an epoch is written at the end of the training epoch, and not when a validation run ends."""
    if forced is not None:
        return forced
    if not trainer.enable_validation:
        return True
    # A timedelta equals no number, so time-based validation saves when a validation run ends.
    return bool(trainer.check_val_every_n_epoch == 1 and trainer.val_check_interval == 1.0)


def validation_follows(trainer: Any, batch_idx: int) -> bool:
    """Whether the Trainer validates right after this batch, as far as it can be known before: not where the clock decides."""
    if not trainer.enable_validation or isinstance(trainer.val_check_interval, timedelta):
        return False
    every = trainer.check_val_every_n_epoch
    if every is not None and (trainer.current_epoch + 1) % every:
        return False
    if trainer.val_check_batch == math.inf:
        return bool(trainer.is_last_batch)
    batches = batch_idx + 1 if every is not None else trainer.fit_loop.progress.batch.total_ready
    return bool(batches % trainer.val_check_batch == 0)


def waits_for_value(trainer: Any, monitor: str | None, batch_idx: int) -> bool:
    """Whether a checkpoint that is due after this batch is better written when validation has ended, with a value of the same step."""
    if monitor is None or monitor in ("epoch", "step"):
        return False
    return monitor not in trainer.callback_metrics or validation_follows(trainer, batch_idx)


def is_idle(trainer: Any, saved_step: int) -> bool:
    """Whether nothing may be saved now: not training in earnest, or no step since the last checkpoint."""
    return bool(trainer.fast_dev_run or trainer.sanity_checking or trainer.state.fn != "fit" or trainer.global_step == saved_step)


def epoch_is_due(trainer: Any, every_n_epochs: int) -> bool:
    """Whether the running epoch is one of those that are saved."""
    return every_n_epochs > 0 and (trainer.current_epoch + 1) % every_n_epochs == 0


def no_value(monitor: str, metrics: Mapping[str, Any], validated: bool) -> None:
    """Warns that a due checkpoint cannot be ranked; raises `MisconfigurationException` once validation has had its say."""
    text = (
        f"ModelCheckpoint(monitor={monitor!r}): nothing of that name has been logged, so the checkpoint cannot be ranked. "
        f"There is: {', '.join(sorted(metrics))}. Call self.log({monitor!r}, value) in the LightningModule, or monitor another name."
    )
    if validated:
        raise MisconfigurationException(text)
    rank_zero_warn(f"{text} Nothing is saved this time.")
