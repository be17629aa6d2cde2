"""A run within a run: what it trains, logs and draws is undone when it is left, bit for bit."""

import copy
import dataclasses
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn.parameter import is_lazy
from torch.utils.data import DataLoader

from lx.data.combined import CombinedLoader, combine, is_collection
from lx.data.samplers import clone
from lx.data.transfer import compile_transfer
from lx.dispatch import Dispatch
from lx.experiment import DummyExperiment
from lx.interfaces.callback import Callback
from lx.interfaces.logger import Logger
from lx.kernel.errors import MisconfigurationException
from lx.logging.published import Published
from lx.loops.evaluate import Evaluation
from lx.loops.fit import FitLoop
from lx.loops.predict import Prediction
from lx.module import LightningModule
from lx.rng import isolate_rng
from lx.running.snapshot import Snapshot
from lx.state import RunningStage, TrainerFn


@contextmanager
def forked(trainer: Any, callbacks: Sequence[Callback] = (), **limits: Any) -> "Iterator[Fork]":
    """Within it the run may be tried out, `fork.run()`, as often as wanted; when it is left, also by an exception, all is as it was.

    For a hook of a run, once its optimizers are made, on every rank. What is trained are the module and the optimizers of the run
    themselves, which hold what they held before when this is left: weights, buffers, gradients and attributes of all submodules,
    states and parameter groups. So do the schedulers, which do not move meanwhile, the precision, samplers, loaders with a state, and all
    random generators. Progress, metrics, loggers and callbacks of the run are put aside; `callbacks` take the place of the latter.
    Everything is kept in memory, on the CPU; no file is written.

    `limits` replace those of the Trainer, by their names (`limit_train_batches=8`); unless they say otherwise, a fit goes on until one of
    the callbacks sets `trainer.should_stop`. Raises `MisconfigurationException`, when the loaders are asked for, for one that can be gone
    through only once, and at once for a module with parameters that have no shape yet.
    """
    snapshot, before = Snapshot(), dict(vars(trainer))
    with isolate_rng():
        _remember(trainer, snapshot)
        try:
            yield Fork(trainer, callbacks, limits)
        finally:
            before.pop("received_sigterm")  # what a signal has said meanwhile holds for the run, too
            for name in set(vars(trainer)) - {"received_sigterm", *before}:
                delattr(trainer, name)
            vars(trainer).update(before)
            snapshot.restore()


class Fork:
    """A run that is tried out; `forked` makes it."""

    def __init__(self, trainer: Any, callbacks: Sequence[Callback], limits: Mapping[str, Any]) -> None:
        self._trainer = trainer
        self._callbacks = list(callbacks)
        self._data = Snapshot()
        endless = {"max_epochs": -1, "max_steps": -1, "min_epochs": 0, "min_steps": None}
        quiet = {"num_sanity_val_steps": 0, "log_every_n_steps": 0}
        self._limits = dataclasses.replace(trainer.limits, **{**endless, **quiet, **limits})
        self._source = trainer.source
        self._handles = trainer.lightning_optimizers
        self._loggers = [Muted(logger) for logger in trainer.loggers]
        self._schedules = [dataclasses.replace(config, frequency=sys.maxsize) for config in trainer.lr_scheduler_configs]

    def run(self) -> None:
        """Runs the loop of the entry point that was called, from its beginning; weights and optimizers go on from where they are."""
        self._begin()
        trainer = self._trainer
        fn = trainer.state.fn
        try:
            if fn is TrainerFn.FITTING:
                with torch.enable_grad():
                    trainer.fit_loop.run()
            elif fn is TrainerFn.PREDICTING:
                Prediction(trainer, False).run()
            else:
                validating = fn is TrainerFn.VALIDATING
                limit = trainer.limits.limit_val_batches if validating else trainer.limits.limit_test_batches
                Evaluation(trainer, RunningStage.VALIDATING if validating else RunningStage.TESTING, limit).run(quiet=True)
        finally:
            self._let_go()

    def _begin(self) -> None:
        """Gives the trainer the state of one that has not run yet."""
        trainer = self._trainer
        module = trainer.lightning_module
        trainer.state = copy.copy(trainer.state)
        trainer.should_stop = False
        trainer.limits, trainer.source = self._limits, _Watched(self._source, self._data)
        trainer.callbacks, trainer.loggers = self._callbacks, self._loggers
        trainer.lr_scheduler_configs = self._schedules
        trainer.train_meters, trainer.val_meters, trainer.test_meters = {}, {}, {}
        trainer.validate_loop, trainer.test_loop, trainer.predict_loop = (
            type(loop)() for loop in (trainer.validate_loop, trainer.test_loop, trainer.predict_loop)
        )
        trainer.run = copy.copy(trainer.run)
        trainer.run.validates = trainer.run.validates and self._limits.limit_val_batches != 0
        trainer.fit_loop = FitLoop(trainer)
        trainer.log = copy.copy(trainer.log)
        trainer.log.published = Published()
        trainer.log.begin_run(module, (trainer.train_meters, trainer.val_meters, trainer.test_meters))
        module.trainer = trainer  # tells its parts where to log
        trainer.dispatch = Dispatch(trainer, module, self._callbacks, trainer.log, base=LightningModule, trace=trainer.manager.trace)
        trainer.transfer = compile_transfer(
            module,
            trainer.datamodule,
            trainer.strategy.root_device,
            trainer.precision_plugin,
            trainer.accelerator.capabilities.non_blocking,
            trainer.dispatch,
        )

    def _let_go(self) -> None:
        """Puts samplers and loaders back, and frees what was held of the data and the step, lest it count when another run begins."""
        self._data.restore()
        self._data, trainer = Snapshot(), self._trainer
        trainer.source = self._source
        loop, trainer.lightning_optimizers = trainer.fit_loop, self._handles
        if loop.epoch_loop is not None and trainer.lightning_module.automatic_optimization:
            loop.epoch_loop.optimize.output = loop.epoch_loop.optimize.loss = None
        loop.epoch_loop = loop.validation = None
        loop.forget_data()
        trainer.log.batch = None
        trainer.train_dataloader = trainer.val_dataloaders = trainer.test_dataloaders = trainer.predict_dataloaders = None
        for optimizer in trainer.optimizers:
            for group in optimizer.param_groups:
                for parameter in group["params"]:
                    parameter.grad = None


def _remember(trainer: Any, snapshot: Snapshot) -> None:
    module = trainer.lightning_module
    lazy = [name for name, parameter in module.named_parameters() if is_lazy(parameter)]
    if lazy:
        raise MisconfigurationException(
            f"{type(module).__name__} cannot be tried out before {lazy[0]!r} has a shape, since its first values could not be undone; run a"
            " batch through the model in setup or configure_model."
        )
    snapshot.take(module)
    for optimizer in trainer.optimizers:
        snapshot.take(vars(optimizer))
    for config in trainer.lr_scheduler_configs:
        snapshot.take_state(config.scheduler)
    snapshot.take_state(trainer.precision_plugin)
    datamodule = trainer.datamodule
    if datamodule is not None:
        snapshot.take_attributes(datamodule)
        snapshot.take(datamodule.hparams)
        snapshot.take_state(datamodule)


class _Watched:
    """A source of loaders that remembers what they hold before they are gone through, and starts workers of their own."""

    def __init__(self, source: Any, snapshot: Snapshot) -> None:
        self._source = source
        self._snapshot = snapshot

    def request(self, prefix: str) -> Any:
        """The loaders, as the run would get them."""
        loaders = self._source.request(prefix)
        combined = copy.copy(combine(loaders, "sequential"))
        combined.flattened = [self._own(loader, prefix) for loader in combined.flattened]
        if isinstance(loaders, CombinedLoader):
            return combined
        return combined.iterables if is_collection(loaders) else combined.flattened[0]

    def _own(self, loader: Any, prefix: str) -> Any:
        if hasattr(loader, "__next__"):
            raise MisconfigurationException(
                f"the {prefix} loader, a {type(loader).__name__}, can be gone through only once, and nothing would be left of it for the"
                " run itself; give what can be iterated again, such as a DataLoader or a list."
            )
        snapshot, dataset = self._snapshot, getattr(loader, "dataset", None)
        for stateful in (loader, dataset):
            snapshot.take_state(stateful)
        snapshot.take_attributes(dataset)
        snapshot.take(getattr(loader, "generator", None))
        batch_sampler = getattr(loader, "batch_sampler", None)
        for part in (getattr(loader, "sampler", None), batch_sampler, getattr(batch_sampler, "sampler", None)):
            snapshot.take_attributes(part)
            for value in getattr(part, "__dict__", {}).values():
                if value is not dataset:  # which may be a list of all the data
                    snapshot.take(value)
        return clone(loader) if isinstance(loader, DataLoader) else loader

    def __getattr__(self, name: str) -> Any:
        return getattr(self._source, name)


class Muted(Logger):
    """Stands in for a logger, says where that one writes, and writes nothing."""

    def __init__(self, logger: Logger) -> None:
        self._logger = logger

    name = property(lambda self: self._logger.name, doc="The name of the experiment.")
    version = property(lambda self: self._logger.version, doc="The version of the experiment.")
    save_dir = property(lambda self: self._logger.save_dir, doc="The folder under which everything of the logger lies.")
    root_dir = property(lambda self: self._logger.root_dir, doc="The folder of the experiment's name.")
    log_dir = property(lambda self: self._logger.log_dir, doc="The folder of this very run.")
    experiment = property(lambda self: DummyExperiment(), doc="Takes everything, and does nothing.")

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Does nothing."""

    def log_hyperparams(self, params: Mapping[str, Any], *args: Any, **kwargs: Any) -> None:
        """Does nothing."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(DummyExperiment(), name)
