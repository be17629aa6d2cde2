"""When learning rate schedulers move, and with which metric."""

from typing import Any

from lx.kernel.errors import MisconfigurationException
from lx.rank_zero import rank_zero_warn


class Schedule:
    """The schedulers of a run, sorted by the moment at which they move; empty moments cost nothing.

    Ordinary ones move after each accumulation window, or on the epoch's last batch before its end hooks; plateau ones after the
    validation that they look at: after the batch's, or after all hooks of the epoch's end. Where something around `training_step` may skip
    batches, a window that took no step moves none.
    """

    def __init__(self, trainer: Any) -> None:
        configs = trainer.lr_scheduler_configs if trainer.lightning_module.automatic_optimization else []
        self._trainer = trainer
        self._step = trainer.dispatch.own("lr_scheduler_step") or trainer.lightning_module.lr_scheduler_step
        self._before = trainer.dispatch.on_before_lr_scheduler_step
        self._after = trainer.dispatch.on_after_lr_scheduler_step
        self.by_step = [config for config in configs if config.interval == "step" and not config.reduce_on_plateau]
        self.by_epoch = [config for config in configs if config.interval == "epoch" and not config.reduce_on_plateau]
        self.plateau_by_step = [config for config in configs if config.interval == "step" and config.reduce_on_plateau]
        self.plateau_by_epoch = [config for config in configs if config.interval == "epoch" and config.reduce_on_plateau]

        self.moves = bool(self.by_step or self.by_epoch)
        self._steps: int = trainer.fit_loop.progress.steps
        self._may_be_skipped = trainer.fit_loop.around_step is not None

    def after_batch(self, windows: int, closes: bool, is_last: bool) -> None:
        """Moves what moves before the batch's end hooks: after the step that closed window number `windows`, or on the last batch."""
        if closes and not (self._may_be_skipped and self._was_skipped()):
            self.move(self.by_step, windows)
        if is_last:
            self.move(self.by_epoch, self._trainer.fit_loop.progress.completed_epochs + 1)

    def _was_skipped(self) -> bool:
        """Whether the window that has closed took no step."""
        before, self._steps = self._steps, self._trainer.fit_loop.progress.steps
        return before == self._steps

    def move(self, configs: list[Any], index: int) -> None:
        """Moves those whose frequency divides `index`, the number of steps in this epoch or of epochs so far."""
        for config in configs:
            if index % config.frequency:
                continue
            metric = None
            if config.monitor is not None and config.reduce_on_plateau:
                metric = self._monitored(config)
                if metric is None:
                    continue
            self._trainer.fit_loop.progress.schedules += 1
            if self._before is not None:
                self._before(config.scheduler, metric)
            self._step(config.scheduler, metric)
            if self._after is not None:
                self._after(config.scheduler, metric)

    def _monitored(self, config: Any) -> Any:
        metrics = self._trainer.callback_metrics
        if config.monitor in metrics:
            return metrics[config.monitor]
        message = (
            f"the scheduler {type(config.scheduler).__name__} watches {config.monitor!r}, which was not logged; "
            f"logged were {', '.join(metrics) or 'none'}. Log it, or change 'monitor' in configure_optimizers."
        )
        if config.strict:
            raise MisconfigurationException(message)
        rank_zero_warn(message)
        return None
