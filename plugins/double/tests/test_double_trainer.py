from pathlib import Path
from typing import Any

import pytest
import torch

from lx import Fabric, Trainer
from lx.testing import TinyDataModule, TinyModule


def trainer(folder: Path, **arguments: Any) -> Trainer:
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
    return Trainer(accelerator="cpu", default_root_dir=folder, **{"max_epochs": 2, **quiet, **arguments})


class Watching(TinyModule):
    """Keeps the dtypes that it sees."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[torch.dtype] = set()

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        loss = super().training_step(batch, batch_idx)
        self.seen |= {loss.dtype, self.layer.weight.dtype, torch.zeros(1).dtype, *(tensor.dtype for tensor in batch)}
        return loss


@pytest.mark.parametrize("precision", ["64-true", "64", 64])
def test_a_trainer_trains_in_64_bits(tmp_path: Path, precision: Any) -> None:
    module = Watching()
    run = trainer(tmp_path, precision=precision)
    run.fit(module, TinyDataModule())
    assert module.seen == {torch.float64}
    assert run.precision == "64-true"
    assert torch.get_default_dtype() is torch.float32
    assert {prediction.dtype for prediction in run.predict(module, TinyDataModule())} == {torch.float64}


def test_every_bit_is_that_of_a_plain_loop(tmp_path: Path) -> None:
    module, plain, data = TinyModule(), TinyModule().double(), TinyDataModule()
    trainer(tmp_path, precision="64-true").fit(module, data)
    optimizer = plain.configure_optimizers()
    for _ in range(2):
        for inputs, targets in data.train_dataloader():
            optimizer.zero_grad()
            plain.loss((inputs.double(), targets.double())).backward()
            optimizer.step()
    assert torch.equal(module.layer.weight, plain.layer.weight)


def test_fabric() -> None:
    fabric = Fabric(accelerator="cpu", precision="64-true")
    module = fabric.setup(torch.nn.Linear(2, 1))
    assert module.module.weight.dtype is torch.float64
    assert module(torch.ones(1, 2)).dtype is torch.float32
