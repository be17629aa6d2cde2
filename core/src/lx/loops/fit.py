"""Training: epochs until a bound is reached or somebody asks to stop."""

import math
from collections.abc import Callable, Iterator
from typing import Any

from lx.arguments.bounds import count_steps, counted
from lx.arguments.spans import Unit
from lx.checkpoints.unfinished import random_states, restore_meters, restore_random
from lx.data.combined import length_of
from lx.dataloader_iter import handed_to
from lx.kernel.errors import MisconfigurationException, RewindRun
from lx.loops.evaluate import Evaluation
from lx.loops.progress import FitProgress
from lx.loops.resume import Resumption, find_place, restore_loaders, settle_epoch, settle_plateaus
from lx.loops.rewind import restore_all
from lx.loops.train_epoch import TrainEpoch
from lx.loops.training_data import TrainingData
from lx.rank_zero import rank_zero_debug, rank_zero_info, rank_zero_warn
from lx.rng import isolate_rng
from lx.state import RunningStage


class FitLoop:
    """The fit loop; `trainer.fit_loop`.

    sanity check                            (a few validation batches, leaving no trace)
    on_train_start
    until done:
        [loaders asked for again, if due]
        on_train_epoch_start                (not when an epoch is resumed midway)
        one pass over the data              (see TrainEpoch)
        on_train_epoch_end
        plateau schedulers by epoch
        epoch values to the loggers
    on_train_end
    """

    max_epochs = counted(least=-1, optional=True, unit=Unit.EPOCHS)
    min_epochs = counted(optional=True, unit=Unit.EPOCHS)
    max_steps = counted(least=-1, unit=Unit.STEPS)
    min_steps = counted(optional=True, unit=Unit.STEPS)

    def __init__(self, trainer: Any) -> None:
        self._trainer = trainer
        self.progress = FitProgress()
        self.data = TrainingData(trainer, self.progress)
        limits = trainer.limits
        self.max_epochs, self.min_epochs = limits.max_epochs, limits.min_epochs
        self.max_steps, self.min_steps = limits.max_steps, limits.min_steps
        self.val_check_batch: int | float = math.inf
        self.epoch_loop: TrainEpoch | None = None
        self.validation: Evaluation | None = None
        self.before_validation: dict[str, Any] = {}  # the states of random generators
        self.carried: dict[str, Any] | None = None  # what a checkpoint holds beside the counters
        self.around_step: Callable[[Callable[[Any, int], Any]], Callable[[Any, int], Any]] | None = None
        """What a callback puts around `training_step`, in `on_fit_start`: it may return a `Skipped` for a batch."""
        self._place = Resumption()
        self._told = False

    def run(self) -> None:
        """Runs the whole of fit, from the progress on."""
        trainer = self._trainer
        self.validation = (
            Evaluation(trainer, RunningStage.VALIDATING, trainer.limits.limit_val_batches) if trainer.enable_validation else None
        )
        carried, self.carried = self.carried, None
        self._place = find_place(trainer, self.progress, carried, self.max_epochs)
        if trainer.limits.limit_train_batches == 0 or self._is_done():
            settle_epoch(trainer, self._place)
            return
        self._sanity_check()
        trainer.state.stage = RunningStage.TRAINING
        self.load_data()
        self._place = restore_loaders(self.data.loader, self._place, carried)
        if self.data.num_batches == 0:
            rank_zero_info("fit ends at once: there are no training batches.")
            return
        if self.validates_in_this_epoch():
            assert self.validation is not None
            trainer.state.stage = RunningStage.VALIDATING
            self.validation.load_data()
            trainer.state.stage = RunningStage.TRAINING
        if self._is_done():  # the sanity check may have asked to stop
            return
        self.epoch_loop = TrainEpoch(trainer, self)
        trainer.log.begin_stage(trainer.train_meters, training=True)
        settle_epoch(trainer, self._place)
        trainer.dispatch.emit("on_train_start")
        trainer.log.settle()
        while not self._is_done():
            content: dict[str, Any] | None = None
            try:
                self._run_epoch(self.epoch_loop)
            except RewindRun as rewind:
                content = rewind.content
            if content is not None:  # and the frames of the step are gone
                self._go_back(content)
        trainer.dispatch.emit("on_train_end")

    def _go_back(self, content: dict[str, Any]) -> None:
        """Goes back to a checkpoint, as a run that is resumed from it would begin; nobody is told that training starts or ends."""
        restore_all(self._trainer, content)
        carried, self.carried = self.carried, None
        self._place = find_place(self._trainer, self.progress, carried, self.max_epochs)
        self.load_data()
        self._place = restore_loaders(self.data.loader, self._place, carried)
        self.epoch_loop = TrainEpoch(self._trainer, self)
        settle_epoch(self._trainer, self._place)

    def _run_epoch(self, epoch: TrainEpoch) -> None:
        trainer, progress = self._trainer, self.progress
        trainer.log.at_step = True
        place, self._place = self._place, Resumption()
        iterator = self._go_on(place) if place.within_epoch else self._begin(epoch, place)
        if place.within_epoch or not (trainer.should_stop and self.may_stop()):  # a hook of the epoch's start may have asked to stop
            iterator = iterator if trainer.barebones else self.data.samples.fetched(iterator)
            iterator = trainer.dispatch.fetched(iterator, "[_TrainingEpochLoop].train_dataloader_next")
            iterator = handed_to(trainer.lightning_module.training_step, iterator)
            with trainer.dispatch.action("run_training_epoch"):
                epoch.run(iterator, self.data.num_batches, length_of(self.data.loader) != math.inf, place)
            if not progress.batch.ready:
                rank_zero_warn(
                    "an epoch had no batches: the training loader gave none. An iterator, such as a generator, can be gone through once;"
                    " pass what can be iterated again, such as a DataLoader or a list."
                )
        progress.epoch["processed"] += 1
        self.data.samples.end()
        trainer.log.batch = trainer.log.batch_size = None
        trainer.log.settle()
        trainer.dispatch.emit("on_train_epoch_end")
        trainer.log.settle()
        # Like the others, these have not seen an epoch that max_steps or should_stop ends, in which their value may not have been logged.
        plateaus, index = [] if progress.batch.cut_short else epoch.schedule.plateau_by_epoch, progress.epoch["completed"] + 1
        if place.within_epoch:  # what the batches before logged may be unknown
            settle_plateaus(trainer, epoch.schedule, plateaus, index)
        else:
            epoch.schedule.move(plateaus, index)
        # The epoch's values stand at the axis of its last batch.
        progress.windows -= 1
        trainer.log.send(trainer.log.collect())
        progress.windows += 1
        trainer.log.end_epoch()
        progress.epoch["completed"] += 1
        if trainer.received_sigterm:
            trainer.run.termination.end_here()

    def _begin(self, epoch: TrainEpoch, place: Resumption) -> Iterator[Any]:
        """Begins an epoch; returns its batches."""
        restore_random(self._trainer, place.random)
        self.load_data()
        iterator = self.data.iterate()
        self.progress.epoch["ready"] += 1
        self.progress.begin_epoch()
        epoch.optimize.begin_epoch()
        self._trainer.dispatch.emit("on_train_epoch_start")
        self.progress.epoch["started"] += 1
        if self.data.loader is not None:
            return iterator
        self.load_data()  # a hook of the epoch's start has changed the data
        return self.data.iterate()

    def _go_on(self, place: Resumption) -> Iterator[Any]:
        """Goes on with an epoch where the checkpoint left it; returns the rest of its batches."""
        self.load_data()
        restore_meters(self._trainer, place.meters)
        return self.data.go_on(place)

    @property
    def generators(self) -> tuple[list[Any], list[Any]]:
        """The random generators that the loaders of training and of validation hold."""
        return self.data.generators, self.validation.generators if self.validation is not None else []

    @property
    def validation_is_unfinished(self) -> bool:
        """Whether a validation of the epoch runs that has batches left."""
        batch = self.progress.val_batch
        done = 0 < batch.ready == batch.completed and batch.is_last_batch
        return self._trainer.state.stage is RunningStage.VALIDATING and not done

    # -- what a trainer tells of it ---------------------------------------------------------------------------------------

    @property
    def enable_validation(self) -> bool:
        """Whether this fit validates."""
        run = self._trainer.run
        return run is not None and run.validates

    @property
    def logging_due(self) -> bool:
        """Whether the step values of the batch that runs go to the loggers."""
        return self.epoch_loop is not None and self.epoch_loop.flush_is_due()

    @property
    def num_val_batches(self) -> list[int | float]:
        """The validation batches of each loader."""
        return self.validation.num_batches if self.validation is not None else []

    @property
    def estimated_stepping_batches(self) -> int | float:
        """How many optimizer steps this fit will take; `inf` if nothing bounds them. Loads the training loader."""
        bound: int | float = math.inf if self.max_steps == -1 else self.max_steps
        if self.max_epochs == -1:
            return bound
        self.load_data()
        if self.data.num_batches == math.inf:
            return bound
        limits, batches, epochs = self._trainer.limits, int(self.data.num_batches), max(self.max_epochs or 1, 1)
        if callable(limits.accumulate_grad_batches):
            return count_steps(limits.window_size, batches, epochs, bound)
        return min(bound, math.ceil(batches / int(limits.window_size(0))) * epochs)

    # -- when to stop ----------------------------------------------------------------------------------------------------

    def _is_done(self) -> bool:
        completed = self.progress.epoch["completed"]
        if (self.progress.steps == self.max_steps and not self._place.within_epoch) or (
            self.max_steps != -1 and self.progress.steps > self.max_steps
        ):
            rank_zero_info(f"fit ends: max_steps={self.max_steps} is reached.")
            return True
        if self.max_epochs is not None and self.max_epochs != -1 and completed >= self.max_epochs:
            rank_zero_info(f"fit ends: max_epochs={self.max_epochs} is reached.")
            return True
        if self._trainer.should_stop and self.may_stop() and not self._place.within_epoch:
            rank_zero_debug("fit ends: should_stop is set.")
            return True
        return False

    def may_stop(self) -> bool:
        """Whether the minimums are met, so that `should_stop` is obeyed."""
        met = self.progress.epoch["completed"] >= self.min_epochs and self.progress.steps >= (self.min_steps or 0)
        if not met and not self._told:
            self._told = True
            rank_zero_info(
                f"a stop was asked for; min_epochs={self.min_epochs} and min_steps={self.min_steps} are not met yet, so fit goes on."
            )
        return met

    # -- data ------------------------------------------------------------------------------------------------------------

    def forget_data(self) -> None:
        """Lets go of the loaders, so that they are asked for again: those of training when the next epoch begins, which may be done in
        the hooks of its start, too, those of validation when it is run."""
        self.data.forget()
        if self.validation is not None:
            self.validation.forget_data()

    def load_data(self) -> None:
        """Asks for the training loader, if that has not been done, or is due again; raises `MisconfigurationException` before there is one
        to ask for."""
        if self.data.load():
            self.val_check_batch = self._validation_interval(length_of(self.data.loader))

    def _validation_interval(self, length: int | float) -> int | float:
        """Every how many batches to validate: `inf` for never by count."""
        limits, batches = self._trainer.limits, self.data.num_batches
        interval = limits.val_check_interval
        if limits.val_check_seconds is not None or not self._trainer.enable_validation:
            return math.inf
        if isinstance(interval, int):
            if interval > batches and limits.check_val_every_n_epoch is not None:
                raise ValueError(
                    f"val_check_interval={interval} is more than the {batches} batches of an epoch; lower it, or count across epochs with"
                    " check_val_every_n_epoch=None."
                )
            return interval
        if batches == math.inf or (length == math.inf and interval == 1.0):
            if interval == 1.0:
                return batches if batches != math.inf else math.inf
            raise MisconfigurationException(
                f"val_check_interval={interval!r} is a fraction, and the training loader has no length; give a number of batches, a time,"
                " or 1.0."
            )
        return max(1, int(batches * interval))

    # -- validation ------------------------------------------------------------------------------------------------------

    def validates_in_this_epoch(self) -> bool:
        """Whether the running epoch is one with validation."""
        every = self._trainer.limits.check_val_every_n_epoch
        return self.validation is not None and (every is None or (self.progress.epoch["completed"] + 1) % every == 0)

    def validate(self, clears_gradients: bool) -> None:
        """A validation inside of the epoch; the training metrics and modes are as before when it returns."""
        assert self.validation is not None
        trainer = self._trainer
        self.before_validation = random_states(trainer)
        trainer.state.stage = RunningStage.VALIDATING
        if clears_gradients:
            trainer.dispatch.call_own("on_validation_model_zero_grad")
        self.validation.run(reload=self.data.is_reload_due(self.validation.loaded_in), progress=self.progress.val_batch)
        trainer.state.stage = RunningStage.TRAINING

    def _sanity_check(self) -> None:
        trainer = self._trainer
        steps = trainer.limits.num_sanity_val_steps
        if self.validation is None or not steps or self._place.within_epoch:
            return
        trainer.state.stage = RunningStage.SANITY_CHECKING
        before = trainer.log.published.snapshot()
        with isolate_rng():
            trainer.dispatch.emit("on_sanity_check_start")
            self.validation.run(at_most=steps, quiet=True)
            trainer.dispatch.emit("on_sanity_check_end")
        trainer.log.published.restore(before)
        trainer.val_meters.clear()
