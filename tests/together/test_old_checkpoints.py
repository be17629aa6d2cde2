"""Files that releases of Lightning from 1.0 to 2.6 wrote: what is in them is read, and training goes on from them as if never cut off."""

import importlib.util
import re
import sys
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

import lx
from lx import Trainer
from lx.callbacks import EarlyStopping, ModelCheckpoint, Timer
from lx.module_loading import read_checkpoint

FOLDER = Path(__file__).parent / "data" / "checkpoints"
FILES = sorted(path.stem for path in FOLDER.glob("*.ckpt"))
WITHIN = [name for name in FILES if not name.endswith("epoch")]

spec = importlib.util.spec_from_file_location("legacy_model", FOLDER / "legacy_model.py")
assert spec is not None
assert spec.loader is not None
legacy_model: Any = importlib.util.module_from_spec(spec)
spec.loader.exec_module(legacy_model)

pytestmark = [
    pytest.mark.filterwarnings("ignore:ModelCheckpoint saves to", "ignore:an epoch has"),
    pytest.mark.filterwarnings("ignore:the checkpoint holds the states of callbacks"),
]


def release(name: str) -> tuple[int, ...]:
    """The release that wrote a file."""
    return tuple(int(part) for part in name.split("-")[1].split("."))


def scenario(name: str) -> dict[str, Any]:
    """How it was written."""
    found: dict[str, Any] = legacy_model.SCENARIOS[name.split("-")[2]]
    return found


def module_of(name: str) -> Any:
    """The class of the module that was trained, as a module of lx."""
    return legacy_model.net(lx, scenario(name).get("manual", False), scenario(name).get("by_step", False))


def trainer_of(name: str, folder: Path, callbacks: list[Any]) -> Trainer:
    """A trainer like that of the file."""
    off: dict[str, Any] = dict.fromkeys(("logger", "enable_progress_bar", "enable_model_summary"), False)
    return Trainer(
        accelerator="cpu",
        default_root_dir=folder,
        num_sanity_val_steps=0,
        enable_checkpointing=bool(callbacks),
        callbacks=callbacks,
        **off,
        **scenario(name)["trainer"],
    )


def left(trainer: Trainer) -> dict[str, Any]:
    """What a run leaves behind."""
    return {
        "epoch and step": (trainer.current_epoch, trainer.global_step, trainer.log_step),
        "weights": [parameter.tolist() for parameter in trainer.lightning_module.parameters()],
        "rate": trainer.optimizers[0].param_groups[0]["lr"],
        "schedule": trainer.lr_scheduler_configs[0].scheduler.last_epoch,
    }


@cache
def whole(kind: str, folder: Path) -> dict[str, Any]:
    """What a run that is not cut off leaves behind."""
    name = f"pl-2.6.6-{kind}"
    trainer = trainer_of(name, folder, [])
    trainer.fit(module_of(name)(), datamodule=legacy_model.data(lx)(scenario(name).get("batches", 4)))
    return left(trainer)


def callbacks(name: str, folder: Path) -> list[Any]:
    """Callbacks like those of the file."""
    steps = scenario(name).get("every_n_train_steps")
    keeps = ModelCheckpoint(folder, every_n_train_steps=steps, save_top_k=-1) if steps else ModelCheckpoint(folder, monitor="v")
    return [keeps, EarlyStopping("v", patience=9), Timer()]


@pytest.mark.parametrize("name", FILES)
def test_training_goes_on(name: str, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    trainer = trainer_of(name, tmp_path, callbacks(name, tmp_path))
    module, rows = module_of(name)(), legacy_model.data(lx)(scenario(name).get("batches", 4))
    trainer.fit(module, datamodule=rows, ckpt_path=FOLDER / f"{name}.ckpt")
    assert rows.served == 2, "one time was in the file"
    epoch = list(range(scenario(name).get("batches", 4)))
    if name in WITHIN and release(name) >= (1, 6):
        assert module.seen == [*epoch[2:], *epoch]
    else:
        assert module.seen == epoch, "of the last epoch; before 1.6 a file within an epoch says no more than which comes next"
    if name in WITHIN and release(name) < (1, 6):
        assert (trainer.current_epoch, len(module.seen)) == (3, 6)
    elif release(name) >= (1, 2):  # 1.0 wrote the file before the scheduler moved
        assert left(trainer) == whole(name.split("-")[2], tmp_path_factory.getbasetemp() / "whole")


@pytest.mark.parametrize("name", [name for name in FILES if name not in WITHIN])
def test_callbacks_have_their_states(name: str, tmp_path: Path) -> None:
    parts = callbacks(name, tmp_path)
    keeps, stopping, timer = parts
    trainer = trainer_of(name, tmp_path, parts)
    trainer.validate(module_of(name)(), datamodule=legacy_model.data(lx)(), ckpt_path=FOLDER / f"{name}.ckpt", verbose=False)
    assert stopping.best_score == pytest.approx(0.4912048 if release(name) < (1, 2) else 0.3372954)
    assert re.search(r"/kept/stepstep=\d+(-v0)?\.ckpt$", keeps.best_model_path)
    assert release(name) < (1, 3) or timer.time_elapsed("train") > 0


@pytest.mark.parametrize("name", FILES)
def test_modules_and_data_modules_are_made_from_them(name: str) -> None:
    module = module_of(name).load_from_checkpoint(FOLDER / f"{name}.ckpt", name="other")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        content = read_checkpoint(FOLDER / f"{name}.ckpt")
    assert torch.equal(module.layer.weight, content["state_dict"]["layer.weight"])
    assert dict(module.hparams) == {"width": 2, "name": "other", "rates": (0.05, 0.5)}
    written = content.get("legacy_pytorch-lightning_version") or content["pytorch-lightning_version"]
    assert written.removesuffix(".post0") == name.split("-")[1]
    rows = legacy_model.data(lx).load_from_checkpoint(FOLDER / f"{name}.ckpt")
    assert rows.served == 1
    assert rows.batches == scenario(name).get("batches", 4) or release(name) < (1, 7), "whose files have none of them"
    assert not {"pytorch_lightning", "lightning"} & set(sys.modules)


def test_a_newer_file_warns(tmp_path: Path, bare_trainer: Callable[..., Trainer]) -> None:
    content = torch.load(FOLDER / "pl-2.6.6-epoch.ckpt", weights_only=True)
    torch.save({**content, "pytorch-lightning_version": "2.7.0"}, tmp_path / "newer.ckpt")
    with pytest.warns(UserWarning, match=r"newer.ckpt' was written by Lightning 2.7.0, and lx knows the layout .* up to that of 2.6"):
        module = module_of("pl-2.6.6-epoch").load_from_checkpoint(tmp_path / "newer.ckpt")
    assert torch.equal(module.layer.weight, content["state_dict"]["layer.weight"])
