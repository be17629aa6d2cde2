"""Validation and test: batches through a step, without gradients, and the metrics of the whole."""

import inspect
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import nn

from lx.data.combined import CombinedLoader, set_epochs
from lx.data.position import end_passes, generators_of_passes, passes_over
from lx.data.source import Batches
from lx.dataloader_iter import handed_to, takes_iterator
from lx.loops.progress import BatchProgress
from lx.state import RunningStage
from lx.wrappers import bind_step


class Evaluation:
    """A run over all loaders of one stage.

    on_<stage>_model_eval
    on_<stage>_start
    on_<stage>_epoch_start
    for each batch of each loader:
        transfer to the device
        on_<stage>_batch_start
        <stage>_step
        on_<stage>_batch_end
        step values to the loggers
    on_<stage>_epoch_end
    epoch values to the loggers
    on_<stage>_end
    on_<stage>_model_train                  (only if overridden; otherwise every submodule gets its mode back)
    """

    def __init__(self, trainer: Any, stage: RunningStage, limit: int | float) -> None:
        self._trainer = trainer
        self.stage = "validation" if stage is RunningStage.VALIDATING else str(stage)
        self.prefix = stage.dataloader_prefix or ""
        self._limit = limit
        self._loaders: CombinedLoader | None = None
        self._passes: Any = None
        self.loaded_in = 0  # the epoch in which the loaders were asked for
        self.num_batches: list[int | float] = []
        module = trainer.lightning_module
        self._meters = trainer.val_meters if stage is RunningStage.VALIDATING else trainer.test_meters
        step = f"{self.stage}_step"
        self._step_name = step
        self._step = trainer.dispatch.timed(bind_step(trainer, step), module, "LightningModule", step)
        self._axis: dict[int, int] = {}

    def load_data(self, reload: bool = False) -> list[int | float]:
        """The number of batches of each loader; asks for the loaders if that has not been done, or again."""
        trainer = self._trainer
        if self._loaders is None or reload:
            self._loaders = trainer.loaders.evaluation(trainer.source.request(self.prefix), self.prefix)
            self._passes = passes_over(self._loaders)
            self.loaded_in = trainer.current_epoch
            name = f"limit_{self.prefix}_batches"
            sequential = self._loaders.mode == "sequential"
            loaders = self._loaders.flattened if sequential else [self._loaders]
            self.num_batches = [trainer.loaders.count(loader, name, self._limit) for loader in loaders]
            check_signature(getattr(trainer.lightning_module, self._step_name), self._step_name, len(loaders))
            setattr(trainer, f"{self.prefix}_dataloaders", self._loaders.iterables)
            if trainer.state.fn != "fit":
                getattr(trainer, f"{trainer.state.fn}_loop").max_batches = self.num_batches
        return self.num_batches

    @property
    def generators(self) -> list[Any]:
        """The random generators that the loaders hold."""
        return [] if self._loaders is None else generators_of_passes(self._passes)

    def end(self) -> None:
        """Lets go of workers, when no other run of it will come."""
        if self._passes is not None:
            end_passes(self._passes)

    def forget_data(self) -> None:
        """Lets go of the loaders, so that they are asked for again; in the hooks of its start, for this very run."""
        self._loaders = None

    def run(
        self, *, at_most: int | float = math.inf, quiet: bool = False, reload: bool = False, progress: BatchProgress | None = None
    ) -> list[dict[str, float]]:
        """Runs the evaluation and returns, for each loader, its metrics as numbers; `quiet` sends nothing to loggers."""
        trainer, dispatch, log, stage = self._trainer, self._trainer.dispatch, self._trainer.log, self.stage
        # Where nothing is to be evaluated, no loader is made.
        counts = [min(count, at_most) for count in self.load_data(reload)] if self._limit else []
        trainer.num_eval_batches = counts
        if not sum(counts):
            return []
        progress = progress if progress is not None else BatchProgress()
        progress.begin()
        before = log.begin_stage(self._meters, training=False)
        with no_gradients(trainer), evaluating(trainer, f"on_{stage}_model_eval", f"on_{stage}_model_train"):
            dispatch.emit(f"on_{stage}_start")
            if self._loaders is None:  # a hook of the start has changed the data
                counts = trainer.num_eval_batches = [min(count, at_most) for count in self.load_data()]
            dispatch.emit(f"on_{stage}_epoch_start")
            assert self._loaders is not None
            set_epochs(self._loaders, trainer.current_epoch)
            for dataloader_idx, (loader, count) in enumerate(zip(self._each(), counts, strict=True)):
                log.dataloader_idx = dataloader_idx if len(counts) > 1 else None
                batches = dispatch.fetched(iter(loader), f"[_EvaluationLoop].{self.prefix}_next")
                batches = handed_to(getattr(trainer.lightning_module, self._step_name), batches, dataloader_idx)
                self._run_loader(batches, count, dataloader_idx, len(counts) > 1, progress, quiet)
            log.dataloader_idx = None
            log.batch = log.batch_size = None
            log.settle()
            dispatch.emit(f"on_{stage}_epoch_end")
            log.settle()
            values = log.collect()
            if not quiet:
                log.send(values)
            results = self._results(len(counts))
            dispatch.emit(f"on_{stage}_end")
        log.end_stage(before)
        return results

    def _each(self) -> list[Any]:
        assert self._loaders is not None
        if self._loaders.mode == "sequential":
            return self._passes.flattened  # type: ignore[no-any-return]
        return [(batch for batch, _, _ in self._passes)]

    def _run_loader(
        self, batches: Iterator[Any], count: int | float, dataloader_idx: int, several: bool, progress: BatchProgress, quiet: bool
    ) -> None:
        trainer, log, stage = self._trainer, self._trainer.log, self.stage
        transfer, step, site = trainer.transfer, self._step, self._step_name
        batch_start: Callable[..., Any] | None = getattr(trainer.dispatch, f"on_{stage}_batch_start")
        batch_end: Callable[..., Any] | None = getattr(trainer.dispatch, f"on_{stage}_batch_end")
        which = (dataloader_idx,) if several else ()
        arguments = step_arguments(getattr(trainer.lightning_module, site), dataloader_idx, several)
        if count == 0:
            return
        source = Batches(batches, count)
        for batch_idx, batch in source:
            if trainer.received_sigterm:  # not behind the last batch: what has been evaluated is told first
                trainer.run.termination.end_here()
            progress.ready += 1
            progress.is_last_batch = batch_idx == source.last
            batch = transfer(batch, dataloader_idx)
            log.batch, log.batch_size = batch, None
            if batch_start is not None:
                batch_start(batch, batch_idx, *which)
            progress.started += 1
            log.site = site
            output = step(batch, *arguments(batch_idx))
            log.site = None
            progress.processed += 1
            if batch_end is not None:
                batch_end(output, batch, batch_idx, *which)
            progress.completed += 1
            if not quiet:
                self._send_step_values(dataloader_idx)

    def _send_step_values(self, dataloader_idx: int) -> None:
        """Step values of evaluations go out for every batch, on an axis of their own that counts the batches of each loader."""
        axis = self._axis.get(dataloader_idx, 0)
        self._trainer.log.send(self._trainer.log.collect(), step=axis, epoch=False)
        self._axis[dataloader_idx] = axis + 1

    def _results(self, loaders: int) -> list[dict[str, float]]:
        values = self._trainer.log.epoch_values()
        shared = values.pop(None, {})
        rows = [{**values.get(idx, {}), **shared} for idx in range(loaders)]
        return [{name: float(value) for name, value in row.items()} for row in rows]


@contextmanager
def evaluating(trainer: Any, eval_hook: str, train_hook: str) -> Iterator[None]:
    """Within it the module is in eval mode; afterwards each submodule is in the mode in which it was before."""
    module: nn.Module = trainer.lightning_module
    modes = [(part, part.training) for part in module.modules()]
    try:
        trainer.dispatch.call_own(eval_hook)
        yield
    except BaseException:  # whoever catches it, as in a notebook after Ctrl-C, may train the module further
        trainer.run.when_cut_off.append(partial(_bring_back, modes))
        raise
    own = trainer.dispatch.own(train_hook)
    if own is not None:
        own()
    else:
        _bring_back(modes)


def _bring_back(modes: list[tuple[nn.Module, bool]]) -> None:
    for part, mode in modes:
        part.training = mode


@contextmanager
def no_gradients(trainer: Any) -> Iterator[None]:
    """Within it no graph is recorded: inference mode outside of fit where that is safe, else no_grad."""
    fitting = trainer.state.fn == "fit"
    inference = trainer.inference_mode and not fitting and trainer.strategy.capabilities.inference_mode
    with torch.inference_mode() if inference else torch.no_grad():
        yield


def check_signature(step: Callable[..., Any], name: str, loaders: int) -> None:
    """Raises `RuntimeError` if a step cannot tell loaders apart, or requires to."""
    parameters = inspect.signature(step).parameters
    if takes_iterator(step):  # which tells it the loader of each batch
        return
    takes_any = any(parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD) for parameter in parameters.values())
    index = parameters.get("dataloader_idx")
    if loaders > 1 and index is None and not takes_any:
        raise RuntimeError(
            f"there are {loaders} loaders, and {name} has no parameter dataloader_idx to tell them apart: def {name}(self, batch,"
            " batch_idx, dataloader_idx=0)."
        )
    if loaders == 1 and index is not None and index.default is index.empty:
        raise RuntimeError(f"there is one loader, and {name} requires dataloader_idx; give it a default: dataloader_idx=0.")


def step_arguments(step: Callable[..., Any], dataloader_idx: int, several: bool) -> Callable[[int], tuple[int, ...]]:
    """A function from a batch index to what a step is passed after the batch."""
    parameters = list(inspect.signature(step).parameters.values())
    positional = [parameter for parameter in parameters if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)]
    if any(parameter.kind is parameter.VAR_POSITIONAL for parameter in parameters):
        return (lambda batch_idx: (batch_idx, dataloader_idx)) if several else (lambda batch_idx: (batch_idx,))
    if len(positional) == 1:
        return lambda batch_idx: ()
    if several and len(positional) > 2:
        return lambda batch_idx: (batch_idx, dataloader_idx)
    return lambda batch_idx: (batch_idx,)
