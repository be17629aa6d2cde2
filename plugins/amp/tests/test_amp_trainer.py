from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.amp import GradScaler

from lx import Fabric, Trainer
from lx.kernel.errors import MisconfigurationException
from lx.testing import TinyDataModule, TinyModule
from lx_plugin_amp.precision import MixedPrecision


def trainer(folder: Path, **arguments: Any) -> Trainer:
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
    return Trainer(accelerator="cpu", default_root_dir=folder, **{"max_epochs": 2, **quiet, **arguments})


def float16(**options: Any) -> MixedPrecision:
    return MixedPrecision("16-mixed", scaler=GradScaler("cpu", **{"init_scale": 1024.0, **options}))


class Watching(TinyModule):
    """Keeps the dtypes that it sees, and the gradients before each step."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: dict[str, torch.dtype] = {}
        self.gradients: list[torch.Tensor] = []

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        self.seen = {"input": batch[0].dtype, "output": self(batch).dtype, "weight": self.layer.weight.dtype}
        return super().training_step(batch, batch_idx)

    def on_before_optimizer_step(self, optimizer: Any) -> None:
        self.gradients.append(self.layer.weight.grad.clone())  # type: ignore[union-attr]


@pytest.mark.parametrize(("arguments", "dtype"), [({"precision": "bf16-mixed"}, torch.bfloat16), ({"plugins": float16()}, torch.float16)])
def test_a_trainer_trains_mixed(tmp_path: Path, arguments: dict[str, Any], dtype: torch.dtype) -> None:
    module = Watching()
    run = trainer(tmp_path, max_epochs=20, **arguments)
    run.fit(module, TinyDataModule())
    assert module.seen == {"input": torch.float32, "output": dtype, "weight": torch.float32}
    assert run.callback_metrics["val_loss"] < 1
    assert run.global_step == 80


def test_hooks_and_clipping_see_true_gradients(tmp_path: Path) -> None:
    recorded = []
    for arguments in ({}, {"plugins": float16()}):
        module = Watching()
        trainer(tmp_path, gradient_clip_val=0.5, max_epochs=1, **arguments).fit(module, TinyDataModule())
        recorded.append((torch.stack(module.gradients), module.layer.weight.detach()))
    for plain, mixed in zip(*recorded, strict=True):
        torch.testing.assert_close(mixed, plain, rtol=0.02, atol=0.02)
    assert recorded[0][0].norm(dim=-1).max() > 0.5, "nothing had to be clipped"


def test_an_accumulation_window_is_scaled_once(tmp_path: Path) -> None:
    weights = []
    for arguments in ({}, {"plugins": float16(growth_interval=1)}):
        module = TinyModule()
        trainer(tmp_path, accumulate_grad_batches=3, max_epochs=2, **arguments).fit(module, TinyDataModule(length=28))
        weights.append(module.layer.weight.detach())
    torch.testing.assert_close(weights[0], weights[1], rtol=0.02, atol=0.01)


def test_a_step_that_overflows_counts(tmp_path: Path) -> None:
    class Overflowing(TinyModule):
        def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
            return self.loss(batch) * (float("inf") if batch_idx in (1, 2) else 1.0)

        def configure_optimizers(self) -> Any:
            optimizer = torch.optim.SGD(self.parameters(), lr=0.05)
            return [optimizer], [{"scheduler": torch.optim.lr_scheduler.StepLR(optimizer, 1), "interval": "step"}]

    module = Overflowing()
    run = trainer(tmp_path, max_epochs=1, plugins=float16())
    run.fit(module, TinyDataModule())
    assert module.layer.weight.isfinite().all()
    assert run.global_step == 4
    assert run.lr_scheduler_configs[0].scheduler.last_epoch == 4
    assert run.precision_plugin.state_dict()["scale"] == 256.0


def test_a_skipped_batch_takes_no_step(tmp_path: Path) -> None:
    class Skipping(TinyModule):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            return super().training_step(batch, batch_idx) if batch_idx % 2 else None

    run = trainer(tmp_path, max_epochs=1, plugins=float16())
    run.fit(Skipping(), TinyDataModule())
    assert run.global_step == 2


def test_the_scaler_is_kept_in_checkpoints(tmp_path: Path) -> None:
    run = trainer(tmp_path, max_epochs=1, plugins=float16(growth_interval=2))
    run.fit(TinyModule(), TinyDataModule())
    run.save_checkpoint(tmp_path / "a.ckpt")
    stored = torch.load(tmp_path / "a.ckpt")["MixedPrecision"]
    assert stored["scale"] == 4096.0
    assert run.scaler is run.precision_plugin.scaler

    class Resumed(TinyModule):
        def on_train_start(self) -> None:
            self.scale = self.trainer.precision_plugin.state_dict()["scale"]

    module = Resumed()
    trainer(tmp_path, plugins=float16()).fit(module, TinyDataModule(), ckpt_path=tmp_path / "a.ckpt")
    assert module.scale == 4096.0
    trainer(tmp_path, precision="bf16-mixed").fit(TinyModule(), TinyDataModule(), ckpt_path=tmp_path / "a.ckpt")


def test_float16_on_the_cpu_becomes_bfloat16(tmp_path: Path) -> None:
    module = Watching()
    with pytest.warns(UserWarning, match="precision='16-mixed': float16 gains nothing on the CPU, so 'bf16-mixed' is used"):
        run = trainer(tmp_path, precision="16-mixed", max_epochs=1)
    assert run.precision == "bf16-mixed"
    told = [line.split(maxsplit=3) for line in run.explain().splitlines() if line.startswith("precision")]
    assert [(choice, why) for _, choice, _, why in told] == [
        ("16-mixed", "precision='16-mixed'"),
        ("bf16-mixed", "in place of 16-mixed: float16 gains nothing on the CPU"),
    ]
    run.fit(module, TinyDataModule())
    assert module.seen["output"] is torch.bfloat16


@pytest.mark.parametrize(("given", "name"), [("bf16", "bf16-mixed"), ("16", "16-mixed"), (16, "16-mixed")])
def test_aliases_warn(tmp_path: Path, given: Any, name: str) -> None:
    with pytest.warns(UserWarning, match=name):
        run = trainer(tmp_path, precision=given)
    assert run.precision == "bf16-mixed"  # 16-mixed is not of use on the CPU


def test_lbfgs(tmp_path: Path) -> None:
    class Quasi(TinyModule):
        def configure_optimizers(self) -> Any:
            return torch.optim.LBFGS(self.parameters(), lr=0.1)

    with pytest.raises(MisconfigurationException, match=r"LBFGS .* precision='16-mixed' cannot be used"):
        trainer(tmp_path, plugins=float16()).fit(Quasi(), TinyDataModule())
    trainer(tmp_path, precision="bf16-mixed", max_epochs=1).fit(Quasi(), TinyDataModule())


def test_manual_optimization_of_two_parts(tmp_path: Path) -> None:
    class Manual(TinyModule):
        def __init__(self) -> None:
            super().__init__()
            self.automatic_optimization = False
            self.other = nn.Linear(8, 1)

        def training_step(self, batch: Any, batch_idx: int) -> None:
            optimizers = self.optimizers()
            for optimizer in optimizers:
                optimizer.zero_grad()
            self.manual_backward(self.loss(batch) + (self.other(batch[0]) - batch[1]).pow(2).mean())
            for optimizer in optimizers:
                optimizer.step()

        def configure_optimizers(self) -> Any:
            return [torch.optim.SGD(part.parameters(), lr=0.02) for part in (self.layer, self.other)]

    weights = []
    for arguments in ({}, {"plugins": float16(growth_interval=1)}):
        torch.manual_seed(0)
        module = Manual()
        trainer(tmp_path, max_epochs=1, **arguments).fit(module, TinyDataModule())
        weights.append(torch.cat([module.layer.weight.detach(), module.other.weight.detach()]))
    torch.testing.assert_close(weights[1], weights[0], rtol=0.02, atol=0.01)


def test_fabric() -> None:
    fabric = Fabric(accelerator="cpu", plugins=float16())
    layer = nn.Linear(2, 1)
    module, optimizer = fabric.setup(layer, torch.optim.SGD(layer.parameters(), lr=1.0))
    before = layer.weight.detach().clone()
    output = module(torch.ones(1, 2))
    assert output.dtype is torch.float32
    fabric.backward(output.sum())
    fabric.clip_gradients(module, optimizer, max_norm=100.0)
    fabric.clip_gradients(module, optimizer, max_norm=100.0)
    assert layer.weight.grad.tolist() == [[1.0, 1.0]]  # type: ignore[union-attr]
    optimizer.step()
    assert torch.equal(layer.weight, before - 1)
