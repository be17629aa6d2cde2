"""ThroughputMonitor: what is counted in each stage, and when it is logged."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from lx.interfaces import Callback
from lx.kernel.errors import MisconfigurationException
from lx.logging.batch_size import batch_size_of
from lx.measures.peak_flops import compute_dtype, get_available_flops
from lx.measures.throughput import Throughput
from lx.rank_zero import rank_zero_info


@dataclass
class Stage:
    """What was done in one stage since it began; `began` is put off by what is not to count. `axis` counts the batches of the whole run."""

    throughput: Throughput
    began: float = 0.0
    batches: int = 0
    samples: int = 0
    lengths: int = 0
    axis: int = 0

    def begin(self, now: float) -> None:
        """Counts from 0 again, but for the axis."""
        self.throughput.reset()
        self.began, self.batches, self.samples, self.lengths = now, 0, 0, 0


class ThroughputMonitor(Callback):
    """Logs how much each stage processes per second, to all loggers, on rank 0.

    The names are those of `lx.utilities.Throughput` after that of the stage: `train/device/samples_per_sec`, `validate/batches`, ... Rates
    are those over the last `window_size` batches, and come once there are so many. The time of validation does not count as time of
    training. A module with `flops_per_batch` (an attribute, property or method, read at each batch: it may look at `self.training`) has
    `train/device/flops_per_sec`, too, and `train/device/mfu` where the peak of the device is known; `lx.utilities.measure_flops` finds it.

    Values go to the loggers with the step values of training, and every `log_every_n_steps` batches of the other stages, whose axis is the
    number of batches of that stage so far. Only then a GPU is waited for. In `fast_dev_run` nothing is logged.

    Args:
        batch_size_fn: A function from a batch to its number of samples; None reads it off the first tensor.
        length_fn: A function from a batch to its number of items, such as tokens; with it there are items per second.
        kwargs: Arguments of `lx.utilities.Throughput`: `window_size` (100), `separator` (`"/"`), `available_flops` where the table of
            peaks does not know the device, `world_size`.

    Raises:
        ValueError: for a window of fewer than two batches.
        MisconfigurationException: where a run begins without a logger.

    >>> ThroughputMonitor(batch_size_fn=lambda batch: len(batch[0]), window_size=50).window_size
    50
    """

    def __init__(
        self, batch_size_fn: Callable[[Any], int] | None = None, length_fn: Callable[[Any], int] | None = None, **kwargs: Any
    ) -> None:
        for name, function in (("batch_size_fn", batch_size_fn), ("length_fn", length_fn)):
            if function is not None and not callable(function):
                raise TypeError(f"{name}={function!r}: it is a function that takes a batch and returns a number, or None.")
        trial = Throughput(**kwargs)  # so that what is wrong with the arguments is said here
        self.window_size, self.separator = trial.window_size, trial.separator
        self.kwargs = kwargs
        self.batch_size_fn = inferred_size if batch_size_fn is None else batch_size_fn
        self.length_fn = length_fn
        self.clock: Callable[[], float] = time.perf_counter
        self._stages: dict[str, Stage] = {}
        self._every = 0
        self._has_flops = False
        self._wait: Callable[[], None] | None = None

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Makes what counts; `stage` is the entry point."""
        self._stages = {}
        if trainer.fast_dev_run:
            return
        if not trainer.loggers:
            raise MisconfigurationException("ThroughputMonitor has no logger to log to; give the Trainer one, or leave this callback out.")
        device = trainer.strategy.root_device
        self._wait = (lambda: torch.cuda.synchronize(device)) if device.type == "cuda" else None
        self._every = trainer.log_every_n_steps
        for name in ("train", "validate") if stage == "fit" else (stage,):
            self._stages[name] = Stage(Throughput(**{"world_size": trainer.world_size, **self.kwargs}))

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Starts the clock of training."""
        self._begin(trainer, pl_module, "train")

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Counts the batch, and logs when the step values of its accumulation window go out."""
        stage = self._stages.get("train")
        if stage is not None:
            due = trainer.logging_due and not trainer.open_window
            self._count(stage, pl_module, batch, due)
            if due:
                self._log(trainer, stage, "train", None)  # the axis of the step values

    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
        """Starts the clock of this validation."""
        self._begin(trainer, pl_module, "validate")

    def on_validation_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Counts the batch, and logs every `log_every_n_steps` batches; nothing of the sanity check."""
        if not trainer.sanity_checking:
            self._evaluated(trainer, pl_module, "validate", batch)

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        """Takes the time of the validation off that of training."""
        train = self._stages.get("train")
        if train is not None and not trainer.sanity_checking:
            train.began += self.clock() - self._stages["validate"].began

    def on_test_start(self, trainer: Any, pl_module: Any) -> None:
        """Starts the clock of the test."""
        self._begin(trainer, pl_module, "test")

    def on_test_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Counts the batch, and logs every `log_every_n_steps` batches."""
        self._evaluated(trainer, pl_module, "test", batch)

    def on_predict_start(self, trainer: Any, pl_module: Any) -> None:
        """Starts the clock of the prediction."""
        self._begin(trainer, pl_module, "predict")

    def on_predict_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Counts the batch, and logs every `log_every_n_steps` batches."""
        self._evaluated(trainer, pl_module, "predict", batch)

    def _begin(self, trainer: Any, pl_module: Any, name: str) -> None:
        stage = self._stages.get(name)
        if stage is None:
            return
        self._has_flops = hasattr(pl_module, "flops_per_batch")
        if not self._has_flops and name == next(iter(self._stages)):  # said once in a run
            rank_zero_info(f"ThroughputMonitor: {type(pl_module).__name__} has no flops_per_batch, so FLOPs are not counted.")
        if self._has_flops and "available_flops" not in self.kwargs:
            device = trainer.strategy.root_device
            stage.throughput.available_flops = get_available_flops(device, compute_dtype(trainer.precision_plugin, device))
        stage.begin(self.clock())

    def _evaluated(self, trainer: Any, pl_module: Any, name: str, batch: Any) -> None:
        stage = self._stages.get(name)
        if stage is not None:
            stage.axis += 1
            due = bool(self._every) and stage.axis % self._every == 0
            self._count(stage, pl_module, batch, due)
            if due:
                self._log(trainer, stage, name, stage.axis)

    def _count(self, stage: Stage, pl_module: Any, batch: Any, due: bool) -> None:
        stage.batches += 1
        stage.samples += self.batch_size_fn(batch)
        if self.length_fn is not None:
            stage.lengths += self.length_fn(batch)
        flops = None
        if self._has_flops:
            flops = pl_module.flops_per_batch
            flops = flops() if callable(flops) else flops
        if due and self._wait is not None:
            self._wait()  # else the time would be that at which the work was handed to the GPU
        stage.throughput.update(
            time=self.clock() - stage.began,
            batches=stage.batches,
            samples=stage.samples,
            lengths=stage.lengths if self.length_fn is not None else None,
            flops=flops,
        )

    def _log(self, trainer: Any, stage: Stage, name: str, step: int | None) -> None:
        metrics = stage.throughput.compute()
        trainer.log_metrics({f"{name}{self.separator}{key}": value for key, value in metrics.items()}, step=step)


def inferred_size(batch: Any) -> int:
    """The first dimension of the first tensor in a batch; raises `MisconfigurationException` where there is no tensor."""
    try:
        return batch_size_of(batch)
    except MisconfigurationException as error:
        raise MisconfigurationException("ThroughputMonitor finds no tensor in the batch; give it a batch_size_fn.") from error
