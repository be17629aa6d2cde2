"""Whether a module and its data have what an entry point needs; asked before anything is built or written."""

import inspect
from typing import Any

from lx.data.source import Source
from lx.dispatch import overrides
from lx.kernel.errors import MisconfigurationException
from lx.module import LightningModule
from lx.rank_zero import rank_zero_warn
from lx.state import TrainerFn

_GONE = {
    "training_epoch_end": "on_train_epoch_end",
    "validation_epoch_end": "on_validation_epoch_end",
    "test_epoch_end": "on_test_epoch_end",
}


def verify(fn: TrainerFn, module: LightningModule, source: Source, trainer: Any) -> None:
    """Raises `MisconfigurationException` for what is missing, and warns of halves: a loader without its step, or the reverse."""
    for old, new in _GONE.items():
        if hasattr(module, old):
            raise NotImplementedError(f"{type(module).__name__}.{old} is never called; collect what you need yourself, and use {new}.")
    _CHECKS[fn](module, source)
    if fn is TrainerFn.FITTING and not module.automatic_optimization:
        for name, value, neutral in (
            ("gradient_clip_val", trainer.gradient_clip_val, None),
            ("accumulate_grad_batches", trainer.accumulate_grad_batches, 1),
        ):
            if value not in (neutral, 0):
                raise MisconfigurationException(
                    f"Trainer({name}={value!r}) does nothing in manual optimization; leave it out, and do it in training_step."
                )


def _fit(module: LightningModule, source: Source) -> None:
    for hook in ("training_step", "configure_optimizers"):
        _require(module, hook, "fit")
    _require_loader(module, source, "train", "fit")
    if "optimizer_idx" in inspect.signature(module.training_step).parameters:
        raise RuntimeError(
            "training_step has a parameter optimizer_idx, which is never passed; with several optimizers use manual optimization."
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
        raise MisconfigurationException(f"predict needs {type(module).__name__}.predict_step(batch, batch_idx), or forward.")
    _require_loader(module, source, "predict", "predict")


_CHECKS = {TrainerFn.FITTING: _fit, TrainerFn.VALIDATING: _validate, TrainerFn.TESTING: _test, TrainerFn.PREDICTING: _predict}


def _has(module: LightningModule, name: str) -> bool:
    return overrides(module, name, LightningModule)


def _require(module: LightningModule, name: str, fn: str) -> None:
    if not _has(module, name):
        raise MisconfigurationException(f"{fn} needs {type(module).__name__}.{name}, which is not defined.")


def _require_loader(module: LightningModule, source: Source, prefix: str, fn: str) -> None:
    if not source.has(prefix):
        argument = "train_dataloaders" if prefix == "train" else "dataloaders"
        raise MisconfigurationException(
            f"{fn} needs data: pass {argument}= or datamodule=, or define {prefix}_dataloader in {type(source.owner).__name__}."
        )
