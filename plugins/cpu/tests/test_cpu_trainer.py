from pathlib import Path
from typing import Any

import pytest
import torch

from lx import Trainer
from lx.kernel.errors import MisconfigurationException
from lx.testing import TinyDataModule, TinyModule
from lx_plugin_cpu.accelerator import CPUAccelerator


def trainer(folder: Path, **arguments: Any) -> Trainer:
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
    return Trainer(default_root_dir=folder, **{"max_epochs": 1, **quiet, **arguments})


@pytest.mark.parametrize("accelerator", ["auto", "cpu", "CPU", CPUAccelerator()])
def test_a_trainer_runs_on_it(tmp_path: Path, accelerator: Any) -> None:
    run = trainer(tmp_path, accelerator=accelerator)
    assert isinstance(run.accelerator, CPUAccelerator)
    module = TinyModule()
    run.fit(module, TinyDataModule())
    assert module.device == torch.device("cpu")
    assert run.num_devices == 1


@pytest.mark.parametrize("devices", [-1, "0,1", [0], 1.5])
def test_what_is_no_count_is_refused_before_anything_is_built(tmp_path: Path, devices: Any) -> None:
    with pytest.raises(TypeError, match="number of processes"):
        trainer(tmp_path, accelerator="cpu", devices=devices)


def test_no_device(tmp_path: Path) -> None:
    with pytest.raises(MisconfigurationException, match="devices=0"):
        trainer(tmp_path, accelerator="cpu", devices=0)
