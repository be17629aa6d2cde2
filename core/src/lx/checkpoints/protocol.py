"""What a checkpoint holds, and the order in which it is taken and put back. The keys are Lightning's, so that either reads the other's."""

from collections.abc import Callable
from typing import Any

import torch

from lx.checkpoints import unfinished
from lx.checkpoints.migration import FORMAT, migrate
from lx.checkpoints.pickled_names import reading
from lx.hparams.configurations import pack
from lx.kernel.errors import (
    ArgumentTypeError,
    CheckpointCorruptError,
    CheckpointKeyError,
    CheckpointMismatchError,
    MisconfigurationException,
)
from lx.rank_zero import rank_zero_warn

CONFIGURATIONS = "hparams_configurations"
"""Under which key a file says which hyperparameters were configurations of OmegaConf."""

DATAMODULE_CLASS = "datamodule_class"
"""Under which key a file says whose the state of the data module is, beside the state, whose key is the name of the class alone."""

WEIGHTS_ONLY_HINT = "it was saved with weights_only=True, which is enough for validate, test and predict, and not for going on with fit"


def dump(trainer: Any, weights_only: bool = False) -> dict[str, Any]:
    """The checkpoint of a trainer as it stands; called on every rank."""
    module, datamodule = trainer.lightning_module, trainer.datamodule
    checkpoint: dict[str, Any] = {
        "epoch": trainer.current_epoch,
        "global_step": trainer.global_step,
        "pytorch-lightning_version": FORMAT,
        "state_dict": trainer.strategy.module_state_dict(module),
        "loops": _loops(trainer),
    }
    if not weights_only:
        checkpoint["loops"]["fit_loop"]["state_dict"] = unfinished.dump(trainer)
        checkpoint["callbacks"] = {callback.state_key: state for callback in trainer.callbacks if (state := callback.state_dict())}
        checkpoint["optimizer_states"] = [trainer.strategy.optimizer_state_dict(optimizer, module) for optimizer in trainer.optimizers]
        checkpoint["lr_schedulers"] = [config.scheduler.state_dict() for config in trainer.lr_scheduler_configs]
        precision = trainer.precision_plugin
        if state := precision.state_dict():
            checkpoint[type(precision).__qualname__] = state
    for prefix, owner in (("", module), ("datamodule_", datamodule)):
        if owner is not None and owner.hparams:
            _add_hparams(checkpoint, owner, prefix)
    if datamodule is not None and (state := datamodule.state_dict()):
        checkpoint[type(datamodule).__qualname__] = state
        checkpoint[DATAMODULE_CLASS] = f"{type(datamodule).__module__}.{type(datamodule).__qualname__}"
    outer, trainer.log.site = trainer.log.site, "on_save_checkpoint"
    dispatch, callbacks = trainer.dispatch, [] if weights_only else trainer.callbacks
    dispatch.announce("on_save_checkpoint", [*callbacks, module])
    for callback in callbacks:
        dispatch.timed(callback.on_save_checkpoint, callback, "Callback", "on_save_checkpoint")(trainer, module, checkpoint)
    dispatch.timed(module.on_save_checkpoint, module, "LightningModule", "on_save_checkpoint")(checkpoint)
    trainer.log.site = outer
    return checkpoint


def _add_hparams(checkpoint: dict[str, Any], owner: Any, prefix: str) -> None:
    checkpoint[f"{prefix}hparams_name"] = owner.hparams_name
    checkpoint[f"{prefix}hyper_parameters"], configurations = pack(owner.hparams)
    if configurations:
        checkpoint[f"{prefix}{CONFIGURATIONS}"] = configurations


def check_hparams(trainer: Any) -> None:
    """Raises, before anything is trained, what saving a checkpoint would raise for the sake of a hyperparameter; called on every rank."""
    checkpoint: dict[str, Any] = {}
    for prefix, owner in (("", trainer.lightning_module), ("datamodule_", trainer.datamodule)):
        if owner is not None and owner.hparams:
            _add_hparams(checkpoint, owner, prefix)
    if checkpoint:
        trainer.strategy.require_checkpoint_io().check_content(checkpoint)


def _loops(trainer: Any) -> dict[str, Any]:
    counted = {name: getattr(trainer, name).state_dict() for name in ("validate_loop", "test_loop", "predict_loop")}
    counted["predict_loop"]["batch_progress"].pop("is_last_batch")
    return {"fit_loop": trainer.fit_loop.progress.state_dict(), **counted}


def read(load: Callable[..., Any], path: Any, map_location: Any, weights_only: bool | None) -> Any:
    """What is in a checkpoint, in the layout of today; `load` is that of a checkpoint I/O or of a strategy.

    Raises `ArgumentTypeError` for a `weights_only` that is no bool, and what `load` raises.
    """
    check_weights_only(weights_only)
    content = reading(lambda: load(path, map_location=map_location, weights_only=weights_only), path, weights_only is not False)
    return migrate(content, path) if isinstance(content, dict) else content


def check_weights_only(weights_only: Any) -> None:
    """Raises `ArgumentTypeError` for what is no bool, and not None."""
    if weights_only is not None and not isinstance(weights_only, bool):
        raise ArgumentTypeError(f"weights_only={weights_only!r}: it must be True, False or None, which is torch's default, True.")


def check(checkpoint: Any, path: Any, resumes_fit: bool, holds_weights: bool = True) -> dict[str, Any]:
    """The checkpoint, if it is one and holds what the request needs; called before anything is built."""
    if not isinstance(checkpoint, dict):
        raise CheckpointCorruptError(f"{str(path)!r} is no checkpoint of a Trainer: it holds a {type(checkpoint).__name__}.")
    if holds_weights and "state_dict" not in checkpoint:
        keys = ", ".join(map(repr, list(checkpoint)[:8])) + (" ..." if len(checkpoint) > 8 else "")
        bare = bool(checkpoint) and all(isinstance(value, torch.Tensor) for value in checkpoint.values())
        hint = " These are bare weights: model.load_state_dict(torch.load(path)) loads them." if bare else ""
        raise CheckpointKeyError(
            f"{str(path)!r} is no checkpoint of a Trainer: it holds {keys or 'nothing'}, and no 'state_dict'; use one that fit or"
            f" trainer.save_checkpoint wrote.{hint}"
        )
    if resumes_fit:
        for key in ("optimizer_states", "lr_schedulers", "loops"):
            if key not in checkpoint:
                raise CheckpointKeyError(f"{str(path)!r} cannot be resumed from: it holds no {key!r}; {WEIGHTS_ONLY_HINT}.")
    return checkpoint


def check_epochs(checkpoint: dict[str, Any], path: Any, max_epochs: int | None) -> None:
    """Raises `MisconfigurationException` for a checkpoint that is farther on than fit is to go, `CheckpointKeyError` for one that does
    not say."""
    try:
        completed = checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"]["completed"]
    except KeyError as error:
        raise CheckpointKeyError(
            f"{str(path)!r} cannot be resumed from: its 'loops' hold no {error.args[0]!r}, which says how far fit was; use one that"
            " fit wrote."
        ) from None
    if max_epochs not in (None, -1) and completed > (max_epochs or 0):
        raise MisconfigurationException(
            f"{str(path)!r} was written after {completed} epochs, and max_epochs={max_epochs} is less; raise max_epochs to go on."
        )


def restore_model(trainer: Any, checkpoint: dict[str, Any]) -> None:
    """The first half: module, weights, data module, callbacks; before optimizers are made."""
    module, dispatch = trainer.lightning_module, trainer.dispatch
    dispatch.announce("on_load_checkpoint", [module, *trainer.callbacks])
    dispatch.timed(module.on_load_checkpoint, module, "LightningModule", "on_load_checkpoint")(checkpoint)
    trainer.strategy.load_module_state_dict(module, checkpoint["state_dict"], strict=module.strict_loading)
    if trainer.datamodule is not None:
        restore_datamodule(trainer.datamodule, checkpoint)
    for callback in trainer.callbacks:
        dispatch.timed(callback.on_load_checkpoint, callback, "Callback", "on_load_checkpoint")(trainer, module, checkpoint)
    _restore_callbacks(trainer.callbacks, checkpoint.get("callbacks") or {})


def restore_datamodule(datamodule: Any, checkpoint: dict[str, Any]) -> None:
    """Gives a data module its state, unless that is of another class of the same name, which is warned of."""
    kind = type(datamodule)
    state = checkpoint.get(kind.__qualname__)
    if not state:
        return
    wrote, here = checkpoint.get(DATAMODULE_CLASS), f"{kind.__module__}.{kind.__qualname__}"
    if wrote in (None, here) or "__main__" in (wrote.partition(".")[0], kind.__module__):  # a script that is imported is the same one
        datamodule.load_state_dict(state)
        return
    rank_zero_warn(
        f"the checkpoint holds the state of the data module {wrote}, and this one is {here}: it is left out. If they are the same class,"
        f" which was moved, have on_load_checkpoint of the module do checkpoint.pop({DATAMODULE_CLASS!r})."
    )


def _restore_callbacks(callbacks: list[Any], states: dict[str, Any]) -> None:
    """Gives each callback its state; files of Lightning before 1.5 have one for each class, under its name."""
    used = set()
    for callback in callbacks:
        key = next((key for key in (callback.state_key, type(callback).__qualname__) if key in states), None)
        if key is not None:
            used.add(key)
            if states[key]:
                callback.load_state_dict(states[key])
    left = sorted(set(states) - used)
    if left:
        rank_zero_warn(
            f"the checkpoint holds the states of callbacks that this trainer does not have: {', '.join(left)}; they are left out."
        )


def restore_precision(trainer: Any, checkpoint: dict[str, Any]) -> None:
    """The state of the precision, such as a loss scale."""
    precision = trainer.precision_plugin
    if state := checkpoint.get(type(precision).__qualname__):
        precision.load_state_dict(state)


def restore_training(trainer: Any, checkpoint: dict[str, Any]) -> None:
    """The second half, for fit: loops, optimizers, schedulers; after optimizers were made."""
    trainer.fit_loop.progress.load_state_dict(checkpoint["loops"]["fit_loop"])
    trainer.fit_loop.carried = unfinished.restore(trainer, checkpoint["loops"]["fit_loop"]["state_dict"])
    states, schedules = checkpoint["optimizer_states"], checkpoint["lr_schedulers"]
    for what, found, here in (("optimizers", states, trainer.optimizers), ("schedulers", schedules, trainer.lr_scheduler_configs)):
        if len(found) != len(here):
            raise CheckpointMismatchError(
                f"the checkpoint holds {len(found)} {what}, and configure_optimizers made {len(here)}; resume with the model that wrote it."
            )
    for optimizer, state in zip(trainer.optimizers, states, strict=True):
        name = type(optimizer).__name__
        options = tuple(getattr(optimizer, "defaults", ()))  # before torch adds some, to the defaults of one that has none of that name
        try:
            trainer.strategy.load_optimizer_state_dict(optimizer, trainer.lightning_module, state)
        except (ValueError, KeyError) as error:
            raise CheckpointMismatchError(
                f"the state of {name} in the checkpoint does not fit: {error}. Resume with the optimizer that wrote it, or load the weights"
                " alone, with load_from_checkpoint of the model."
            ) from error
        # Torch takes the groups of another class as they are, and fails at the first step for want of an option.
        lacking = sorted({key for group in optimizer.param_groups for key in options if key not in group})
        if lacking:
            raise CheckpointMismatchError(
                f"configure_optimizers made {name}, and the checkpoint holds the state of another optimizer: it lacks"
                f" {', '.join(lacking)}. Resume with the optimizer that wrote it, or load the weights alone, with load_from_checkpoint of"
                " the model."
            )
    for config, state in zip(trainer.lr_scheduler_configs, schedules, strict=True):
        config.scheduler.load_state_dict(state)


def on_host(storage: Any, location: str) -> torch.UntypedStorage:
    """A `map_location` that leaves everything on the CPU; what belongs elsewhere moves when it is loaded."""
    return storage  # type: ignore[no-any-return]
