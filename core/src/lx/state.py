"""Which entry point runs, in which stage, and how it ended."""

from dataclasses import dataclass
from enum import StrEnum


class TrainerFn(StrEnum):
    """The entry point that was called; it is the `stage` handed to `setup` and `teardown`.

    >>> TrainerFn.FITTING == "fit"
    True
    """

    FITTING = "fit"
    VALIDATING = "validate"
    TESTING = "test"
    PREDICTING = "predict"


class TrainerStatus(StrEnum):
    """How far the last entry point came."""

    INITIALIZING = "initializing"
    RUNNING = "running"
    FINISHED = "finished"
    INTERRUPTED = "interrupted"

    @property
    def stopped(self) -> bool:
        """Whether nothing runs any more."""
        return self in (TrainerStatus.FINISHED, TrainerStatus.INTERRUPTED)


class RunningStage(StrEnum):
    """What is going on right now; validation and the sanity check happen inside of `fit`, too."""

    TRAINING = "train"
    SANITY_CHECKING = "sanity_check"
    VALIDATING = "validate"
    TESTING = "test"
    PREDICTING = "predict"

    @property
    def evaluating(self) -> bool:
        """Whether batches are evaluated, not trained on."""
        return self in (RunningStage.VALIDATING, RunningStage.TESTING, RunningStage.SANITY_CHECKING)

    @property
    def dataloader_prefix(self) -> str | None:
        """The prefix of the loader hook: `val` for `val_dataloader`."""
        return "val" if self in (RunningStage.VALIDATING, RunningStage.SANITY_CHECKING) else self.value


@dataclass(slots=True)
class TrainerState:
    """The state of a trainer: entry point, status, stage."""

    fn: TrainerFn | None = None
    status: TrainerStatus = TrainerStatus.INITIALIZING
    stage: RunningStage | None = None

    training = property(lambda self: self.stage is RunningStage.TRAINING, doc="Whether batches are trained on.")
    validating = property(lambda self: self.stage is RunningStage.VALIDATING, doc="Whether batches are validated.")
    testing = property(lambda self: self.stage is RunningStage.TESTING, doc="Whether batches are tested.")
    predicting = property(lambda self: self.stage is RunningStage.PREDICTING, doc="Whether batches are predicted.")
    sanity_checking = property(lambda self: self.stage is RunningStage.SANITY_CHECKING, doc="Whether this is the check before training.")
    evaluating = property(lambda self: self.stage is not None and self.stage.evaluating, doc="Whether batches are evaluated.")
    interrupted = property(lambda self: self.status is TrainerStatus.INTERRUPTED, doc="Whether the last run was ended by an exception.")
