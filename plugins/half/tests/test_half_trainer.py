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

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        self.seen |= {tensor.dtype for tensor in batch}
        return batch

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        loss = super().training_step(batch, batch_idx)
        self.seen |= {loss.dtype, self.layer.weight.dtype, torch.zeros(1).dtype}
        return loss


@pytest.mark.parametrize(("precision", "dtype"), [("16-true", torch.float16), ("bf16-true", torch.bfloat16)])
def test_a_trainer_trains_in_16_bits(tmp_path: Path, precision: str, dtype: torch.dtype) -> None:
    module = Watching()
    run = trainer(tmp_path, precision=precision, max_epochs=20)
    run.fit(module, TinyDataModule())
    assert module.seen == {dtype}
    assert run.precision == precision
    assert run.callback_metrics["val_loss"] < 1
    assert torch.get_default_dtype() is torch.float32
    run.save_checkpoint(tmp_path / "a.ckpt")
    assert torch.load(tmp_path / "a.ckpt")["state_dict"]["layer.weight"].dtype is dtype
    run.test(module, TinyDataModule())
    assert {prediction.dtype for prediction in run.predict(module, TinyDataModule())} == {dtype}


def test_a_step_that_fails_leaves_the_default_dtype(tmp_path: Path) -> None:
    class Failing(TinyModule):
        def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        trainer(tmp_path, precision="bf16-true").fit(Failing(), TinyDataModule())
    assert torch.get_default_dtype() is torch.float32


def test_fabric() -> None:
    fabric = Fabric(accelerator="cpu", precision="bf16-true")
    with fabric.init_module():
        layer = torch.nn.Linear(2, 1)
    assert layer.weight.dtype is torch.bfloat16
    module = fabric.setup(layer)
    assert module(torch.ones(1, 2)).dtype is torch.float32
    with fabric.init_tensor():
        assert torch.ones(1).dtype is torch.bfloat16
