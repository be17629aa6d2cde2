"""ModelCheckpoint and EarlyStopping leave the same files, and end a run at the same place, as Lightning's."""

import os
from pathlib import Path
from typing import Any

import checkpoint_differences
import checkpoint_grid
import pytest
import stopping_grid
import torch
from checkpoint_runs import data, made, model, plain
from sides import SIDES, World, quiet


class Failure(Exception):
    """What ends a run in a test."""


def failing(world: World, step: int) -> Any:
    """A callback that ends the run after so many steps."""

    def act(this: Any, trainer: Any, *_: Any) -> None:
        if trainer.global_step == step:
            raise Failure

    return type("Failing", (world.api.Callback,), {"on_train_batch_start": act})()


def run(world: World, callbacks: list[Any], options: dict[str, Any]) -> tuple[Any, str | None]:
    """Fits as a case asks; returns the trainer, and the name of the error that ended it."""
    options = {"num_sanity_val_steps": 0, **options}
    make = {name: options.pop(name) for name in ("manual", "watched") if name in options}
    validates = options.pop("validates", True)
    trainer = made(world, callbacks, **options)
    try:
        with quiet(world.side):
            trainer.fit(model(world, "none", validates=validates, **make), datamodule=data(world, validates=validates))
    except Exception as error:
        return trainer, type(error).__name__
    return trainer, None


def describe(path: Path) -> str:
    """What is in a file: where in the run it was written, and whether training can go on from it."""
    if path.is_symlink():
        return f"link to {os.readlink(path)}"
    content = torch.load(path, weights_only=False)
    return f"epoch {content['epoch']}, step {content['global_step']}{', all' * ('optimizer_states' in content)}"


def saved(world: World, arguments: dict[str, Any], options: dict[str, Any]) -> dict[str, Any]:
    """Everything that a ModelCheckpoint leaves behind."""
    options = dict(options)
    runs, fails = options.pop("runs", 1), options.pop("fails", None)
    folder, errors = world.root / "checkpoints", []
    for _ in range(runs):
        checkpoint = world.callback("ModelCheckpoint", dirpath=str(folder), **arguments)
        errors.append(run(world, [checkpoint] if fails is None else [checkpoint, failing(world, fails)], options)[1])

    def short(path: str) -> str:
        return os.path.relpath(path, folder) if path else path

    def number(score: Any) -> float | None:
        return None if score is None else float(score)

    return {
        "errors": errors,
        "files": {str(path.relative_to(folder)): describe(path) for path in sorted(folder.rglob("*")) if not path.is_dir()},
        "best_model_path": short(checkpoint.best_model_path),
        "best_model_score": number(checkpoint.best_model_score),
        "kth_best_model_path": short(checkpoint.kth_best_model_path),
        "kth_value": number(checkpoint.kth_value),
        "last_model_path": short(checkpoint.last_model_path),
        "best_k_models": {short(path): number(score) for path, score in checkpoint.best_k_models.items()},
        "current_score": number(checkpoint.current_score),
        "state_key": checkpoint.state_key,
    }


@pytest.mark.filterwarnings("ignore:ModelCheckpoint", "ignore:an epoch has", "ignore:EarlyStopping")
@pytest.mark.parametrize("case", checkpoint_grid.CASES)
def test_the_files_are_those_of_lightning(case: str, tmp_path: Path) -> None:
    mine, theirs = (plain(saved(World(side, tmp_path), *checkpoint_grid.CASES[case])) for side in SIDES)
    if case in checkpoint_differences.FILES:
        assert mine != theirs, f"{case!r} does not differ any more"
    else:
        assert mine == theirs


def stopped(world: World, arguments: dict[str, Any], options: dict[str, Any]) -> dict[str, Any]:
    """Where and why a run with an EarlyStopping ended."""
    stopping = world.callback("EarlyStopping", **{"monitor": "v", **arguments})
    trainer, error = run(world, [stopping], {"max_epochs": 6, "enable_checkpointing": False, **options})
    return {
        "error": error,
        "epoch": trainer.current_epoch,
        "step": trainer.global_step,
        "wait_count": stopping.wait_count,
        "stopped_epoch": stopping.stopped_epoch,
        "best_score": float(stopping.best_score),
        "reason": (stopping.stopping_reason.name, stopping.stopping_reason.value),
        "explained": stopping.stopping_reason_message is not None,
        "state": sorted(stopping.state_dict()),
        "state_key": stopping.state_key,
    }


@pytest.mark.filterwarnings("ignore:EarlyStopping")
@pytest.mark.parametrize("case", stopping_grid.CASES)
def test_a_run_is_stopped_where_lightning_stops_it(case: str, tmp_path: Path) -> None:
    mine, theirs = (plain(stopped(World(side, tmp_path), *stopping_grid.CASES[case])) for side in SIDES)
    assert mine == theirs


def test_every_difference_is_that_of_a_case() -> None:
    assert set(checkpoint_differences.FILES) <= set(checkpoint_grid.CASES)
