"""Steps in which the optimizer, or the module, decides when and how often the loss is evaluated."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from lx.loops.steps import discard_gradients


class Evaluations:
    """One accumulation window, for an optimizer that gets a closure: one like LBFGS, or any where the module overrides `optimizer_step`.

    The first evaluation of a step runs the batch that closes the window, since the earlier ones have been through backward when they
    came. Each further one clears the gradients and runs all batches of the window, so that every evaluation is of the whole window, and
    nothing is logged twice.
    """

    def __init__(self, optimization: Any, trainer: Any, step: Callable[[int, int, Callable[[], Any]], Any]) -> None:
        self._optimization = optimization
        self._trainer = trainer
        self._step = step
        self._batches: list[tuple[Any, int]] = []
        self._closing: tuple[Any, int] | None = None
        self._evaluated = False
        self._loss: Any = None  # the sum over the batches so far, weighed where they are, None before the first

    def clear(self) -> None:
        """Begins a new window."""
        self._batches.clear()
        self._loss = None

    def keep(self, batch: Any, batch_idx: int) -> None:
        """Takes up a batch that has just been through backward, and does not close the window."""
        self._batches.append((batch, batch_idx))
        self._add_loss()

    def step(self, closing: tuple[Any, int] | None) -> None:
        """Has the optimizer step; `closing` is the batch that closes the window, None where the epoch ended before there was one."""
        self._closing, self._evaluated = closing, False
        self._batches += [closing] if closing is not None else []
        self._step(self._trainer.current_epoch, self._batches[-1][1], self._closure)
        self.clear()

    def _closure(self) -> Tensor:
        """Forward and backward; returns the mean loss of the window, 0 where every batch of it was skipped."""
        optimization = self._optimization
        if self._evaluated:
            self._evaluate_again()
        elif self._closing is not None:
            optimization.forward_backward(*self._closing)
            self._add_loss()
        self._evaluated = True
        if self._loss is None:
            discard_gradients(self._trainer.optimizers)  # so that the step changes nothing
            return torch.zeros((), device=self._trainer.strategy.root_device)
        mean: Tensor = (
            optimization.weights.mean(self._loss)
            if optimization.weights.open
            else self._loss * (optimization.divisor / optimization.contributed)
        )
        return mean

    def _evaluate_again(self) -> None:
        optimization = self._optimization
        optimization.contributed, self._loss = 0, None
        optimization.weights.clear()
        *earlier, last = self._batches
        with self._trainer.log.aside():
            for batch, batch_idx in earlier:
                with optimization.no_sync():
                    optimization.forward_backward(batch, batch_idx)
                self._add_loss()
            optimization.forward_backward(*last)
            self._add_loss()

    def _add_loss(self) -> None:
        loss, weights = self._optimization.loss, self._optimization.weights
        if loss is not None:
            loss = loss * weights.unit if weights.open else loss
            self._loss = loss if self._loss is None else self._loss + loss
