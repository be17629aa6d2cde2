"""The Trainer: the arguments of a run, its four entry points, and what is known while it runs."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch

from lx.arguments.clipping import agreed, read_clipping
from lx.arguments.flags import check_deterministic, check_switches, read_folder, read_policy, refuse_registry, set_flags
from lx.arguments.limits import Limits, read_limits, refuse_with_barebones
from lx.arguments.passing import known_by_name, or_from_environment, passed_by_name
from lx.checkpoints.protocol import dump
from lx.checkpoints.search import ResumePath
from lx.dispatch import Dispatch, order_callbacks, require_distinct_states
from lx.fabric import Fabric
from lx.interfaces.callback import Callback
from lx.interfaces.logger import Logger
from lx.kernel import PluginManager, default_manager
from lx.kernel.errors import ArgumentTypeError
from lx.logging import RunLog
from lx.loops.fit import FitLoop
from lx.loops.progress import EvaluationProgress
from lx.resolution.request import Request, Resolution
from lx.resolution.resolve import resolve
from lx.running.compiled import read_compile
from lx.running.results import verdict_table
from lx.running.run import Run
from lx.running.view import RunView
from lx.state import TrainerFn, TrainerState, TrainerStatus

__all__ = ["Trainer"]

ASKED_FOR = (
    "accelerator",
    "strategy",
    "devices",
    "num_nodes",
    "precision",
    "plugins",
    "callbacks",
    "profiler",
    "enable_checkpointing",
    "enable_progress_bar",
    "enable_model_summary",
    "sync_batchnorm",
)
"""The arguments of a Trainer that its parts are chosen by, as they are."""


class Trainer(RunView):
    """Trains, validates, tests and predicts with a `LightningModule`; every part of it may be named by a string.

    >>> trainer = Trainer(accelerator="cpu", max_epochs=1, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    >>> trainer.world_size
    1
    """

    from_environment: dict[str, str]
    """The arguments that came from environment variables, and which."""

    @or_from_environment("LX_TRAINER_", "PL_TRAINER_")
    @passed_by_name
    def __init__(
        self,
        *,
        accelerator: Any = "auto",
        strategy: Any = "auto",
        devices: list[int] | str | int = "auto",
        num_nodes: int = 1,
        precision: Any = None,
        logger: Any = None,
        callbacks: Any = None,
        fast_dev_run: int | bool | str = False,
        max_epochs: int | str | None = None,
        min_epochs: int | str | None = None,
        max_steps: int | str = -1,
        min_steps: int | str | None = None,
        max_time: str | timedelta | dict[str, float] | None = None,
        limit_train_batches: int | float | str | None = None,
        limit_val_batches: int | float | str | None = None,
        limit_test_batches: int | float | str | None = None,
        limit_predict_batches: int | float | str | None = None,
        overfit_batches: int | float | str = 0.0,
        val_check_interval: int | float | str | timedelta | dict[str, float] | None = None,
        check_val_every_n_epoch: int | str | None = 1,
        num_sanity_val_steps: int | str | None = None,
        log_every_n_steps: int | str | None = None,
        enable_checkpointing: bool | None = None,
        enable_progress_bar: bool | None = None,
        enable_model_summary: bool | None = None,
        accumulate_grad_batches: int | str | Callable[[int], int] = 1,
        gradient_clip_val: int | float | None = None,
        gradient_clip_algorithm: str | None = None,
        deterministic: bool | str | None = None,
        benchmark: bool | None = None,
        inference_mode: bool = True,
        use_distributed_sampler: bool = True,
        profiler: Any = None,
        detect_anomaly: bool = False,
        barebones: bool = False,
        plugins: Any = None,
        sync_batchnorm: bool = False,
        reload_dataloaders_every_n_epochs: int | str = 0,
        default_root_dir: str | Path | None = None,
        enable_autolog_hparams: bool = True,
        model_registry: str | None = None,
        micro_batch_size: int | str | None = None,
        compile: Any = None,  # noqa: A002 -- as torch calls it
        unseekable_data: str = "replay",
        suggest_integrations: bool = True,
        manager: PluginManager | None = None,
    ) -> None:
        """Reads and checks every argument, then builds the parts; nothing is written to disk before a run begins.

        `accelerator`, `strategy`, `precision`, `logger`, `profiler`, `callbacks` and `plugins` take names of registered components,
        component strings, mappings or instances. Limits take a number of batches (int) or a fraction (float), and every quantity text
        with a unit (`"20ba"`, `"25%"`, `"10ep"`, `"1h30min"`). `accumulate_grad_batches` may be a function from the number of optimizer
        steps taken to a number of batches. `unseekable_data` says what is
        done when fit goes on within an epoch of a loader that can neither seek nor keep a state: `"replay"` reads again and drops what was
        trained on, `"refuse"` raises. `manager` replaces the process's plugin manager. What is not given is taken from
        `LX_TRAINER_<ARGUMENT>` or `PL_TRAINER_<ARGUMENT>` in the environment, if there is one.
        """
        given = dict(locals())  # the arguments by name; each of them goes on to where it is read
        check_switches(given)
        if barebones:
            refuse_with_barebones(given)
        refuse_registry(model_registry)
        self.limits: Limits = read_limits(given)
        self.gradient_clip_val, self.gradient_clip_algorithm = read_clipping(gradient_clip_val, gradient_clip_algorithm)
        check_deterministic(deterministic)
        self.default_root_dir = read_folder(default_root_dir)
        self.barebones = barebones
        self.manager = manager or default_manager()
        developing = bool(self.limits.fast_dev_run)
        request = Request(
            **{name: given[name] for name in ASKED_FOR},
            logger=None if developing else logger,
            max_time=self.limits.max_time,
            default_root_dir=self.default_root_dir,
            quiet=barebones or developing,
            keeps_bar=developing,
        )
        self.resolution = resolve(request, self.manager.registry, self.manager.trace)
        for name, variable in self.from_environment.items():
            self.resolution.decisions.append((name, repr(given[name]), "environment", variable))
        self.inference_mode, self.use_distributed_sampler, self.detect_anomaly = inference_mode, use_distributed_sampler, detect_anomaly
        self.enable_autolog_hparams = enable_autolog_hparams
        self.compile = read_compile(compile)
        self.unseekable_data = read_policy(unseekable_data)
        self._assemble()
        set_flags(deterministic, benchmark)
        self.manager.hook.lx_trainer_created(trainer=self)

    def _assemble(self) -> None:
        """Builds the parts that the resolution chose."""
        resolution = self.resolution
        self.fabric = Fabric.from_resolution(resolution)
        self._loggers: list[Logger] = self._make_loggers(resolution)
        self.callbacks: list[Callback] = order_callbacks((choice.make() for choice in resolution.callbacks), self.manager.registry.callback)
        require_distinct_states(self.callbacks)
        self.profiler = resolution.profiler.make() if resolution.profiler else None
        self.state = TrainerState()
        self.should_stop = False
        self.received_sigterm = False
        self.lightning_module: Any = None
        self.datamodule: Any = None
        self.model: Any = None
        self.optimizers: list[Any] = []
        self.lightning_optimizers: list[Any] = []
        self.lr_scheduler_configs: list[Any] = []
        self.train_dataloader: Any = None
        self.val_dataloaders = self.test_dataloaders = self.predict_dataloaders = None
        self.num_eval_batches: list[int | float] = []
        self.train_meters: dict[Any, Any] = {}
        self.val_meters: dict[Any, Any] = {}
        self.test_meters: dict[Any, Any] = {}
        self.validate_loop, self.test_loop, self.predict_loop = EvaluationProgress(), EvaluationProgress(), EvaluationProgress()
        self.fit_loop = FitLoop(self)
        self.dispatch: Dispatch = None  # type: ignore[assignment]  # made when a run begins
        self.run: Run | None = None
        self.resume = ResumePath()
        exact = torch.float64 if self.accelerator.capabilities.float64 else torch.float32
        self.log = RunLog(self.strategy, lambda: self.loggers, exact, lambda: (self.log_step, self.current_epoch, self.samples_seen))
        self.log.muted = "self.log does nothing in a barebones Trainer." if self.barebones else None

    # -- entry points ----------------------------------------------------------------------------------------------------

    @known_by_name
    def fit(
        self,
        model: Any,
        train_dataloaders: Any = None,
        val_dataloaders: Any = None,
        datamodule: Any = None,
        ckpt_path: Any = None,
        weights_only: bool | None = None,
    ) -> None:
        """Trains a model, from the beginning or from the checkpoint `ckpt_path`: a path, `"best"`, `"last"`, or `"auto"`, the newest
        good one of this training, which starts anew where there is none, so that one command line serves from the first start to the last.

        Loaders may be passed, or be methods of the model or of a data module. Raises `MisconfigurationException` for a model or data that
        lack what fit needs, `FileNotFoundError` for a missing checkpoint, before anything is done.
        """
        self.should_stop = False
        Run(
            self, TrainerFn.FITTING, model, {"train": train_dataloaders, "val": val_dataloaders}, datamodule, ckpt_path, weights_only
        ).start()

    @known_by_name
    def validate(
        self,
        model: Any = None,
        dataloaders: Any = None,
        ckpt_path: Any = None,
        verbose: bool = True,
        datamodule: Any = None,
        weights_only: bool | None = None,
    ) -> list[dict[str, float]]:
        """Evaluates with `validation_step`; returns the metrics of each loader. Without a model: the one of the last fit, at its best
        checkpoint."""
        return self._evaluate(TrainerFn.VALIDATING, "val", model, dataloaders, ckpt_path, verbose, datamodule, weights_only)

    @known_by_name
    def test(
        self,
        model: Any = None,
        dataloaders: Any = None,
        ckpt_path: Any = None,
        verbose: bool = True,
        datamodule: Any = None,
        weights_only: bool | None = None,
    ) -> list[dict[str, float]]:
        """Evaluates with `test_step`; returns the metrics of each loader. Without a model: the one of the last fit, at its best
        checkpoint."""
        return self._evaluate(TrainerFn.TESTING, "test", model, dataloaders, ckpt_path, verbose, datamodule, weights_only)

    @known_by_name
    def predict(
        self,
        model: Any = None,
        dataloaders: Any = None,
        datamodule: Any = None,
        return_predictions: bool | None = None,
        ckpt_path: Any = None,
        weights_only: bool | None = None,
    ) -> Any:
        """Collects what `predict_step` returns on this rank: a list for one loader, a list of lists for several, None with
        `return_predictions=False`."""
        if return_predictions not in (None, True, False):
            raise ArgumentTypeError(f"trainer.predict(return_predictions={return_predictions!r}): it must be True, False or None for True.")
        run = Run(self, TrainerFn.PREDICTING, model, {"predict": dataloaders}, datamodule, ckpt_path, weights_only)
        run.keep_predictions = return_predictions is not False
        return run.start()

    def _evaluate(
        self,
        fn: TrainerFn,
        prefix: str,
        model: Any,
        dataloaders: Any,
        ckpt_path: Any,
        verbose: bool,
        datamodule: Any,
        weights_only: bool | None,
    ) -> list[dict[str, float]]:
        results: list[dict[str, float]] = Run(self, fn, model, {prefix: dataloaders}, datamodule, ckpt_path, weights_only).start() or []
        if verbose and any(results):
            self.print(verdict_table(fn, results))
        return results

    # -- what a run asks of its trainer ----------------------------------------------------------------------------------

    def save_checkpoint(self, filepath: str | Path, weights_only: bool | None = None, storage_options: Any = None) -> None:
        """Writes a checkpoint; every rank must call it. Raises `AttributeError` before a model is attached."""
        if self.lightning_module is None:
            raise AttributeError("save_checkpoint needs a model; call fit, validate, test or predict first.")
        with self.dispatch.action("save_checkpoint"):
            self.strategy.save_checkpoint(dump(self, bool(weights_only)), filepath, storage_options)
            self.strategy.barrier("save_checkpoint")

    def print(self, *args: Any, **kwargs: Any) -> None:
        """Prints on local rank 0, past the progress bar."""
        if self.local_rank == 0:
            bar = self.progress_bar_callback
            (bar.print if bar is not None and self.state.status is TrainerStatus.RUNNING else print)(*args, **kwargs)

    def explain(self) -> str:
        """Prints, and returns, how each part was chosen, who provides it, and why."""
        text = self.resolution.explain()
        self.print(text)
        return text

    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Sends values to every logger, on rank 0; for callbacks. The axis is `log_step` unless given."""
        self.log.send(metrics, step)

    def clip_gradients(self, optimizer: Any, value: int | float | None, algorithm: str | None) -> None:
        """Clips gradients as `LightningModule.clip_gradients` asks; raises if that differs from what this trainer was told."""
        limit, chosen = agreed((value, algorithm), (self.gradient_clip_val, self.gradient_clip_algorithm))
        optimizer = getattr(optimizer, "optimizer", optimizer)
        if limit and chosen == "value":
            self.strategy.clip_gradients_value(self.model, optimizer, limit)
        elif limit:
            self.strategy.clip_gradients_norm(self.model, optimizer, limit)

    def manual_backward(self, loss: Any, *args: Any, **kwargs: Any) -> None:
        """Backward of manual optimization, with its hooks."""
        self.dispatch.emit("on_before_backward", loss)
        own = self.dispatch.own("backward")
        if own is not None:
            own(self.precision_plugin.scale_loss(loss), *args, **kwargs)
        else:
            self.precision_plugin.backward(loss, *args, **kwargs)
        self.dispatch.emit("on_after_backward")

    @property
    def logger(self) -> Logger | None:
        """The first logger."""
        return self.loggers[0] if self.loggers else None

    @logger.setter
    def logger(self, logger: Any) -> None:
        self.loggers = logger

    @property
    def loggers(self) -> list[Logger]:
        """The loggers; what is assigned is read as the argument `logger`, so that it may be a name, except that None means none."""
        return self._loggers

    @loggers.setter
    def loggers(self, loggers: Any) -> None:
        request = replace(self.resolution.request, logger=False if loggers is None else loggers)
        self._loggers = self._make_loggers(resolve(request, self.manager.registry))

    def _make_loggers(self, resolution: Resolution) -> list[Logger]:
        folder = self.default_root_dir
        return [choice.make(save_dir=folder, root_dir=folder) for choice in resolution.loggers]

    @property
    def log_dir(self) -> str | None:
        """The folder of the first logger's run, else the root folder; every rank must ask for it together."""
        logger = self.logger
        folder = self.default_root_dir if logger is None else (logger.log_dir or logger.save_dir)
        return self.strategy.broadcast(folder)  # type: ignore[no-any-return]
