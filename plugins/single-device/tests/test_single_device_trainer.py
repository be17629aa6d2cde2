from pathlib import Path
from typing import Any

import pytest
import torch

from lx import Trainer
from lx.kernel.errors import MisconfigurationException
from lx.testing import TinyDataModule, TinyModule
from lx_plugin_single_device.strategy import SingleDeviceStrategy


def trainer(folder: Path, **arguments: Any) -> Trainer:
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
    return Trainer(accelerator="cpu", default_root_dir=folder, **{"max_epochs": 2, **quiet, **arguments})


@pytest.mark.parametrize("strategy", ["auto", "single_device", "Single-Device", SingleDeviceStrategy()])
def test_a_trainer_runs_on_it(tmp_path: Path, strategy: Any) -> None:
    run = trainer(tmp_path, strategy=strategy, max_epochs=20)
    assert type(run.strategy) is SingleDeviceStrategy
    run.fit(TinyModule(), TinyDataModule())
    assert run.strategy.root_device == torch.device("cpu")
    assert (run.world_size, run.global_rank, run.num_devices) == (1, 0, 1)
    assert run.callback_metrics["val_loss"] < 1


def test_several_devices_need_another_strategy(tmp_path: Path) -> None:
    with pytest.raises(MisconfigurationException, match="works on one device"):
        trainer(tmp_path, strategy="single_device", devices=2)


def test_a_device_of_another_accelerator(tmp_path: Path) -> None:
    with pytest.raises(MisconfigurationException, match=r"accelerator='cpu' .* do not go with the devices of .*, meta; give them once"):
        trainer(tmp_path, strategy=SingleDeviceStrategy("meta"))


def test_predictions_and_checkpoints(tmp_path: Path) -> None:
    run, module = trainer(tmp_path), TinyModule()
    run.fit(module, TinyDataModule())
    run.save_checkpoint(tmp_path / "a.ckpt")
    predicted = run.predict(module, TinyDataModule())
    restored = TinyModule()
    again = trainer(tmp_path).predict(restored, TinyDataModule(), ckpt_path=tmp_path / "a.ckpt")
    assert torch.equal(torch.cat(predicted), torch.cat(again))
