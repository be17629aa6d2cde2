"""Whole runs with `plugins="safetensors_io"`."""

import argparse
from pathlib import Path
from typing import Any

import pytest
import torch

from lx import Fabric, LightningModule, Trainer, seed_everything
from lx.callbacks import EarlyStopping, ModelCheckpoint
from lx.hparams.mixin import AttributeDict
from lx.kernel.errors import CheckpointCorruptError, CheckpointError
from lx.testing import TinyDataModule
from lx_plugin_safetensors_io.checkpoint_io import SafetensorsCheckpointIO


class Net(LightningModule):
    """Tied layers, trained by Adam with a schedule; with hyperparameters of several classes."""

    def __init__(self, width: int = 4, folder: Path = Path("data"), options: Any = None) -> None:
        super().__init__()
        self.save_hyperparameters()
        generator = torch.Generator().manual_seed(3)
        self.first, self.norm, self.second = torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2), torch.nn.Linear(2, 2)
        self.dropout = torch.nn.Dropout(0.3)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator))
        self.second.weight = self.first.weight

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        return self.second(self.dropout(self.norm(self.first(batch.float().flatten(1)[:, :2]))).tanh())  # type: ignore[no-any-return]

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        loss = self(first_of(batch)).square().mean()
        self.log("loss", loss, on_epoch=True)
        return loss  # type: ignore[no-any-return]

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val", self(first_of(batch)).abs().mean())

    def test_step(self, batch: Any, batch_idx: int) -> None:
        self.log("test", self(first_of(batch)).abs().mean())

    def predict_step(self, batch: Any, batch_idx: int) -> Any:
        return self(first_of(batch))

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.Adam(self.parameters(), lr=0.05, amsgrad=True)
        return [optimizer], [{"scheduler": torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=50), "interval": "step"}]


def first_of(batch: Any) -> torch.Tensor:
    return batch if isinstance(batch, torch.Tensor) else next(iter(batch.values() if isinstance(batch, dict) else batch))


def trainer(folder: Path, epochs: int, **arguments: Any) -> Trainer:
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "plugins": "safetensors_io"}
    return Trainer(accelerator="cpu", max_epochs=epochs, default_root_dir=folder, **{**quiet, **arguments})


def fit(folder: Path, epochs: int, ckpt_path: Path | None = None) -> None:
    seed_everything(7 if ckpt_path is None else 8, verbose=False)  # of a run that goes on, the checkpoint has the states
    callbacks = [EarlyStopping("val", patience=9), ModelCheckpoint(folder, monitor="val", save_top_k=2, save_last=True)]
    trainer(folder, epochs, callbacks=callbacks).fit(Net(options=argparse.Namespace(depth=3)), TinyDataModule(), ckpt_path=ckpt_path)


def leaves(value: Any, path: tuple[Any, ...] = ()) -> dict[tuple[Any, ...], Any]:
    """Every value in a checkpoint by its place, tensors as what they hold; without what is of this very run."""
    if isinstance(value, dict):
        return {place: leaf for key, inner in value.items() if key != "seconds" for place, leaf in leaves(inner, (*path, key)).items()}
    if isinstance(value, list | tuple):
        return {place: leaf for index, inner in enumerate(value) for place, leaf in leaves(inner, (*path, index)).items()}
    return {path: (value.dtype, value.tolist()) if isinstance(value, torch.Tensor) else value}


@pytest.fixture(autouse=True)
def own_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gives the environment back the variables that seeding sets."""
    for name in ("PL_GLOBAL_SEED", "PL_SEED_WORKERS"):
        monkeypatch.setenv(name, "0")


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    """What a run of four epochs that nobody stopped left."""
    fit(tmp_path / "run", 4)
    return (tmp_path / "run").rename(tmp_path / "whole")


def test_a_run_that_goes_on_ends_as_one_that_nobody_stopped(whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    fit(folder, 2)
    fit(folder, 4, folder / "last.ckpt")
    names = sorted(path.name for path in whole.iterdir())
    assert names == sorted(path.name for path in folder.iterdir())
    assert len(names) == 3
    for name in names:
        wanted, found = (leaves(SafetensorsCheckpointIO().load_checkpoint(place / name)) for place in (whole, folder))
        assert found == wanted
        assert any("exp_avg" in path for path in wanted)


@pytest.mark.filterwarnings("ignore:the checkpoint holds the states of callbacks")
def test_every_way_of_loading(whole: Path, tmp_path: Path) -> None:
    path = whole / "last.ckpt"
    model = Net.load_from_checkpoint(path)
    state = SafetensorsCheckpointIO().load_checkpoint(path)["state_dict"]
    assert all(torch.equal(model.state_dict()[name], tensor) for name, tensor in state.items())
    assert model.hparams == AttributeDict(width=4, folder=Path("data"), options=argparse.Namespace(depth=3))
    given = [
        trainer(tmp_path, 1).validate(model, TinyDataModule(), verbose=False),
        trainer(tmp_path, 1).validate(Net(), TinyDataModule(), ckpt_path=path, verbose=False),
    ]
    assert given[0] == given[1]
    assert trainer(tmp_path, 1).test(Net(), TinyDataModule(), ckpt_path=path, verbose=False)
    predicted = trainer(tmp_path, 1).predict(Net(), TinyDataModule(), ckpt_path=path, weights_only=False)
    for got, wanted in zip(predicted, trainer(tmp_path, 1).predict(model, TinyDataModule()), strict=True):
        assert torch.equal(got, wanted)


def test_bad_checkpoints_end_a_run_before_it_trains(whole: Path, tmp_path: Path) -> None:
    path = tmp_path / "torch.ckpt"
    torch.save({"state_dict": {}}, path)
    with pytest.raises(CheckpointError, match=r"torch\.ckpt' was written by torch\.save.*`lx ckpt convert`"):
        trainer(tmp_path, 5).fit(Net(), TinyDataModule(), ckpt_path=path)
    content = (whole / "last.ckpt").read_bytes()
    path.write_bytes(content[:-1])
    with pytest.raises(CheckpointCorruptError, match=r"torch\.ckpt"):
        trainer(tmp_path, 5).fit(Net(), TinyDataModule(), ckpt_path=path)


def test_a_hyperparameter_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    run = trainer(tmp_path, 1)
    with pytest.raises(CheckpointError, match=r"checkpoint\['hyper_parameters'\]\['options'\]\[0\] is a .*ReLU, .*ignore=\['options'\]"):
        run.fit(Net(options=[torch.nn.ReLU()]), TinyDataModule())


@pytest.mark.parametrize(
    "plugins", ["safetensors(verify=False)", {"safetensors_io": {"verify": False}}, SafetensorsCheckpointIO(verify=False)]
)
def test_it_is_chosen_with_arguments(tmp_path: Path, plugins: Any) -> None:
    checkpoint_io = trainer(tmp_path, 1, plugins=plugins).strategy.checkpoint_io
    assert isinstance(checkpoint_io, SafetensorsCheckpointIO)
    assert not checkpoint_io.verify


def test_fabric(tmp_path: Path) -> None:
    fabric = Fabric(accelerator="cpu", plugins="safetensors_io")
    model = torch.nn.Linear(2, 1)
    model, optimizer = fabric.setup(model, torch.optim.Adam(model.parameters()))
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    fabric.save(tmp_path / "a.ckpt", {"model": model, "optimizer": optimizer, "epoch": 3})
    other = torch.nn.Linear(2, 1)
    other, again = fabric.setup(other, torch.optim.Adam(other.parameters()))
    assert fabric.load(tmp_path / "a.ckpt", {"model": other, "optimizer": again}) == {"epoch": 3}
    assert torch.equal(model.weight, other.weight)
    assert leaves(again.state_dict()) == leaves(optimizer.state_dict())
