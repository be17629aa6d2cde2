"""One pass over the training data."""

import math
import time
from collections.abc import Iterator
from typing import Any

from lx.checkpoints.unfinished import restore_window
from lx.data.source import Batches
from lx.loops.manual import ManualOptimization
from lx.loops.optimize import AutomaticOptimization
from lx.loops.resume import Resumption, settle_plateaus
from lx.loops.schedule import Schedule


class TrainEpoch:
    """One pass over the training loader.

    for each batch:
        transfer to the device
        on_train_batch_start                    (the module's may return -1: the epoch ends here)
        optimize                                (see AutomaticOptimization)
        schedulers: by step, and on the last batch by epoch
        on_train_batch_end
        step values to the loggers              (every log_every_n_steps windows)
        validation                              (when due)
        plateau schedulers by step
        stop?                                   (max_steps, should_stop)
    """

    def __init__(self, trainer: Any, fit_loop: Any) -> None:
        self._trainer = trainer
        self._fit = fit_loop
        self._take_optimizers()
        self.schedule = Schedule(trainer)
        limits = trainer.limits
        self._flush_every = 1 if limits.fast_dev_run else limits.log_every_n_steps
        self._seconds = limits.val_check_seconds
        self._last_validation = time.monotonic()
        self._source: Batches | None = None

    @property
    def ahead(self) -> tuple[Any, ...]:
        """The batch that was fetched and not trained on yet, of a loader without a length."""
        return self._source.ahead if self._source is not None else ()

    def end(self) -> None:
        """Lets go of the iterator, whose workers would outlive the fit."""
        self._source = None

    def run(self, loader: Iterator[Any], total: int | float, sized: bool, place: Resumption) -> None:
        """Trains on the batches of an iterator, from the progress on; `total` is their number, `inf` if it is unknown."""
        progress = self._fit.progress
        if self._optimizers is not self._trainer.optimizers:  # others were assigned to trainer.optimizers
            self._trainer.run.hand_out_optimizers()
            self._take_optimizers()
        if not place.within_epoch or self._goes_on(loader, total, sized, place):
            self._source = Batches(loader, total, sized=sized, start=progress.batch.ready)
            self._train_on(self._source, total, sized)
        if self.optimize.held:
            # The batches came to an end earlier than the loader said, or at the module's wish: the window closes with what it holds.
            self.optimize.finish()
            self.schedule.after_batch(self._steps_of_epoch(), closes=True, is_last=False)
            progress.windows += 1
        if progress.batch.started < progress.batch.ready:  # the module ended the epoch, of which this is the end, too
            self.schedule.move(self.schedule.by_epoch, progress.completed_epochs + 1)

    def _take_optimizers(self) -> None:
        trainer = self._trainer
        self._optimizers = trainer.optimizers
        automatic = trainer.lightning_module.automatic_optimization
        self.optimize = AutomaticOptimization(trainer) if automatic else ManualOptimization(trainer)

    def _train_on(self, source: Batches, total: int | float, sized: bool) -> None:
        trainer, fit, log, progress = self._trainer, self._fit, self._trainer.log, self._fit.progress
        batches, optimize, transfer, schedule = progress.batch, self.optimize, trainer.transfer, self.schedule
        batch_start, batch_end = trainer.dispatch.on_train_batch_start, trainer.dispatch.on_train_batch_end
        flush_every = self._flush_every if log.muted is None else 0
        validates = fit.validates_in_this_epoch()
        accumulates = trainer.accumulate_grad_batches != 1
        train = trainer.dispatch.measured(optimize.run if accumulates else optimize.shortest(), "run_training_batch")
        closes, moves, plateau = True, schedule.moves, schedule.plateau_by_step
        max_steps = math.inf if trainer.max_steps == -1 else trainer.max_steps

        for batch_idx, batch in source:
            batches.ready = number = batch_idx + 1
            batches.is_last_batch = is_last = batch_idx == source.last
            batch = transfer(batch)
            log.batch, log.batch_size = batch, None
            if batch_start is not None and batch_start(batch, batch_idx) == -1:
                batches.processed = number
                break
            batches.started = number
            if accumulates:
                closes = optimize.closes_window(total - batch_idx, is_last)
            train(batch, batch_idx, closes)
            batches.processed = number
            if moves:
                schedule.after_batch(self._steps_of_epoch(), closes, is_last)
            if batch_end is not None:
                batch_end(optimize.outputs(), batch, batch_idx)
            batches.completed = number
            if flush_every and closes and ((progress.windows + 1) % flush_every == 0 or trainer.should_stop):
                log.send(log.collect())
            if validates and self._validation_is_due(batch_idx, is_last, total, sized):
                self._validate(closes)
            if plateau and closes:
                schedule.move(plateau, self._steps_of_epoch())
            progress.windows += closes
            if (progress.steps >= max_steps or trainer.should_stop or trainer.received_sigterm) and self._ends_here():
                optimize.begin_epoch()  # a window that is open is given up
                break

    def _goes_on(self, loader: Iterator[Any], total: int | float, sized: bool, place: Resumption) -> bool:
        """Brings the epoch of a checkpoint to where its next batch can come; returns whether one may."""
        trainer, fit, progress = self._trainer, self._fit, self._fit.progress
        ready = progress.batch.ready
        if place.gradients is not None:
            restore_window(trainer, self.optimize, place.gradients, place.window or {})
        elif place.loaders_go_on and place.held:
            # The batches of the open window do not come again: it closes where it would have, with the mean gradient of the others.
            self.optimize.closes_window(total - ready + place.held, False)
            self.optimize.held = place.held
        again = range(ready - place.again, ready)
        for batch_idx, batch in zip(again, loader, strict=False):
            # Their gradients are not in the checkpoint. Of all else that they did the first time, nothing is done again.
            self.optimize.closes_window(total - batch_idx, False)
            with trainer.log.aside():
                self.optimize.run(trainer.transfer(batch), batch_idx, False)
        if place.after_batch:
            is_last, closes = progress.batch.is_last_batch, not place.held
            if place.sends and closes and self.flush_is_due() and trainer.log.muted is None:
                trainer.log.send(trainer.log.collect())
            if place.validates and fit.validates_in_this_epoch() and self._validation_is_due(ready - 1, is_last, total, sized):
                self._validate(closes)
            if closes:
                settle_plateaus(trainer, self.schedule, self.schedule.plateau_by_step, self._steps_of_epoch())
            progress.windows += closes
        return not ((-1 < trainer.max_steps <= progress.steps or trainer.should_stop) and self._ends_here())

    def _steps_of_epoch(self) -> int:
        """The number of windows closed in this epoch, the one of this batch included."""
        return self._fit.progress.windows - self._fit.progress.windows_before + 1  # type: ignore[no-any-return]

    def _ends_here(self) -> bool:
        """Whether the epoch ends with this batch; after SIGTERM the run does."""
        if -1 < self._trainer.max_steps <= self._fit.progress.steps or (self._trainer.should_stop and self._fit.may_stop()):
            return True
        if self._trainer.received_sigterm:
            self._trainer.run.termination.end_here(self._fit.progress.windows)
        return False

    def flush_is_due(self) -> bool:
        """Whether the step values of the batch that runs go to the loggers."""
        due = bool(self._flush_every) and (self._fit.progress.windows + 1) % self._flush_every == 0
        return due or bool(self._trainer.should_stop)

    def _validation_is_due(self, batch_idx: int, is_last: bool, total: int | float, sized: bool) -> bool:
        fit = self._fit
        if self._trainer.should_stop and fit.may_stop():
            return True
        if self._seconds is not None:
            due = time.monotonic() - self._last_validation >= self._seconds
            return bool(self._trainer.fabric.broadcast(due)) if self._trainer.world_size > 1 else due
        if is_last and not sized and fit.val_check_batch == math.inf:
            return True
        if fit.val_check_batch == math.inf:
            return False
        index = batch_idx if self._trainer.limits.check_val_every_n_epoch is not None else fit.progress.batch.total_ready - 1
        return bool((index + 1) % fit.val_check_batch == 0)

    def _validate(self, closes: bool) -> None:
        self._fit.validate(clears_gradients=closes)
        self._last_validation = time.monotonic()
