"""A batch that is too large for the memory, in pieces whose gradients add up to that of the whole."""

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor

from lx.batch import map_tensors
from lx.dispatch import overrides
from lx.hooks import DataHooks
from lx.interfaces.strategy import optimizer_parameters
from lx.logging.batch_size import first_size
from lx.logging.deferred import Call, DeferredLog
from lx.logging.log import RunLog
from lx.logging.meters import Meter
from lx.loops.steps import discard_gradients
from lx.measures.memory import free_memory, is_out_of_memory
from lx.rank_zero import rank_zero_warn


class MicroBatches:
    """Forward and backward of one batch, piece by piece.

    for each piece:
        training_step
        backward from the loss, times the piece's share of the batch
    what the pieces logged is logged once, as of the whole batch

    The loss of a step must be a mean over its samples, or over the `num_items` that it returns for each piece. With `"auto"` a batch is
    whole until memory runs out; then its gradients are taken back, it is halved and tried again, and the size that was found stays.
    """

    def __init__(self, optimization: Any, trainer: Any) -> None:
        size = trainer.limits.micro_batch_size
        self.size: int | None = None if size == "auto" else size
        self._finds = size == "auto"
        self._optimization = optimization
        self._trainer = trainer
        self._deferred = DeferredLog(trainer.log)
        owners = (trainer.datamodule, trainer.lightning_module)
        own = (owner for owner in owners if owner is not None and overrides(owner, "split_batch", DataHooks))
        self._split = next(own, trainer.lightning_module).split_batch

    def evaluate(self, batch: Any, batch_idx: int) -> None:
        """Trains on a batch up to the step, in the place of `AutomaticOptimization.evaluate`."""
        total = first_size(batch)
        while not self._fits(self._pieces(batch, total), batch_idx):
            self.size = -(-(min(self.size, total) if self.size else total) // 2)
            free_memory()
            rank_zero_warn(f"memory ran out; from now on batches are trained on in pieces of at most {self.size} samples.")

    def _pieces(self, batch: Any, total: int) -> list[Any]:
        return [batch] if self.size is None or total <= self.size else self._split(batch, self.size)

    def _fits(self, pieces: list[Any], batch_idx: int) -> bool:
        """Tries the pieces; False, and nothing has happened, if memory ran out."""
        optimization = self._optimization
        contributed, weights = optimization.contributed, optimization.weights.snapshot()
        with self._apart() if self._finds and contributed else nullcontext():
            try:
                self._evaluate(pieces, batch_idx)
                return True
            except (RuntimeError, MemoryError) as error:
                if not self._finds or not is_out_of_memory(error):
                    raise
                if max(map(first_size, pieces)) <= 1:
                    error.add_note("This is a batch of one sample, which cannot be trained on in smaller pieces.")
                    raise
            # Here, outside of the handler, nothing holds the tensors of the failed step any more.
            optimization.contributed, optimization.loss, optimization.output = contributed, None, None
            optimization.weights.restore(weights)
            self._deferred.take()
            discard_gradients(self._trainer.optimizers)
        return False

    @contextmanager
    def _apart(self) -> Iterator[None]:
        """Keeps the gradients of earlier batches of the window safe from a step that may fail midway."""
        parameters = [parameter for optimizer in self._trainer.optimizers for parameter in optimizer_parameters(optimizer)]
        kept = [parameter.grad for parameter in parameters]
        for parameter in parameters:
            parameter.grad = None
        yield
        for parameter, gradient in zip(parameters, kept, strict=True):
            if gradient is not None:
                parameter.grad = gradient if parameter.grad is None else gradient.add_(parameter.grad)

    def _evaluate(self, pieces: list[Any], batch_idx: int) -> None:
        optimization = self._optimization
        divisor, contributed, weights = optimization.divisor, optimization.contributed, optimization.weights
        sizes = [first_size(piece) for piece in pieces]
        total = sum(sizes)
        noted, losses, outputs = [], [], []
        for place, (piece, size) in enumerate(zip(pieces, sizes, strict=True)):
            optimization.divisor = divisor * (total / size) if len(pieces) > 1 else divisor
            with self._deferred, optimization.no_sync() if place + 1 < len(pieces) else nullcontext():
                try:
                    optimization.evaluate(piece, batch_idx)
                finally:
                    optimization.divisor = divisor
            noted.append(self._deferred.take())
            outputs.append(optimization.output)
            if optimization.loss is not None:
                losses.append(optimization.loss * (weights.unit if weights.open else 1))
        optimization.contributed = contributed + bool(losses)
        optimization.loss = torch.stack(losses).sum() / (weights.unit if weights.open else 1) if losses else None
        optimization.output = merged(outputs, sizes)
        self._log(noted, pieces, sizes)

    def _log(self, noted: list[list[Call]], pieces: list[Any], sizes: list[int]) -> None:
        """Logs what each piece logged, and makes of the values of the pieces that of the step."""
        log = self._trainer.log
        whole = log.batch
        of_step: dict[Meter, list[tuple[Tensor, Any]]] = {}
        for calls, piece, size in zip(noted, pieces, sizes, strict=True):
            log.batch, log.batch_size = piece, None
            for call in calls:
                self._deferred.play(call)
                site, (name, *_) = call
                meter = log.meters.get((site, name, log.dataloader_idx))
                if meter is not None and meter.on_step and meter.step_value is not None:
                    given = call[1][_BATCH_SIZE] if len(call[1]) > _BATCH_SIZE else None
                    of_step.setdefault(meter, []).append((meter.step_value, size if given is None else given))
        log.batch, log.batch_size = whole, None
        for meter, values in of_step.items():
            meter.step_value = _FOLDED[meter.reduce](torch.stack([value for value, _ in values]), [size for _, size in values])


_BATCH_SIZE = list(inspect.signature(RunLog.log).parameters).index("batch_size") - 1  # without self


def _mean(values: Tensor, sizes: Sequence[Any]) -> Tensor:
    """The mean of numbers, weighted; one whose weight is 0 says nothing, whatever it is."""
    weights = torch.stack([torch.as_tensor(size, device=values.device) for size in sizes]).to(values.dtype)
    return (torch.where(weights > 0, values, 0.0) * weights).sum() / weights.sum()


_FOLDED: dict[str, Callable[[Tensor, Sequence[Any]], Tensor]] = {
    "mean": _mean,
    "sum": lambda values, sizes: values.sum(),
    "min": lambda values, sizes: values.amin(),
    "max": lambda values, sizes: values.amax(),
}


def merged(outputs: list[Any], sizes: list[int]) -> Any:
    """What a step would have returned for the whole batch, of what it returned for its pieces.

    Tensors with a row for each sample are put together, single numbers become their mean; anything else is that of the last piece. Of
    `num_items` it is the sum, and the loss is the mean over those.
    """
    outputs = [output for output in outputs if output is not None]
    if len(outputs) < 2 or not isinstance(outputs[0], Mapping):
        return outputs[-1] if outputs else None
    items = [output.get("num_items") for output in outputs]
    found = {}
    for name, last in outputs[-1].items():
        values = [map_tensors(Tensor.detach, output.get(name)) for output in outputs]
        found[name] = last
        if len(values) != len(sizes) or not all(isinstance(value, Tensor) for value in values):
            continue
        if all(value.ndim and value.size(0) == size for value, size in zip(values, sizes, strict=True)):
            found[name] = torch.cat(values)
        elif all(value.ndim == 0 and value.is_floating_point() for value in values):
            found[name] = _mean(torch.stack(values), sizes)
    if None not in items:
        found["num_items"] = sum(items)
        found["loss"] = _mean(torch.stack([output["loss"].detach() for output in outputs]), items)
    return found
