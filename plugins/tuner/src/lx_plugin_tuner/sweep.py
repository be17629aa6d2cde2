"""Training steps with a rising learning rate, and the losses that they meet."""

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from lx.interfaces import Callback
from lx.kernel.errors import MisconfigurationException
from lx_plugin_tuner.curve import LRFinder
from lx_plugin_tuner.rates import Rates

SMOOTHING = 0.98


class Sweep(Callback):
    """Takes a step, or an accumulation window, with each rate of a curve, and notes the loss, smoothed; then asks to stop.

    It also asks to stop once a loss is no finite number, or is more than `threshold` times the best so far, and after an epoch that had
    no loss at all.
    """

    def __init__(self, curve: LRFinder, rates: Rates, threshold: float | None) -> None:
        self._curve = curve
        self._rates = rates
        self._threshold = threshold
        self._losses: list[Any] = []  # of the batches of this window
        self._begins = True
        self._noted_before = 0
        self._average, self._best = 0.0, math.inf

    @property
    def noted(self) -> int:
        """How many steps have been noted."""
        return len(self._curve.results["loss"])

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        """Begins with an empty window."""
        self._losses, self._begins, self._noted_before = [], True, self.noted

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Sets the rate, on the first batch of a window."""
        if self._begins:
            self._rates.set(self._curve.rate(self.noted))
            self._begins = False

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Notes the loss, on the last batch of a window."""
        loss = _loss_of(outputs, pl_module)
        if loss is not None:
            self._losses.append(loss.detach())
        if trainer.fit_loop.epoch_loop.optimize.held:
            return
        losses, self._losses, self._begins = self._losses, [], True
        if losses:
            # In automatic optimization each has been divided by the size of the window already.
            self._note(_over_processes(sum(losses[1:], losses[0]), trainer), trainer)

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Gives up where there is nothing to be noted."""
        if self.noted == self._noted_before:
            trainer.should_stop = True

    def _note(self, loss: float, trainer: Any) -> None:
        step, results = self.noted, self._curve.results
        self._average = SMOOTHING * self._average + (1 - SMOOTHING) * loss
        # Lightning's exponent, which counts the step that was just taken, too: the first losses come out too small, and so does the curve.
        smooth = self._average / (1 - SMOOTHING ** (step + 2))
        results["lr"].append(self._curve.rate(step))
        results["loss"].append(smooth)
        diverged = self._threshold is not None and step > 0 and smooth > self._threshold * self._best
        self._best = smooth if step == 0 else min(self._best, smooth)
        if diverged or not math.isfinite(smooth) or step + 1 >= self._curve.num_training:
            trainer.should_stop = True


def _loss_of(outputs: Any, module: Any) -> Tensor | None:
    loss = outputs.get("loss") if isinstance(outputs, Mapping) else outputs
    if isinstance(loss, Tensor):
        return loss
    if not module.automatic_optimization:
        raise MisconfigurationException(
            "the learning rate finder needs the loss, which in manual optimization training_step must return: the tensor, or a mapping with"
            " the key 'loss'."
        )
    return None


def _over_processes(loss: Tensor, trainer: Any) -> float:
    """The mean over all processes, which must all stop at the same step."""
    if trainer.world_size > 1:
        loss = trainer.strategy.all_reduce(loss.clone(), None, "mean")
    return float(loss)
