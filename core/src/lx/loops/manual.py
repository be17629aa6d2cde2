"""One training batch of a module that runs backward and steps its optimizers itself."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from lx.batch import map_tensors
from lx.kernel.errors import MisconfigurationException
from lx.loops.optimize import training_step
from lx.optimizers import LightningOptimizer


class ManualOptimization:
    """One batch of a module that runs backward and steps itself; every step of one of its optimizers counts."""

    def __init__(self, trainer: Any) -> None:
        module = trainer.lightning_module
        self._log = trainer.log
        self._trainer = trainer
        self._progress = trainer.fit_loop.progress
        self._progress.manual = True
        self._step = training_step(trainer)
        self._output: Any = None
        self.held = 0
        trainer.lightning_optimizers = [LightningOptimizer(optimizer, self._take_step, module) for optimizer in trainer.optimizers]

    def shortest(self) -> Callable[[Any, int, bool], None]:
        """What trains on a batch: `run`."""
        return self.run

    def begin_epoch(self) -> None:
        """Does nothing: there are no windows."""

    def closes_window(self, left: int | float, is_last: bool) -> bool:
        """True: every batch is a window of its own."""
        return True

    def finish(self) -> None:
        """Does nothing: there are no windows."""

    @property
    def keeps_gradients(self) -> bool:
        """True: whether gradients wait for a step is the module's affair, so that a checkpoint holds those that are there."""
        return True

    def window_state(self) -> dict[str, Any]:
        """Nothing: there are no windows."""
        return {}

    def restore_window(self, state: dict[str, Any]) -> None:
        """Does nothing: there are no windows."""

    def run(self, batch: Any, batch_idx: int, closes: bool) -> None:
        """Hands one batch to the module."""
        outer, self._log.site = self._log.site, "training_step"
        output = self._step(batch, batch_idx)
        self._log.site = outer
        if output is not None and not isinstance(output, Tensor | Mapping):
            raise MisconfigurationException(
                f"training_step returned a {type(output).__name__}; in manual optimization it may return a tensor, a mapping or None."
            )
        self._output = output

    def _take_step(self, optimizer: Any, closure: Callable[[], Any] | None, kwargs: dict[str, Any]) -> Any:
        trainer = self._trainer

        def whole() -> Any:
            result = None
            if closure is not None:
                with torch.enable_grad():
                    result = closure()
            trainer.precision_plugin.unscale_gradients(optimizer)
            trainer.dispatch.emit("on_before_optimizer_step", optimizer)
            return result

        result = trainer.precision_plugin.optimizer_step(optimizer, whole, **kwargs)
        self._progress.steps += 1
        return result

    def outputs(self) -> Any:
        """What `on_train_batch_end` is handed: what the step returned, detached; a tensor as the loss."""
        output = {"loss": self._output} if isinstance(self._output, Tensor) else self._output
        return {} if output is None else map_tensors(Tensor.detach, output)
