"""What all progress bars share: the totals, the metrics to show, and the switch."""

import math
from abc import ABC, abstractmethod
from typing import Any

from lx.interfaces.callback import Callback


class ProgressBar(Callback, ABC):
    """The base of progress bars; one of them may be in a Trainer. It is disabled on all ranks but 0.

    `Trainer()` takes the one with the highest `roles={"progress-bar": rank}` that can be imported.
    """

    roles = frozenset({"progress-bar"})

    def __init__(self) -> None:
        self._trainer: Any = None

    @property
    def trainer(self) -> Any:
        """The trainer, once a run has begun; raises `RuntimeError` before."""
        if self._trainer is None:
            raise RuntimeError(f"{type(self).__name__} has no trainer before a run has begun.")
        return self._trainer

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Takes the trainer, and disables the bar on all ranks but 0."""
        self._trainer = trainer
        if not trainer.is_global_zero:
            self.disable()

    @property
    def is_enabled(self) -> bool:
        """Whether anything is shown."""
        return True

    @property
    def is_disabled(self) -> bool:
        """Whether nothing is shown."""
        return not self.is_enabled

    def listens_to(self, event: str) -> bool:
        """A disabled bar, as on all ranks but 0, listens to `setup` alone, and so costs nothing per batch."""
        return super().listens_to(event) and (event == "setup" or self.is_enabled)

    @abstractmethod
    def disable(self) -> None:
        """Shows nothing from now on."""

    @abstractmethod
    def enable(self) -> None:
        """Shows progress again."""

    @abstractmethod
    def print(self, *args: Any, **kwargs: Any) -> None:
        """Prints like the builtin, without tearing the bar apart."""

    @property
    def total_train_batches(self) -> int | float:
        """The number of training batches in this epoch; `inf` where the loader has no length."""
        return self.trainer.num_training_batches  # type: ignore[no-any-return]

    def total_eval_batches(self, dataloader_idx: int = 0) -> int | float:
        """The number of batches of one loader of the evaluation (or sanity check, or prediction) that runs."""
        batches = self.trainer.num_eval_batches
        return batches[dataloader_idx] if dataloader_idx < len(batches) else math.inf

    def get_metrics(self, trainer: Any, pl_module: Any) -> dict[str, int | str | float]:
        """What to show beside the bar: the version of the first logger as `v_num`, and what was logged with `prog_bar=True`.

        It synchronises with the device; call it when the bar is drawn, not at every batch.
        """
        version = trainer.logger.version if trainer.logger is not None else None
        shown: dict[str, int | str | float] = {}
        if version is not None:
            shown["v_num"] = version[-4:] if isinstance(version, str) else version
        return {**shown, **trainer.progress_bar_metrics}
