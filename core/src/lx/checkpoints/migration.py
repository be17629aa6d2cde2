"""Brings the content of a checkpoint that an older release of Lightning wrote into the layout of today, step by step, in memory.

Each step is what one release changed; those of all releases after the one that wrote the file are applied, the oldest first.
"""

import re
from collections.abc import Callable
from typing import Any

from packaging.version import InvalidVersion, Version

from lx.rank_zero import rank_zero_warn

FORMAT = "2.6.0"
"""The release of Lightning whose checkpoint layout is that of lx."""

VERSION = "pytorch-lightning_version"
LEGACY_VERSION = "legacy_pytorch-lightning_version"

Step = Callable[[dict[str, Any]], None]

CALLBACKS_0_9 = {
    "pytorch_lightning.callbacks.EarlyStopping": {"wait_count": "early_stop_callback_wait", "patience": "early_stop_callback_patience"},
    "pytorch_lightning.callbacks.ModelCheckpoint": {
        "best_model_score": "checkpoint_callback_best_model_score",
        "best_model_path": "checkpoint_callback_best_model_path",
    },
}
"""What the file held beside the weights of two callbacks, before each callback had a state of its own."""

SCALERS = ("native_amp_scaling_state", "NativeMixedPrecisionPlugin", "MixedPrecisionPlugin")
"""Under which keys the state of the loss scaler lay, and under which it lies."""
SCALER = "lightning.pytorch.plugins.MixedPrecision"

RENAMED_LOOPS = {
    "epoch_loop.batch_loop.optimizer_loop.": "epoch_loop.automatic_optimization.",
    "epoch_loop.batch_loop.manual_loop.": "epoch_loop.manual_optimization.",
    "epoch_loop.val_loop.epoch_loop.": "epoch_loop.val_loop.",
}
"""The parts of the fit loop that were nested more deeply."""


def migrate(checkpoint: dict[str, Any], path: Any = "") -> dict[str, Any]:
    """The same dictionary in the layout of today; that of a newer layout stays as it is, with a warning.

    The version that it was written by stays in `legacy_pytorch-lightning_version`.

    >>> migrate({"pytorch-lightning_version": "1.9.5", "state_dict": {}})
    {'pytorch-lightning_version': '2.6.0', 'state_dict': {}, 'legacy_pytorch-lightning_version': '1.9.5'}
    """
    written = written_by(checkpoint)
    if written is None:
        return checkpoint
    if written.release[:2] > Version(FORMAT).release[:2]:
        rank_zero_warn(
            f"{str(path)!r} was written by Lightning {written}, and lx knows the layout of checkpoints up to that of"
            f" {FORMAT.rpartition('.')[0]}; what is new in it is not read."
        )
        return checkpoint
    _name_callbacks(checkpoint)
    for version, step in STEPS:
        if written < Version(version):
            step(checkpoint)
    if written < Version(FORMAT):
        checkpoint.setdefault(LEGACY_VERSION, checkpoint[VERSION])
        checkpoint[VERSION] = FORMAT
    return checkpoint


def written_by(checkpoint: dict[str, Any]) -> Version | None:
    """The release that wrote a checkpoint; None if it does not say, as one that no Trainer wrote."""
    try:
        return Version(checkpoint[VERSION])
    except (KeyError, TypeError, InvalidVersion):
        return None


def _name_callbacks(checkpoint: dict[str, Any]) -> None:
    """States of callbacks lay under the class itself before 1.5; now it is the name of the class."""
    states = checkpoint.get("callbacks")
    if isinstance(states, dict):
        checkpoint["callbacks"] = {_class_name(key): state for key, state in states.items()}


def _class_name(key: Any) -> str:
    if isinstance(key, type):
        return key.__qualname__
    found = re.fullmatch(r"<class '(.*)'>", str(key))
    return found[1].rpartition(".")[2] if found else str(key)


def _gather_hyperparameters(checkpoint: dict[str, Any]) -> None:
    """They have had two names before."""
    old = {name: checkpoint.pop(name) for name in ("hparams", "module_arguments") if isinstance(checkpoint.get(name), dict)}
    if old:
        gathered = {key: value for values in old.values() for key, value in values.items()}
        checkpoint["hyper_parameters"] = gathered | dict(checkpoint.get("hyper_parameters") or {})


def _give_callbacks_states(checkpoint: dict[str, Any]) -> None:
    states = checkpoint.setdefault("callbacks", {})
    if "checkpoint_callback_best" in checkpoint:  # the score, in the oldest files, in which the lower one was the better
        checkpoint.setdefault("checkpoint_callback_best_model_score", checkpoint.pop("checkpoint_callback_best"))
    for name, fields in CALLBACKS_0_9.items():
        state = {field: checkpoint.pop(old) for field, old in fields.items() if old in checkpoint}
        if state:
            states.setdefault(_class_name(f"<class '{name}'>"), {}).update(state)


def _count_loops(checkpoint: dict[str, Any]) -> None:
    """Before 1.6 a file said which epoch comes next, and how many steps were taken; nothing of the batches within an epoch."""
    epochs, steps = checkpoint.get("epoch", 0), checkpoint.get("global_step", 0)
    batches = {"total": _counts(0), "current": _counts(0), "is_last_batch": False}
    taken = {"total": _counts(steps, "ready", "completed"), "current": _counts(0, "ready", "completed")}
    cleared = {"total": _counts(steps, "ready", "started", "completed"), "current": _counts(0, "ready", "started", "completed")}
    checkpoint["loops"] = {
        "fit_loop": {
            "state_dict": {},
            "epoch_loop.state_dict": {},
            "epoch_loop.batch_progress": batches,
            "epoch_loop.scheduler_progress": {
                "total": _counts(0, "ready", "completed"),
                "current": _counts(0, "ready", "completed"),
            },
            "epoch_loop.batch_loop.optimizer_loop.state_dict": {},
            "epoch_loop.batch_loop.optimizer_loop.optim_progress": {"optimizer": {"step": taken, "zero_grad": cleared}},
            "epoch_loop.batch_loop.manual_loop.state_dict": {},
            # The file does not say which of the two it was.
            "epoch_loop.batch_loop.manual_loop.optim_step_progress": {key: dict(value) for key, value in taken.items()},
            "epoch_loop.val_loop.state_dict": {},
            "epoch_loop.val_loop.epoch_loop.batch_progress": {**batches, "total": _counts(0), "current": _counts(0)},
            "epoch_progress": {"total": _counts(epochs), "current": _counts(epochs)},
        }
    }


def _counts(number: int, *stages: str) -> dict[str, int]:
    return dict.fromkeys(stages or ("ready", "started", "processed", "completed"), number)


def _count_windows(checkpoint: dict[str, Any]) -> None:
    """The axis of the loggers was the number of steps, before it had a counter of its own."""
    if fit := _fit_loop(checkpoint):
        fit.setdefault("epoch_loop.state_dict", {}).setdefault("_batches_that_stepped", checkpoint.get("global_step", 0))


def _shorten_state_keys(checkpoint: dict[str, Any]) -> None:
    """What a callback finds out for itself is no part of the key any more."""
    states = checkpoint.get("callbacks") or {}
    shortened: dict[str, Any] = {}
    for key, state in states.items():
        name = re.sub(r", 'save_on_train_epoch_end': (None|True|False)(?=[,}])", "", key)
        if name in shortened:
            rank_zero_warn(f"the checkpoint holds several states of {name}, which cannot be told apart any more; the first is taken.")
        shortened.setdefault(name, state)
    if states:
        checkpoint["callbacks"] = shortened


def _drop_apex(checkpoint: dict[str, Any]) -> None:
    if checkpoint.pop("amp_scaling_state", None) is not None:
        rank_zero_warn("the checkpoint holds the state of apex, which is left out; mixed precision is that of torch.")


def _flatten_loops(checkpoint: dict[str, Any]) -> None:
    """Loops are nested less deeply since 2.0."""
    fit = _fit_loop(checkpoint)
    for old in list(fit):
        new = next((new + old.removeprefix(start) for start, new in RENAMED_LOOPS.items() if old.startswith(start)), None)
        if new is not None:
            state = fit.pop(old)
            fit.setdefault(new, state)
    for gone in ("epoch_loop.batch_loop.state_dict", "epoch_loop.val_loop.dataloader_progress"):
        fit.pop(gone, None)
    fit.get("epoch_loop.automatic_optimization.optim_progress", {}).pop("optimizer_position", None)
    for name in ("validate_loop", "test_loop", "predict_loop"):
        loop = (checkpoint.get("loops") or {}).get(name) or {}
        loop.pop("dataloader_progress", None)
        loop.pop("epoch_loop.state_dict", None)
        if "epoch_loop.batch_progress" in loop:
            loop["batch_progress"] = loop.pop("epoch_loop.batch_progress")


def _rename_scaler(checkpoint: dict[str, Any]) -> None:
    for old in SCALERS:
        if old in checkpoint:
            checkpoint.setdefault(SCALER.rpartition(".")[2], checkpoint.pop(old))


def _fit_loop(checkpoint: dict[str, Any]) -> dict[str, Any]:
    return (checkpoint.get("loops") or {}).get("fit_loop") or {}


STEPS: tuple[tuple[str, Step], ...] = (
    ("0.8.0", _gather_hyperparameters),
    ("0.10.0", _give_callbacks_states),
    ("1.6.0", _count_loops),
    ("1.6.5", _count_windows),
    ("1.9.0", _shorten_state_keys),
    ("2.0.0", _drop_apex),
    ("2.0.0", _flatten_loops),
    ("2.1.0", _rename_scaler),
)
"""The releases that changed the layout, and what they changed."""
