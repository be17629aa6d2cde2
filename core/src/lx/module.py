"""LightningModule: the model, its steps and its optimizers, as a list of hooks that are all optional."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from lx.export import Exportable
from lx.fabric_trainer import FabricLog, FabricTrainer
from lx.hooks import DataHooks, ModelHooks
from lx.hparams.mixin import HyperparametersMixin
from lx.kernel.errors import MisconfigurationException
from lx.logging.collection import items_of
from lx.module_loading import LoadableFromCheckpoint
from lx.rank_zero import rank_zero_warn

__all__ = ["LightningModule"]

_RUN_STATE = ("_trainer", "_fabric", "_log", "compiler")


class LightningModule(ModelHooks, DataHooks, HyperparametersMixin, LoadableFromCheckpoint, Exportable, nn.Module):
    """A model that knows how it is trained.

    Override `training_step` and `configure_optimizers`, and whatever else is wanted; a hook that is not overridden costs nothing.

    >>> class Line(LightningModule):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.layer = nn.Linear(1, 1)
    ...     def training_step(self, batch, batch_idx):
    ...         return self.layer(batch).pow(2).mean()
    ...     def configure_optimizers(self):
    ...         return torch.optim.SGD(self.parameters(), lr=0.1)
    >>> Line().global_step
    0
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._trainer: Any = None
        self._fabric: Any = None
        self._log: Any = None
        self.compiler: Any = None  # compiles the steps of this module; from_compiled notes it
        self._automatic_optimization = True
        self._strict_loading: bool | None = None
        self._example_input_array: Any = None
        self.prepare_data_per_node = True
        self.allow_zero_length_dataloader_with_multiple_devices = False

    def __getstate__(self) -> dict[str, Any]:
        # A copy or a pickle of a model must not carry the whole run with it.
        return {name: None if name in _RUN_STATE else value for name, value in self.__dict__.items()}

    # -- settings --------------------------------------------------------------------------------------------------------

    @property
    def automatic_optimization(self) -> bool:
        """Whether the trainer runs backward and steps the optimizer; set it to False in `__init__` to do so yourself."""
        return self._automatic_optimization

    @automatic_optimization.setter
    def automatic_optimization(self, automatic: bool) -> None:
        self._automatic_optimization = automatic

    @property
    def strict_loading(self) -> bool:
        """Whether a checkpoint must hold exactly the weights of this model; True unless set."""
        return True if self._strict_loading is None else self._strict_loading

    @strict_loading.setter
    def strict_loading(self, strict: bool) -> None:
        self._strict_loading = strict

    @property
    def example_input_array(self) -> Any:
        """An input for `forward`, for summaries and graphs: a tensor, a tuple of positional or a mapping of keyword arguments."""
        return self._example_input_array

    @example_input_array.setter
    def example_input_array(self, example: Any) -> None:
        self._example_input_array = example

    # -- the run ---------------------------------------------------------------------------------------------------------

    @property
    def trainer(self) -> Any:
        """The trainer that this module is attached to, or its parent module; raises `RuntimeError` where there is none."""
        if self._trainer is None:
            raise RuntimeError(f"{type(self).__name__} is not attached to a Trainer; trainer.fit(model) attaches it.")
        return self._trainer

    @trainer.setter
    def trainer(self, trainer: Any) -> None:
        for part in self.modules():
            if isinstance(part, LightningModule):
                part._trainer = trainer
                part._log = None if trainer is None else trainer.log

    @property
    def fabric(self) -> Any:
        """The Fabric that this module was set up with, None without one. Under it, `self.log`, `manual_backward`, `optimizers`,
        `clip_gradients`, `print` and `logger` are the Fabric's."""
        return self._fabric

    @fabric.setter
    def fabric(self, fabric: Any) -> None:
        for part in self.modules():
            if isinstance(part, LightningModule):
                part._fabric = fabric
                part._trainer = None if fabric is None else FabricTrainer(fabric, part)
                part._log = None if fabric is None else FabricLog(fabric)

    @property
    def current_epoch(self) -> int:
        """The epoch that runs, from 0; 0 unattached."""
        return self._trainer.current_epoch if self._trainer is not None else 0

    @property
    def global_step(self) -> int:
        """The optimizer steps taken so far, over all epochs; 0 unattached."""
        return self._trainer.global_step if self._trainer is not None else 0

    @property
    def global_rank(self) -> int:
        """This process among all; 0 unattached."""
        return self._trainer.global_rank if self._trainer is not None else 0

    @property
    def local_rank(self) -> int:
        """This process among those of its node; 0 unattached."""
        return self._trainer.local_rank if self._trainer is not None else 0

    @property
    def logger(self) -> Any:
        """The first logger, None without one."""
        return self._trainer.logger if self._trainer is not None else None

    @property
    def loggers(self) -> list[Any]:
        """The loggers."""
        return self._trainer.loggers if self._trainer is not None else []

    @property
    def device(self) -> torch.device:
        """The device that the run puts this module on; unattached, the one of its first parameter."""
        if self._trainer is not None:
            return self._trainer.strategy.root_device  # type: ignore[no-any-return]
        first = next(self.parameters(), None)
        return first.device if first is not None else torch.device("cpu")

    @property
    def device_mesh(self) -> Any:
        """The mesh over which a strategy shards this module, None where there is none."""
        return None if self._trainer is None else getattr(self._trainer.strategy, "device_mesh", None)

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the first floating point parameter."""
        return next((parameter.dtype for parameter in self.parameters() if parameter.is_floating_point()), torch.get_default_dtype())

    @property
    def on_gpu(self) -> bool:
        """Whether the device is a CUDA one."""
        return self.device.type == "cuda"

    def print(self, *args: Any, **kwargs: Any) -> None:
        """Prints on rank 0, past the progress bar."""
        if self._trainer is None:
            print(*args, **kwargs)
        else:
            self._trainer.print(*args, **kwargs)

    def all_gather(self, data: Any, group: Any = None, sync_grads: bool = False) -> Any:
        """Every tensor of a collection from all processes, stacked in a new first dimension; in one process as it is."""
        return self.trainer.fabric.all_gather(data, group, sync_grads)

    # -- logging ---------------------------------------------------------------------------------------------------------

    def log(
        self,
        name: str,
        value: Any,
        prog_bar: bool = False,
        logger: bool | None = None,
        on_step: bool | None = None,
        on_epoch: bool | None = None,
        reduce_fx: Any = "mean",
        enable_graph: bool = False,
        sync_dist: bool = False,
        sync_dist_group: Any = None,
        add_dataloader_idx: bool = True,
        batch_size: float | Tensor | None = None,
        metric_attribute: str | None = None,
        rank_zero_only: bool = False,
    ) -> None:
        """Logs one value: a number, a tensor of one element, or a metric object that is an attribute of this module.

        Call it in a step or in a hook of training, validation or test, on every rank. `on_step` logs this batch's value, `on_epoch` the
        epoch's, reduced by `reduce_fx` (`"mean"`, weighted by `batch_size`; `"sum"`, `"min"`, `"max"`); in training steps the default is
        the former, in evaluation the latter. With both, the names end in `_step` and `_epoch`. `prog_bar` shows it beside the bar,
        `logger=False` keeps it from loggers. `sync_dist` reduces over processes: epoch values once an epoch, step values at every call.
        Values stay on their device, and so does a `batch_size` that is a tensor. Without one it is the number of samples in the batch; for
        the mean over tokens, pass their number, 0 where a batch has none.

        Raises `MisconfigurationException` where nothing can be logged or the arguments contradict, `ValueError` for what is no single
        number.
        """
        if self._log is None:
            rank_zero_warn(f"self.log({name!r}): this module is not attached to a Trainer, so nothing is logged.")
            return
        self._log.log(
            name,
            value,
            prog_bar,
            logger,
            on_step,
            on_epoch,
            reduce_fx,
            enable_graph,
            sync_dist,
            sync_dist_group,
            add_dataloader_idx,
            batch_size,
            metric_attribute,
            rank_zero_only,
        )

    def log_dict(self, dictionary: Mapping[str, Any], **options: Any) -> None:
        """Logs every value of a mapping (or of a collection of metrics) under its name; takes the options of `log`.

        Called as `log` is. Raises as `log` does, and `TypeError` for an option that it does not know.
        """
        if type(self._log) is FabricLog:
            self._log.log_dict(dict(items_of(dictionary)), **options)
            return
        for name, value in dictionary.items() if type(dictionary) is dict else items_of(dictionary):
            self.log(name, value, **options)

    # -- steps -----------------------------------------------------------------------------------------------------------

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What `self(...)` runs; a model's own."""
        return super().forward(*args, **kwargs)

    def training_step(self, *args: Any, **kwargs: Any) -> Any:
        """The loss of a batch: `training_step(batch, batch_idx)` returns a scalar, a mapping with `"loss"`, or None to skip the batch.

        Called for every training batch, on every rank.

        The mapping may say as `"num_items"` of how many samples or tokens the loss is the mean: a number, or a tensor of one element,
        which is not read from its device. Then the gradient of an optimizer step is that of the mean over all items of its batches, and
        of those of the other ranks; without it batches count alike. Say it for each batch of a step or for none, on every rank.

        >>> import lx
        >>> class Tagger(lx.LightningModule):
        ...     def training_step(self, batch, batch_idx):
        ...         words, tags = batch  # -100 is padding
        ...         loss = torch.nn.functional.cross_entropy(self(words).flatten(0, 1), tags.flatten())
        ...         return {"loss": loss, "num_items": (tags != -100).sum()}
        """
        raise NotImplementedError

    def validation_step(self, *args: Any, **kwargs: Any) -> Any:
        """Evaluates a batch: `validation_step(batch, batch_idx[, dataloader_idx])`; what it returns goes to the batch-end hooks."""
        raise NotImplementedError

    def test_step(self, *args: Any, **kwargs: Any) -> Any:
        """Tests a batch: `test_step(batch, batch_idx[, dataloader_idx])`; what it returns goes to the batch-end hooks."""
        raise NotImplementedError

    def predict_step(self, *args: Any, **kwargs: Any) -> Any:
        """Predicts a batch: `predict_step(batch, batch_idx[, dataloader_idx])`; without one, `self(batch)`."""
        return self(args[0] if args else next(iter(kwargs.values())))

    def configure_optimizers(self) -> Any:
        """The optimizers and schedulers; called once, on every rank, when fit begins.

        Returns an optimizer; a list of optimizers; `([optimizers], [schedulers])`; `{"optimizer": ..., "lr_scheduler": ...}`; a list
        of such mappings; or None. A scheduler may be a mapping with `scheduler`, `interval`, `frequency`, `monitor`, `strict`, `name`.
        """
        raise NotImplementedError

    def configure_callbacks(self) -> Any:
        """Callbacks that this model brings; they replace those of the trainer that have the same class or a base of it."""
        return []

    # -- optimization ----------------------------------------------------------------------------------------------------

    def optimizers(self, use_pl_optimizer: bool = True) -> Any:
        """The optimizer, or the list of several; with `use_pl_optimizer=False` the bare ones, past hooks and precision."""
        found = self.trainer.lightning_optimizers if use_pl_optimizer else self.trainer.optimizers
        return found[0] if len(found) == 1 else list(found)

    def lr_schedulers(self) -> Any:
        """The scheduler, the list of several, or None."""
        found = [config.scheduler for config in self.trainer.lr_scheduler_configs]
        return found[0] if len(found) == 1 else found or None

    def manual_backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        """Backward, in manual optimization or under Fabric; raises `MisconfigurationException` in automatic optimization."""
        if self.automatic_optimization and not isinstance(self._trainer, FabricTrainer):
            raise MisconfigurationException(
                "manual_backward is for manual optimization: set self.automatic_optimization = False in __init__."
            )
        self.trainer.manual_backward(loss, *args, **kwargs)

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        """Runs backward from the loss; override it to run it otherwise."""
        loss.backward(*args, **kwargs)

    def optimizer_step(self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any = None) -> None:
        """Steps the optimizer; the closure runs forward and backward, and whoever overrides this must see that it is called."""
        optimizer.step(closure=optimizer_closure)

    def optimizer_zero_grad(self, epoch: int, batch_idx: int, optimizer: Optimizer) -> None:
        """Clears the gradients, on the first batch of an accumulation window."""
        optimizer.zero_grad()

    def lr_scheduler_step(self, scheduler: Any, metric: Any) -> None:
        """Moves a scheduler; `metric` is the monitored value for plateau schedulers, else None."""
        if metric is None:
            scheduler.step()
        else:
            scheduler.step(metric)

    def configure_gradient_clipping(
        self, optimizer: Optimizer, gradient_clip_val: int | float | None = None, gradient_clip_algorithm: str | None = None
    ) -> None:
        """Clips the gradients before a step; override it to clip otherwise."""
        self.clip_gradients(optimizer, gradient_clip_val=gradient_clip_val, gradient_clip_algorithm=gradient_clip_algorithm)

    def clip_gradients(
        self, optimizer: Optimizer, gradient_clip_val: int | float | None = None, gradient_clip_algorithm: str | None = None
    ) -> None:
        """Clips by `"norm"` or by `"value"`; raises `MisconfigurationException` for values that differ from the trainer's."""
        self.trainer.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)

    def toggle_optimizer(self, optimizer: Any) -> None:
        """Lets only this optimizer's parameters require gradients, until `untoggle_optimizer`."""
        own = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
        remembered = {}
        for other in self.trainer.optimizers:
            for parameter in (parameter for group in other.param_groups for parameter in group["params"]):
                if parameter not in remembered:
                    remembered[parameter] = parameter.requires_grad
                    parameter.requires_grad = parameter.requires_grad and id(parameter) in own
        self.__dict__["_toggled"] = remembered

    def untoggle_optimizer(self, optimizer: Any) -> None:
        """Gives every parameter the flag back that it had before `toggle_optimizer`."""
        for parameter, flag in self.__dict__.pop("_toggled", {}).items():
            parameter.requires_grad = flag

    @contextmanager
    def toggled_optimizer(self, optimizer: Any) -> Iterator[None]:
        """`toggle_optimizer` for a block."""
        self.toggle_optimizer(optimizer)
        try:
            yield
        finally:
            self.untoggle_optimizer(optimizer)

    # -- the model -------------------------------------------------------------------------------------------------------

    def freeze(self) -> "LightningModule":
        """Lets no parameter require gradients, and goes to eval mode."""
        self.requires_grad_(False)
        self.eval()
        return self

    def unfreeze(self) -> "LightningModule":
        """Lets every parameter require gradients, and goes to train mode."""
        self.requires_grad_(True)
        self.train()
        return self
