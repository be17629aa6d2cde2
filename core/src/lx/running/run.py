"""One call of an entry point, from its arguments to its end: what happens, in which order, and what happens when it fails."""

import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import torch

from lx.arguments.bounds import epoch_bounds
from lx.checkpoints import protocol
from lx.data.datamodule import LightningDataModule
from lx.data.source import LoaderSetup, Source
from lx.data.transfer import compile_transfer
from lx.dispatch import Dispatch, overrides
from lx.hparams.mixin import drop_unpicklable
from lx.hparams.sent import send_hyperparameters
from lx.interfaces.layer_sync import LayerSync
from lx.kernel.errors import StopRun
from lx.kernel.garbage import collection_relaxed
from lx.loops.evaluate import Evaluation
from lx.loops.predict import Prediction
from lx.module import LightningModule
from lx.optimizers import LightningOptimizer, read_configuration
from lx.rank_zero import PossibleUserWarning, rank_zero_warn
from lx.running.callbacks import merge_callbacks
from lx.running.compiled import Compilation
from lx.running.ending import cut_off, release
from lx.running.interruption import Interruption
from lx.running.reading import read_checkpoint
from lx.running.requeue import Requeue
from lx.running.signals import INTERRUPTED, is_interactive
from lx.running.termination import Termination
from lx.running.verify import read_data, read_model, verify
from lx.state import RunningStage, TrainerFn, TrainerStatus

STAGES = {
    TrainerFn.FITTING: RunningStage.TRAINING,
    TrainerFn.VALIDATING: RunningStage.VALIDATING,
    TrainerFn.TESTING: RunningStage.TESTING,
    TrainerFn.PREDICTING: RunningStage.PREDICTING,
}


class Run:
    """One call of `fit`, `validate`, `test` or `predict`.

    arguments, model and data verified
    processes launched
    callbacks of the model merged, checkpoint found and read
    prepare_data
    setup (data module, callbacks, module), configure_model
    [weights, data module and callbacks restored]
    module moved, configure_optimizers, wrapped
    on_fit_start
    [loops, optimizers, schedulers, precision restored]
    the loop
    on_fit_end
    checkpoints written to their end
    module back on the CPU
    teardown (data module, callbacks, module)
    loggers finalized, profiler described

    An exception ends it wherever it is: see `cut_off`.
    """

    def __init__(
        self, trainer: Any, fn: TrainerFn, model: Any, given: dict[str, Any], datamodule: Any, ckpt_path: Any, weights_only: bool | None
    ) -> None:
        given, datamodule = read_data(fn, given, datamodule)
        self.trainer = trainer
        self.fn = fn
        self.given_model = model is not None
        self.module = read_model(model if model is not None else trainer.lightning_module, fn)
        self.compilation = Compilation(trainer, self.module, model)
        self.datamodule = datamodule
        self.source = Source(self.module, datamodule, given)
        self.weights_only = weights_only
        self.asked_ckpt_path = ckpt_path
        self.validates = False
        self.keep_predictions = True
        self.exception: BaseException | None = None
        self.when_cut_off: list[Callable[[], None]] = []  # what is to be brought back, once all have been told
        self.requeue = Requeue(trainer, fn)
        self.termination = Termination(trainer, fn, self.requeue)
        self.interruption = Interruption(trainer)
        self.began = False
        self.since = time.time() - 1  # file systems keep times more or less exactly
        self.to_tear_down: list[tuple[Any, Callable[[], Any]]] = []
        self.loop: Any = None  # the fit loop, an Evaluation or a Prediction, once it has begun
        self._layer_sync: LayerSync | None = None
        self._on_devices = False

    def start(self) -> Any:
        """Runs it all on every process; returns what the loop returns."""
        trainer = self.trainer
        trainer.state.fn, trainer.state.status, trainer.state.stage = self.fn, TrainerStatus.RUNNING, STAGES[self.fn]
        trainer.run, trainer.received_sigterm = self, False
        with self.termination:
            return self._start()

    def interrupt(self, error: BaseException, at_once: bool = False) -> bool:
        """Has the thread that trains raise an error at its next batch boundary, or at the end of the loop if no batch comes any more.

        From any thread, on any rank; costs nothing per step. `at_once` does not wait for a batch that hangs: what the main thread does in
        Python or waits in is broken off as by Ctrl-C, and the error raised from there. Of several, the first is raised, and the others are
        notes of it. Returns False where it comes too late: the run is over, and the caller has to tell of the error itself.
        """
        return self.interruption.interrupt(error, at_once)

    def _start(self) -> Any:
        trainer = self.trainer
        try:
            verify(self.fn, self.module, self.source, trainer)  # before other processes are started
            result = trainer.fabric.launch(lambda fabric: self._on_every_rank())
        except BaseException as raised:
            error = self.interruption.meant_by(raised)
            cut_off(self, error)
            self.interruption.close(error)
            if isinstance(error, KeyboardInterrupt) and not is_interactive():
                sys.exit(INTERRUPTED)
            if error is not raised:
                raise error from raised
            raise
        finally:
            trainer.run = None if self.fn is not TrainerFn.FITTING else self
        self.interruption.close()
        self.termination.end_whole()
        return result

    def _on_every_rank(self) -> Any:
        trainer = self.trainer
        self.termination.begin()
        self._attach()
        self._ready_data()
        content = read_checkpoint(self)  # before anything is prepared or written
        trainer.dispatch = self._new_dispatch()
        self.began = True
        self.termination.heed()
        if trainer.profiler is not None:
            trainer.profiler.setup(stage=self.fn.value, local_rank=trainer.local_rank, log_dir=trainer.log_dir)
        with ExitStack() as stack:
            stack.enter_context(torch.autograd.set_detect_anomaly(trainer.detect_anomaly) if trainer.detect_anomaly else ExitStack())
            stack.enter_context(self.compilation.of_forward())
            try:
                self._prepare(content)
                trainer.manager.hook.lx_run_started(run=self)
                result = self._loop()
                self.interruption.surface()
            except StopRun:
                self._end(early=True)
                return None
            self._end()
        return result

    # -- before ----------------------------------------------------------------------------------------------------------

    def _attach(self) -> None:
        trainer, module = self.trainer, self.module
        if trainer.lightning_module is not module:  # those of this one stay, for checkpoints that are written after fit
            trainer.optimizers, trainer.lr_scheduler_configs, trainer.lightning_optimizers = [], [], []
        trainer.lightning_module, trainer.datamodule = module, self.datamodule
        trainer.model = module
        trainer.log.begin_run(module, (trainer.train_meters, trainer.val_meters, trainer.test_meters))
        module.trainer = trainer
        if self.datamodule is not None:
            self.datamodule.trainer = trainer
        if self.fn is TrainerFn.FITTING:
            loop = trainer.fit_loop
            loop.forget_data()
            timed = any("timer" in callback.roles for callback in trainer.callbacks)
            loop.max_epochs, loop.min_epochs = epoch_bounds(loop, timed)
        drop_unpicklable(module)
        if self.datamodule is not None:
            drop_unpicklable(self.datamodule)
        merge_callbacks(trainer, module)
        if self.fn is TrainerFn.FITTING and trainer.checkpoint_callbacks and not trainer.fast_dev_run:
            protocol.check_hparams(trainer)
        for callback in trainer.callbacks:
            callback.log, callback.log_dict = module.log, module.log_dict

    def _ready_data(self) -> None:
        limits = self.trainer.limits
        self.validates = (
            self.fn is TrainerFn.FITTING
            and self.source.has("val")
            and overrides(self.module, "validation_step", LightningModule)
            and limits.limit_val_batches != 0
        )
        allow_empty = any(
            getattr(owner, "allow_zero_length_dataloader_with_multiple_devices", False)
            for owner in (self.module, self.datamodule)
            if owner is not None
        )
        self.trainer.source = self.source
        self.trainer.loaders = LoaderSetup(
            self.trainer.strategy,
            self.trainer.use_distributed_sampler,
            bool(limits.overfit_batches),
            allow_empty,
            reloads=bool(limits.reload_dataloaders_every_n_epochs),
        )

    def _new_dispatch(self) -> Dispatch:
        trainer = self.trainer
        return Dispatch(
            trainer,
            self.module,
            trainer.callbacks,
            trainer.log,
            base=LightningModule,
            profiler=trainer.profiler,
            trace=trainer.manager.trace,
        )

    def _prepare(self, content: dict[str, Any] | None) -> None:
        trainer, module, datamodule = self.trainer, self.module, self.datamodule
        self._prepare_data()
        trainer.dispatch.announce("setup", self.owners())
        if datamodule is not None:
            self._set_up(datamodule, "LightningDataModule", stage=self.fn)
        for callback in trainer.callbacks:
            self._set_up(callback, "Callback", trainer, module, self.fn)
        self._set_up(module, "LightningModule", stage=self.fn)
        if overrides(module, "configure_model", LightningModule):
            with trainer.strategy.module_init_context():
                trainer.dispatch.timed(module.configure_model, module, "LightningModule", "configure_model")()
        late = trainer.strategy.capabilities.restores_after_setup
        if content is not None and not late:
            protocol.restore_model(trainer, content)
        trainer.dispatch = self._new_dispatch()  # setup may have changed what is overridden
        self._set_up_model()
        if self.fn is TrainerFn.FITTING:
            trainer.dispatch.emit("on_fit_start")
        if content is not None and late:
            protocol.restore_model(trainer, content)
        send_hyperparameters(trainer, [datamodule, module])
        if content is not None:
            protocol.restore_precision(trainer, content)
            if self.fn is TrainerFn.FITTING:
                protocol.restore_training(trainer, content)
        trainer.transfer = compile_transfer(
            module,
            datamodule,
            trainer.strategy.root_device,
            trainer.precision_plugin,
            trainer.accelerator.capabilities.non_blocking,
            trainer.dispatch,
        )

    def _prepare_data(self) -> None:
        """Runs `prepare_data` on one process of every node, or of all, and lets the others wait."""
        trainer = self.trainer
        for owner, kind in ((self.datamodule, "LightningDataModule"), (self.module, "LightningModule")):
            if owner is None or not _has_own(owner, "prepare_data"):
                continue
            if trainer.local_rank == 0 if owner.prepare_data_per_node else trainer.global_rank == 0:
                trainer.dispatch.timed(owner.prepare_data, owner, kind, "prepare_data")()
        trainer.strategy.barrier("prepare_data")

    def _set_up(self, owner: Any, kind: str, *args: Any, **kwargs: Any) -> None:
        """Calls the `setup` of one who takes part; once that has begun, `teardown` follows, however the run ends."""
        dispatch = self.trainer.dispatch
        self.to_tear_down.append((owner, lambda: dispatch.timed(owner.teardown, owner, kind, "teardown")(*args, **kwargs)))
        dispatch.timed(owner.setup, owner, kind, "setup")(*args, **kwargs)

    def owners(self) -> list[Any]:
        """Who takes part, in the order of `setup` and `teardown`."""
        return [*([self.datamodule] if self.datamodule is not None else []), *self.trainer.callbacks, self.module]

    def _set_up_model(self) -> None:
        trainer, module, strategy = self.trainer, self.module, self.trainer.strategy
        fitting = self.fn is TrainerFn.FITTING
        self._on_devices = True
        module = trainer.precision_plugin.convert_module(module)
        strategy.module_to_device(module)
        self._layer_sync = trainer.resolution.layer_sync.make() if fitting and trainer.resolution.layer_sync else None
        if self._layer_sync is not None:
            module = self._layer_sync.apply(module)
        if not fitting:
            trainer.model = module if strategy.capabilities.wraps_training else strategy.setup_module(module)
            return
        self._configure_optimizers(module)
        if strategy.capabilities.joint_setup:
            trainer.model, trainer.optimizers = strategy.setup_module_and_optimizers(module, trainer.optimizers)
        else:
            trainer.model = strategy.setup_module(module)
            trainer.optimizers = [strategy.setup_optimizer(optimizer) for optimizer in trainer.optimizers]
        self.hand_out_optimizers()

    def _configure_optimizers(self, module: Any) -> None:
        trainer = self.trainer
        configure = trainer.dispatch.timed(module.configure_optimizers, module, "LightningModule", "configure_optimizers")
        with collection_relaxed():  # the first optimizer of a process has torch import its compiler
            configured = configure()
        steps_schedulers = overrides(module, "lr_scheduler_step", LightningModule)
        trainer.optimizers, trainer.lr_scheduler_configs = read_configuration(
            configured, automatic=module.automatic_optimization, steps_schedulers=steps_schedulers
        )

    def renew_optimizers(self) -> bool:
        """Asks `configure_optimizers` again, for a callback that changed in `on_fit_start` what it reads, such as the learning rate.

        Returns False, and changes nothing, where it is too late: training has begun, or the strategy has made module and optimizers one.
        """
        trainer, strategy = self.trainer, self.trainer.strategy
        if self.loop is not None or strategy.capabilities.joint_setup:
            return False
        self._configure_optimizers(self.module)
        trainer.optimizers = [strategy.setup_optimizer(optimizer) for optimizer in trainer.optimizers]
        self.hand_out_optimizers()
        return True

    def hand_out_optimizers(self) -> None:
        """Wraps the optimizers as the module gets them."""
        trainer, step = self.trainer, _step_by_hand(self.trainer)
        trainer.lightning_optimizers = [LightningOptimizer(optimizer, step, self.module) for optimizer in trainer.optimizers]

    # -- the loop --------------------------------------------------------------------------------------------------------

    def _loop(self) -> Any:
        trainer = self.trainer
        if self.fn is TrainerFn.FITTING:
            asleep = [name for name, part in self.module.named_modules() if not part.training]
            if asleep:
                rank_zero_warn(
                    f"{len(asleep)} module(s) are in eval mode as fit begins, the first {asleep[0] or 'the whole model'!r}; they stay so.",
                    PossibleUserWarning,
                )
            self.loop = trainer.fit_loop
            with torch.enable_grad(), trainer.log.clock:
                return self.loop.run()
        if self.fn is TrainerFn.PREDICTING:
            self.loop = Prediction(trainer, self.keep_predictions)
            return self.loop.run()
        validating = self.fn is TrainerFn.VALIDATING
        limit = trainer.limits.limit_val_batches if validating else trainer.limits.limit_test_batches
        self.loop = Evaluation(trainer, STAGES[self.fn], limit)
        return self.loop.run(progress=(trainer.validate_loop if validating else trainer.test_loop).batch_progress)

    # -- after -----------------------------------------------------------------------------------------------------------

    def _end(self, early: bool = False) -> None:
        trainer = self.trainer
        if self.fn is TrainerFn.FITTING and not early:
            trainer.dispatch.emit("on_fit_end")
        if trainer.strategy.checkpoint_io is not None:
            trainer.strategy.checkpoint_io.teardown()  # what could not be written ends the run while it can be told
        self.leave_devices()
        trainer.dispatch.announce("teardown", self.owners())
        while self.to_tear_down:
            self.to_tear_down.pop(0)[1]()
        for logger in trainer.loggers if trainer.is_global_zero and not early else []:
            logger.finalize("success")
        if trainer.profiler is not None:
            trainer.profiler.describe()
            trainer.profiler.teardown(stage=self.fn.value)
        trainer.state.status, trainer.state.stage = TrainerStatus.FINISHED, None
        trainer.manager.hook.lx_run_ended(run=self)

    def leave_devices(self) -> None:
        """Brings the module back to the CPU, unwrapped and with plain layers, if it has left it, and ends the workers of loaders."""
        if self.fn is TrainerFn.FITTING and self.loop is not None:
            for part in filter(None, (self.loop.epoch_loop, self.loop.data, self.loop.validation)):
                part.end()
        if not self._on_devices:
            return
        self._on_devices = False
        if self._layer_sync is not None:
            self._layer_sync.revert(self.module)
        self.trainer.model = self.module
        self.module.cpu()
        if self.fn is TrainerFn.FITTING and self.trainer.strategy.root_device.type != "cpu":
            release(self.trainer.optimizers)
        self.trainer.precision_plugin.teardown()


def _has_own(owner: Any, hook: str) -> bool:
    base = LightningModule if isinstance(owner, LightningModule) else LightningDataModule
    return overrides(owner, hook, base)


def _step_by_hand(trainer: Any) -> Callable[..., Any]:
    """Steps an optimizer that a module holds outside of its step, through the precision alone."""
    return lambda optimizer, closure, kwargs: trainer.precision_plugin.optimizer_step(optimizer, closure, **kwargs)
