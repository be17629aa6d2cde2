"""Whether a module and its data have what an entry point needs; asked before anything is built or written."""

import inspect
import os
from typing import Any

from lx.data.datamodule import LightningDataModule
from lx.data.source import Source
from lx.dataloader_iter import ITERATOR
from lx.dispatch import overrides
from lx.kernel.errors import ArgumentTypeError, MisconfigurationException
from lx.module import LightningModule
from lx.rank_zero import rank_zero_warn
from lx.running.compiled import inner
from lx.state import TrainerFn
from lx.urls import is_url

_GONE = {
    "training_epoch_end": "on_train_epoch_end",
    "validation_epoch_end": "on_validation_epoch_end",
    "test_epoch_end": "on_test_epoch_end",
    "configure_sharded_model": "configure_model",
}
_STEPS = {
    TrainerFn.FITTING: ("training_step", "validation_step"),
    TrainerFn.VALIDATING: ("validation_step",),
    TrainerFn.TESTING: ("test_step",),
    TrainerFn.PREDICTING: ("predict_step",),
}


def read_model(model: Any, fn: TrainerFn) -> LightningModule:
    """The module that was passed, or the one inside of what `torch.compile` made of it; raises `TypeError` for anything else."""
    module = inner(model) if isinstance(inner(model), LightningModule) else model
    if isinstance(module, LightningModule):
        if "_modules" not in vars(module):
            raise MisconfigurationException(f"{type(module).__name__}.__init__ does not call super().__init__(); call it first of all.")
        return module
    if model is None:
        raise ArgumentTypeError(f"trainer.{fn}() needs a model, since no model was fitted before: trainer.{fn}(model).")
    what = f"the class {model.__name__}" if isinstance(model, type) else f"{type(model).__module__}.{type(model).__qualname__}"
    raise ArgumentTypeError(f"trainer.{fn}(model) takes a LightningModule of lx as its first argument, not {what}.{_meant(model)}")


def _meant(model: Any) -> str:
    """What somebody may have meant who passed something else as the model."""
    if isinstance(model, type) and issubclass(model, LightningModule):
        return f" Did you mean {model.__name__}(...)?"
    cls = model if isinstance(model, type) else type(model)
    if any(base.__name__ == LightningModule.__name__ for base in cls.__mro__):
        return " It derives from the LightningModule of another library; derive it from lx.LightningModule."
    if hasattr(cls, "forward"):
        return " Wrap it: make it an attribute of a LightningModule whose steps call it."
    return ""


def read_data(fn: TrainerFn, given: dict[str, Any], datamodule: Any) -> tuple[dict[str, Any], Any]:
    """The loaders by prefix, and the data module, which may have been passed in the place of the first loaders.

    Raises `MisconfigurationException` for both, and `ArgumentTypeError` for a data module that is none.
    """
    first = next(iter(given))
    if _is_datamodule(given[first]):
        if datamodule is not None:
            raise MisconfigurationException(f"trainer.{fn}: two data modules were given; give one.")
        datamodule, given = given[first], {**given, first: None}
    if datamodule is None:
        return given, None
    if not isinstance(datamodule, LightningDataModule):
        called = isinstance(datamodule, type) and issubclass(datamodule, LightningDataModule)
        hint = f" Did you mean {datamodule.__name__}(...)?" if called else " Loaders are passed by the arguments for them."
        what = f"the class {datamodule.__name__}" if isinstance(datamodule, type) else f"a {type(datamodule).__name__}"
        raise ArgumentTypeError(f"trainer.{fn}(datamodule=...) takes a LightningDataModule of lx, not {what}.{hint}")
    if any(loaders is not None for loaders in given.values()):
        raise MisconfigurationException(f"trainer.{fn}: loaders and a data module were both given; give one of the two.")
    return given, datamodule


def _is_datamodule(value: Any) -> bool:
    """Whether a value is, or was meant as, a data module."""
    return isinstance(value, LightningDataModule) or (isinstance(value, type) and issubclass(value, LightningDataModule))


def verify(fn: TrainerFn, module: LightningModule, source: Source, trainer: Any) -> None:
    """Raises `MisconfigurationException` for what is missing, and warns of halves: a loader without its step, or the reverse.

    What was passed as loaders is looked at, too; what a hook returns will be when the hook has been called.
    """
    for old, new in _GONE.items():
        if hasattr(module, old):
            collect = "collect what you need yourself, and " if old.endswith("epoch_end") else ""
            raise NotImplementedError(f"{type(module).__name__}.{old} is never called; {collect}use {new}.")
    for step in _STEPS[fn]:
        parameters = inspect.signature(getattr(module, step)).parameters
        if ITERATOR in parameters and len(parameters) > 1:
            beside = next(name for name in parameters if name != ITERATOR)
            raise MisconfigurationException(
                f"{type(module).__name__}.{step} takes dataloader_iter beside {beside}; a step that fetches its batches takes nothing"
                f" else, since the iterator says the rest: def {step}(self, dataloader_iter)."
            )
        if not parameters:
            raise ArgumentTypeError(f"{type(module).__name__}.{step} has no parameter for the batch: def {step}(self, batch, batch_idx).")
    source.check_given()
    _CHECKS[fn](module, source)
    if fn is TrainerFn.FITTING:
        check_micro_batches(trainer)
        check_checkpoint_urls(trainer)
    if fn is TrainerFn.FITTING and not module.automatic_optimization:
        for name, value, neutral in (
            ("gradient_clip_val", trainer.gradient_clip_val, None),
            ("accumulate_grad_batches", trainer.accumulate_grad_batches, 1),
            ("micro_batch_size", trainer.limits.micro_batch_size, None),
        ):
            if value not in (neutral, 0):
                raise MisconfigurationException(
                    f"Trainer({name}={value!r}) does nothing in manual optimization; leave it out, and do it in training_step."
                )


def check_micro_batches(trainer: Any) -> None:
    """Raises `MisconfigurationException` where a batch cannot be run in pieces."""
    size = trainer.limits.micro_batch_size
    if size == "auto" and trainer.world_size > 1:
        raise MisconfigurationException(
            f"micro_batch_size='auto' on {trainer.world_size} processes: memory may run out on one of them, and the others would wait;"
            " give a number of samples."
        )
    if size is not None and trainer.strategy.capabilities.handles_accumulation:
        raise MisconfigurationException(
            f"micro_batch_size={size!r}: {type(trainer.strategy).__name__} steps by itself, and would step for every piece; leave it out."
        )


def check_checkpoint_urls(trainer: Any) -> None:
    """Has the checkpoint I/O look at each URL that checkpoints go to, which raises where it cannot be reached."""
    callbacks = trainer.checkpoint_callbacks
    folders = [getattr(callback, "dirpath", None) or trainer.default_root_dir for callback in callbacks]
    for url in {str(folder) for folder in folders if isinstance(folder, str | os.PathLike) and is_url(folder)}:
        trainer.strategy.require_checkpoint_io().exists(url)


def _fit(module: LightningModule, source: Source) -> None:
    for hook in ("training_step", "configure_optimizers"):
        _require(module, hook, "fit")
    _require_loader(module, source, "train", "fit")
    if "optimizer_idx" in inspect.signature(module.training_step).parameters:
        raise RuntimeError(
            "training_step has a parameter optimizer_idx, which is never passed: one loss has all optimizers step; where each has a loss of"
            " its own, use manual optimization."
        )
    has_loader, has_step = source.has("val"), _has(module, "validation_step")
    if has_loader and not has_step:
        rank_zero_warn(f"there is a validation loader, and {type(module).__name__} has no validation_step: fit does not validate.")
    elif has_step and not has_loader:
        rank_zero_warn(f"{type(module).__name__} has a validation_step, and there is no validation loader: fit does not validate.")


def _validate(module: LightningModule, source: Source) -> None:
    _require(module, "validation_step", "validate")
    _require_loader(module, source, "val", "validate")


def _test(module: LightningModule, source: Source) -> None:
    _require(module, "test_step", "test")
    _require_loader(module, source, "test", "test")


def _predict(module: LightningModule, source: Source) -> None:
    if not _has(module, "predict_step") and not _has(module, "forward"):
        raise MisconfigurationException(f"trainer.predict needs {type(module).__name__}.predict_step(batch, batch_idx), or forward.")
    _require_loader(module, source, "predict", "predict")


_CHECKS = {TrainerFn.FITTING: _fit, TrainerFn.VALIDATING: _validate, TrainerFn.TESTING: _test, TrainerFn.PREDICTING: _predict}


def _has(module: LightningModule, name: str) -> bool:
    return overrides(module, name, LightningModule)


def _require(module: LightningModule, name: str, fn: str) -> None:
    if not _has(module, name):
        arguments = "batch, batch_idx" if name.endswith("_step") else ""
        raise MisconfigurationException(
            f"trainer.{fn} needs {type(module).__name__}.{name}, which is not defined: def {name}(self{', ' * bool(arguments)}{arguments})."
        )


def _require_loader(module: LightningModule, source: Source, prefix: str, fn: str) -> None:
    if not source.has(prefix):
        argument = "train_dataloaders" if prefix == "train" else "dataloaders"
        raise MisconfigurationException(
            f"trainer.{fn} needs data: pass {argument}= or datamodule=, or define {prefix}_dataloader in {type(source.owner).__name__}."
        )
