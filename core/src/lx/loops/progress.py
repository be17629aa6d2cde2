"""How far a run has come: plain counters, and the nested form in which checkpoints hold them."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

STAGES = ("ready", "started", "processed", "completed")


class BatchProgress:
    """Batches of the current pass, at each of their four stages, and the totals of earlier passes.

    A batch is ready when it was fetched, started after the start hooks, processed after the step, completed after the end hooks.

    >>> progress = BatchProgress()
    >>> progress.ready = progress.started = progress.processed = progress.completed = 3
    >>> progress.begin()
    >>> progress.state_dict()["total"]["ready"], progress.state_dict()["current"]["ready"]
    (3, 0)
    """

    __slots__ = ("before", "completed", "is_last_batch", "processed", "ready", "started")

    def __init__(self) -> None:
        self.ready = self.started = self.processed = self.completed = 0
        self.before = dict.fromkeys(STAGES, 0)
        self.is_last_batch = False

    def begin(self) -> None:
        """Begins a new pass from zero."""
        for stage in STAGES:
            self.before[stage] += getattr(self, stage)
            setattr(self, stage, 0)
        self.is_last_batch = False

    def forget_total(self) -> None:
        """Has the totals begin at zero, while the current pass stays to be seen."""
        for stage in STAGES:
            self.before[stage] = -getattr(self, stage)

    def discard(self) -> None:
        """Has the current pass never been."""
        self.ready = self.started = self.processed = self.completed = 0

    def rewind(self) -> None:
        """Goes back to the last batch that was processed: what had only begun is done again."""
        self.ready = self.started = self.completed = self.processed

    @property
    def total_ready(self) -> int:
        """Batches fetched over all passes."""
        return self.before["ready"] + self.ready

    @property
    def cut_short(self) -> bool:
        """Whether the pass ended without its last batch, and not since the module wanted to go on with the next one."""
        return not self.is_last_batch and self.started == self.ready

    @property
    def total_processed(self) -> int:
        """Batches that went through their step, over all passes."""
        return self.before["processed"] + self.processed

    def state_dict(self) -> dict[str, Any]:
        """The counters as a checkpoint holds them."""
        current = {stage: getattr(self, stage) for stage in STAGES}
        total = {stage: self.before[stage] + current[stage] for stage in STAGES}
        return {"total": total, "current": current, "is_last_batch": self.is_last_batch}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes up what `state_dict` gave."""
        for stage in STAGES:
            setattr(self, stage, state["current"][stage])
            self.before[stage] = state["total"][stage] - state["current"][stage]
        self.is_last_batch = state.get("is_last_batch", False)


class EvaluationProgress:
    """How far one kind of evaluation has come, which `trainer.validate_loop`, `test_loop` and `predict_loop` tell.

    `max_batches` holds the batches of each loader, in the last run of it.
    """

    def __init__(self) -> None:
        self.batch_progress = BatchProgress()
        self.max_batches: list[int | float] = []

    @property
    def num_dataloaders(self) -> int:
        """The number of loaders."""
        return len(self.max_batches)

    def state_dict(self) -> dict[str, Any]:
        """The evaluation's part of a checkpoint."""
        return {"state_dict": {}, "batch_progress": self.batch_progress.state_dict()}


class FitProgress:
    """All counters of a fit. `steps` counts optimizer steps, `windows` accumulation windows, which is the loggers' axis."""

    def __init__(self) -> None:
        self.epoch = dict.fromkeys(STAGES, 0)
        self.batch = BatchProgress()
        self.val_batch = BatchProgress()
        self.steps = 0
        self.steps_before = 0
        self.windows = 0
        self.windows_before = 0
        self.schedules = 0
        self.schedules_before = 0
        self.manual = False

    @property
    def completed_epochs(self) -> int:
        """The epochs that are over, end hooks included."""
        return self.epoch["completed"]

    def begin_epoch(self) -> None:
        """Begins a new pass over the data."""
        self.batch.begin()
        self.val_batch.forget_total()  # a file holds those of one epoch
        self.steps_before, self.schedules_before = self.steps, self.schedules
        self.windows_before = self.windows

    @contextmanager
    def at_last_batch(self) -> Iterator[None]:
        """Within it the counters stand at the last batch of the last epoch, as they did when that was over."""
        self.windows -= 1
        self.epoch["completed"] -= 1
        yield
        self.windows += 1
        self.epoch["completed"] += 1

    def state_dict(self) -> dict[str, Any]:
        """The fit loop's part of a checkpoint, under the keys that Lightning uses."""
        automatic = 0 if self.manual else self.steps, 0 if self.manual else self.steps - self.steps_before
        by_hand = self.steps if self.manual else 0
        return {
            "state_dict": {},
            "epoch_loop.state_dict": {"_batches_that_stepped": self.windows},
            "epoch_loop.batch_progress": self.batch.state_dict(),
            "epoch_loop.scheduler_progress": {"total": _pair(self.schedules), "current": _pair(self.schedules - self.schedules_before)},
            "epoch_loop.automatic_optimization.state_dict": {},
            "epoch_loop.automatic_optimization.optim_progress": {
                "optimizer": {
                    "step": {"total": _pair(automatic[0]), "current": _pair(automatic[1])},
                    # Gradients are cleared once for each step.
                    "zero_grad": {"total": _triple(automatic[0]), "current": _triple(automatic[1])},
                }
            },
            "epoch_loop.manual_optimization.state_dict": {},
            # Steps that a module takes itself are not counted by epochs.
            "epoch_loop.manual_optimization.optim_step_progress": {"total": _pair(by_hand), "current": _pair(by_hand)},
            "epoch_loop.val_loop.state_dict": {},
            "epoch_loop.val_loop.batch_progress": self.val_batch.state_dict(),
            "epoch_progress": {"total": dict(self.epoch), "current": dict(self.epoch)},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes up what `state_dict` gave, here or in Lightning."""
        automatic = state["epoch_loop.automatic_optimization.optim_progress"]["optimizer"]
        manual = state["epoch_loop.manual_optimization.optim_step_progress"]
        # Files of Lightning before 1.6 do not say which of the two it was, and have both.
        chosen = manual if manual["total"]["completed"] > automatic["step"]["total"]["completed"] else automatic["step"]
        self.manual = chosen is manual
        self.steps = chosen["total"]["completed"]
        self.steps_before = self.steps - chosen["current"]["completed"]
        moves = state["epoch_loop.scheduler_progress"]
        self.schedules = moves["total"]["completed"]
        self.schedules_before = self.schedules - moves["current"]["completed"]
        self.windows = state["epoch_loop.state_dict"].get("_batches_that_stepped", self.steps)
        self.windows_before = state["state_dict"].get("windows_before", self.windows - (self.steps - self.steps_before))
        self.batch.load_state_dict(state["epoch_loop.batch_progress"])
        self.val_batch.load_state_dict(state["epoch_loop.val_loop.batch_progress"])
        self.epoch = {stage: state["epoch_progress"]["current"][stage] for stage in STAGES}


def _pair(number: int) -> dict[str, int]:
    return {"ready": number, "completed": number}


def _triple(number: int) -> dict[str, int]:
    return {"ready": number, "started": number, "completed": number}
