from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch

from lx import Fabric, Trainer
from lx.kernel.errors import CheckpointCorruptError, CheckpointError, CheckpointNotFoundError, MisconfigurationException
from lx.testing import TinyDataModule, TinyModule
from lx_plugin_torch_io.checkpoint_io import TorchCheckpointIO


def trainer(folder: Path, **arguments: Any) -> Trainer:
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
    return Trainer(accelerator="cpu", default_root_dir=folder, **{"max_epochs": 2, **quiet, **arguments})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    run = trainer(tmp_path, max_epochs=1)
    run.fit(TinyModule(), TinyDataModule())
    run.save_checkpoint(tmp_path / "runs" / "a.ckpt")
    return tmp_path / "runs" / "a.ckpt"


def test_it_is_the_default(path: Path, tmp_path: Path) -> None:
    run = trainer(tmp_path)
    assert type(run.strategy.checkpoint_io) is TorchCheckpointIO
    run.fit(TinyModule(), TinyDataModule(), ckpt_path=path)
    assert run.global_step == 8
    assert [entry.name for entry in path.parent.iterdir()] == ["a.ckpt"]


@pytest.mark.parametrize("plugins", ["torch_io(verify=False)", {"torch": {"verify": False}}, TorchCheckpointIO(verify=False)])
def test_it_is_chosen_with_arguments(tmp_path: Path, plugins: Any) -> None:
    checkpoint_io = trainer(tmp_path, plugins=plugins).strategy.checkpoint_io
    assert isinstance(checkpoint_io, TorchCheckpointIO)
    assert not checkpoint_io.verify


def test_bad_checkpoints_end_a_run_before_it_trains(path: Path, tmp_path: Path) -> None:
    class Untouched(TinyModule):
        def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
            raise AssertionError("it trains")

    def fit(ckpt_path: Any) -> None:
        trainer(tmp_path).fit(Untouched(), TinyDataModule(), ckpt_path=ckpt_path)

    with pytest.raises(FileNotFoundError, match=r"b\.ckpt"):
        fit(path.with_name("b.ckpt"))
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(CheckpointCorruptError, match=r"a\.ckpt"):
        fit(path)
    torch.save({"state_dict": {}, "half": Fraction(1, 2)}, path)
    with pytest.raises(CheckpointError, match=r"weights_only=False"):
        fit(path)


def test_fabric(tmp_path: Path) -> None:
    fabric = Fabric(accelerator="cpu")
    model = fabric.setup(torch.nn.Linear(2, 1))
    fabric.save(tmp_path / "a.ckpt", {"model": model, "epoch": 3})
    other = fabric.setup(torch.nn.Linear(2, 1))
    assert fabric.load(tmp_path / "a.ckpt", {"model": other}) == {"epoch": 3}
    assert torch.equal(model.module.weight, other.module.weight)
    with pytest.raises(CheckpointNotFoundError, match=r"b\.ckpt.*holds 'a\.ckpt'"):
        fabric.load(tmp_path / "b.ckpt")
    with pytest.raises(MisconfigurationException, match="is a URL"):
        fabric.load("acme://bucket/a.ckpt")
