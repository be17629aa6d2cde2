"""A damaged checkpoint that nobody named by its path costs what was trained since the one before, and no run."""

import os
from pathlib import Path
from typing import Any

import pytest

from lx import Trainer
from lx.callbacks import ModelCheckpoint
from lx.kernel.errors import CheckpointCorruptError
from lx.testing import TinyDataModule, TinyModule

pytestmark = pytest.mark.filterwarnings("ignore:.*which is not empty")

QUIET: dict[str, Any] = dict.fromkeys(("logger", "enable_progress_bar", "enable_model_summary"), False)


def fit(folder: Path, epochs: int, ckpt_path: Any = None) -> Trainer:
    """Trains, with a file of each epoch and `last.ckpt`."""
    keeps = ModelCheckpoint(folder, "{epoch}", save_top_k=-1, save_last=True)
    trainer = Trainer(accelerator="cpu", max_epochs=epochs, num_sanity_val_steps=0, callbacks=[keeps], default_root_dir=folder, **QUIET)
    trainer.fit(TinyModule(), TinyDataModule(), ckpt_path=ckpt_path)
    return trainer


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three epochs were trained; the times of the files are those of their epochs, and `last.ckpt` is the newest."""
    fit(tmp_path, 3)
    for number, name in enumerate(("epoch=0.ckpt", "epoch=1.ckpt", "epoch=2.ckpt", "last.ckpt")):
        os.utime(tmp_path / name, (1e9 + number, 1e9 + number))
    return tmp_path


def damage(path: Path) -> None:
    """Turns a bit in the middle of a file, whose time stays."""
    times, content = path.stat(), bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x10
    path.write_bytes(content)
    os.utime(path, (times.st_atime, times.st_mtime))


def weights(trainer: Trainer) -> list[Any]:
    return [parameter.tolist() for parameter in trainer.lightning_module.parameters()]


@pytest.mark.parametrize("asked", ["auto", "last"])
@pytest.mark.parametrize("damaged", [["last.ckpt"], ["last.ckpt", "epoch=2.ckpt"]])
def test_the_newest_good_one_takes_its_place(asked: str, damaged: list[str], folder: Path, tmp_path_factory: Any) -> None:
    for name in damaged:
        damage(folder / name)
    with pytest.warns(UserWarning, match=rf"ckpt_path='{asked}': .*(last|epoch=2)\.ckpt' cannot be read") as warned:
        trainer = fit(folder, 4, asked)
    assert "last.ckpt" in str(warned[0].message)
    assert len(warned) == (len(damaged) if asked == "auto" else 1)
    assert str(trainer.ckpt_path).endswith(f"epoch={3 - len(damaged)}.ckpt")
    assert trainer.global_step == 16
    assert weights(trainer) == weights(fit(tmp_path_factory.mktemp("whole"), 4))


def test_without_a_good_one_auto_starts_anew_and_last_says_so(folder: Path) -> None:
    for path in folder.glob("*.ckpt"):
        damage(path)
    with pytest.raises(CheckpointCorruptError, match=r"last\.ckpt"):
        fit(folder, 4, "last")
    with pytest.warns(UserWarning, match="The next newest is looked at"):
        trainer = fit(folder, 4, "auto")
    assert (trainer.ckpt_path, trainer.global_step) == (None, 16)


def test_one_that_was_named_by_its_path_is_taken_at_its_word(folder: Path) -> None:
    damage(folder / "epoch=2.ckpt")
    with pytest.raises(CheckpointCorruptError, match=r"epoch=2\.ckpt"):
        fit(folder, 4, folder / "epoch=2.ckpt")
