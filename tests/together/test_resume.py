"""A run that is cut off after any of its checkpoints, and gone on with from there, ends like one that was never cut off, bit for bit.

Random numbers, workers and kills at any point are in tests/reliability.
"""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import lr_scheduler
from torch.utils.data import DataLoader, IterableDataset, Sampler

import lx
from lx import Callback, LightningDataModule, LightningModule, Trainer
from lx.callbacks import EarlyStopping, ModelCheckpoint, Timer
from lx.interfaces import CheckpointIO, Logger

ROWS = torch.randn(20, 3, generator=torch.Generator().manual_seed(1))
"""Five batches of four."""


class Net(LightningModule):
    """Two layers with momentum; it logs its loss in several ways, and keeps how many batches it has seen in the checkpoint."""

    def __init__(self, schedule: str = "epoch", manual: bool = False, values: tuple[float, ...] = ()) -> None:
        super().__init__()
        self.schedule, self.values = schedule, values
        self.automatic_optimization = not manual
        generator = torch.Generator().manual_seed(5)
        self.layers = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
        with torch.no_grad():
            for parameter in self.layers.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator))
        self.validations = 0

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        loss = (self.layers(batch) - batch.square().sum(1, keepdim=True)).square().mean()
        self.log("loss", loss, on_step=True, on_epoch=True)
        self.log("highest", loss, on_step=False, on_epoch=True, reduce_fx="max")
        self.log("step_only", loss * 2)
        if batch_idx % 3 == 0:
            self.log("at_times", float(batch_idx), on_step=True, on_epoch=True, reduce_fx=torch.sum)
        if not self.automatic_optimization:
            optimizer = self.optimizers()
            optimizer.zero_grad()
            self.manual_backward(loss)
            optimizer.step()
        return loss

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        self.log("val", self.layers(batch).square().mean())

    def on_validation_epoch_end(self) -> None:
        if not self.trainer.sanity_checking:
            self.validations += 1
            if self.values:
                self.log("v", self.values[self.validations - 1])

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["validations"] = self.validations

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.validations = checkpoint["validations"]

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.Adam(self.parameters(), lr=0.02)
        return SCHEDULES[self.schedule](optimizer)


def scheduled(make: Callable[[Any], Any], **config: Any) -> Callable[[Any], Any]:
    """An optimizer with one scheduler."""
    return lambda optimizer: {"optimizer": optimizer, "lr_scheduler": {"scheduler": make(optimizer), **config}}


def plateau(optimizer: Any) -> Any:
    """A scheduler that moves at the second value already."""
    return lr_scheduler.ReduceLROnPlateau(optimizer, patience=0, threshold=0.5)


SCHEDULES = {
    "none": lambda optimizer: optimizer,
    "epoch": scheduled(lambda optimizer: lr_scheduler.StepLR(optimizer, 1, 0.7)),
    "every second epoch": scheduled(lambda optimizer: lr_scheduler.StepLR(optimizer, 1, 0.7), frequency=2),
    "step": scheduled(lambda optimizer: lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=100), interval="step"),
    "every second step": scheduled(lambda optimizer: lr_scheduler.StepLR(optimizer, 1, 0.9), interval="step", frequency=2),
    "plateau of the mean": scheduled(plateau, monitor="loss"),
    "plateau of validation": scheduled(plateau, monitor="val"),
    "plateau by step": scheduled(plateau, monitor="loss_step", interval="step", frequency=2),
}


class Shuffled(Sampler[int]):
    """Another order in each epoch, the same in each run."""

    epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return len(ROWS)

    def __iter__(self) -> Iterator[int]:
        return iter(torch.randperm(len(ROWS), generator=torch.Generator().manual_seed(self.epoch)).tolist())


class Stream(IterableDataset[Tensor]):
    """Rows whose number nobody knows."""

    def __iter__(self) -> Iterator[Tensor]:
        return iter(ROWS)


class Data(LightningDataModule):
    """The rows in order, shuffled or as a stream; its state is how many batches were trained on."""

    def __init__(self, kind: str = "in order") -> None:
        super().__init__()
        self.kind, self.seen = kind, 0

    def train_dataloader(self) -> Any:
        if self.kind == "a stream":
            return DataLoader(Stream(), batch_size=4)
        return DataLoader(ROWS, batch_size=4, sampler=Shuffled() if self.kind == "shuffled" else None)  # type: ignore[arg-type]

    def val_dataloader(self) -> Any:
        return DataLoader(ROWS[:8], batch_size=4)  # type: ignore[arg-type]

    def on_after_batch_transfer(self, batch: Tensor, dataloader_idx: int) -> Tensor:
        self.seen += self.trainer.training
        return batch * (1 + self.seen / 100)  # so that the state is seen in all that follows

    def state_dict(self) -> dict[str, Any]:
        return {"seen": self.seen}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.seen = state_dict["seen"]


class Averaged(Callback):
    """Keeps a moving average of the weights, which is what is validated; it goes into the checkpoint."""

    def __init__(self) -> None:
        self.average: dict[str, Tensor] = {}

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
        for name, value in pl_module.state_dict().items():
            self.average[name] = 0.9 * self.average.get(name, value) + 0.1 * value

    def swap(self, trainer: Any, pl_module: Any) -> None:
        if self.average:
            mine = {name: value.clone() for name, value in pl_module.state_dict().items()}
            pl_module.load_state_dict(self.average)
            self.average = mine

    on_validation_epoch_start = on_validation_epoch_end = swap

    def state_dict(self) -> dict[str, Any]:
        return {"average": self.average}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.average = state_dict["average"]


Row = tuple[int | None, dict[str, float]]


class Rows(Logger):
    """Keeps what is logged, and where."""

    name, version = "rows", 0

    def __init__(self) -> None:
        self.rows: list[Row] = []

    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        self.rows.append((step, dict(metrics)))

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        pass


class Storage(CheckpointIO):
    """Files, and the names under which they were written, in order."""

    def __init__(self) -> None:
        self.inner = lx.registry.checkpoint_io.build("torch_io")
        self.written: list[str] = []

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        self.inner.save_checkpoint(checkpoint, path)
        self.written.append(Path(path).name)

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        return self.inner.load_checkpoint(path, map_location, weights_only)  # type: ignore[no-any-return]

    def remove_checkpoint(self, path: Any) -> None:
        self.inner.remove_checkpoint(path)


class Copies(Callback):
    """Copies the folder at the next event after something was written: what lies there if the process dies then."""

    phase = "first"

    def __init__(self, folder: Path, storage: Storage, logger: Rows) -> None:
        self.folder, self.storage, self.logger = folder, storage, logger
        self.copies: list[tuple[str, Path, int]] = []

    def copy(self, *_: Any) -> None:
        written = [name for name in self.storage.written if not name.startswith("last")]
        if len(written) > len(self.copies):
            target = self.folder.with_name(f"copy {len(self.copies)}")
            shutil.copytree(self.folder, target, symlinks=True)
            self.copies.append((written[-1], target, len(self.logger.rows)))

    on_train_batch_start = on_train_epoch_start = on_validation_start = on_train_epoch_end = on_train_end = copy


@dataclass
class Scenario:
    """The arguments of Trainer, ModelCheckpoint, module and data module."""

    trainer: dict[str, Any] = field(default_factory=dict)
    checkpoint: dict[str, Any] = field(default_factory=dict)
    module: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    stopping: dict[str, Any] = field(default_factory=lambda: {"monitor": "loss", "patience": 50})


BY_EPOCH = ("every second epoch", "plateau of the mean", "plateau of validation")
STEPS = {"every_n_train_steps": 2, "save_top_k": -1}
FALLS = (5.0, 4.0, 4.5, 3.0, 3.5, 3.6, 3.7, 3.8, 3.9, 4.0, 4.1, 4.2)

SCENARIOS = {
    "every epoch": Scenario(checkpoint={"save_top_k": -1}),
    "the best two, and the last": Scenario(checkpoint={"monitor": "val", "save_top_k": 2, "save_last": True}),
    "the best by the mean loss": Scenario(
        checkpoint={"monitor": "loss", "mode": "max", "filename": "{epoch}-{loss:.3f}", "save_last": "link"}
    ),
    "every step": Scenario(checkpoint={"every_n_train_steps": 1, "save_top_k": -1}),
    "every second step": Scenario(checkpoint=STEPS),
    "every third step, the best": Scenario(checkpoint={"every_n_train_steps": 3, "monitor": "loss_step", "save_top_k": 2}),
    "no validation": Scenario({"limit_val_batches": 0}, STEPS),
    **{f"scheduler: {name}": Scenario(checkpoint=STEPS, module={"schedule": name}) for name in SCHEDULES},
    **{f"scheduler: {name}, every epoch": Scenario(checkpoint={"save_top_k": -1}, module={"schedule": name}) for name in BY_EPOCH},
    "validation twice an epoch": Scenario({"val_check_interval": 2}, STEPS, {"schedule": "plateau of validation"}),
    "validation twice an epoch, saved after it": Scenario({"val_check_interval": 2}, {"monitor": "val", "save_top_k": -1}),
    "validation on the last batch, saved after it": Scenario({"val_check_interval": 5}, {"monitor": "val", "save_top_k": -1}),
    "validation every second epoch": Scenario({"check_val_every_n_epoch": 2, "max_epochs": 5}, {"monitor": "val", "save_top_k": -1}),
    "validation across epochs": Scenario({"check_val_every_n_epoch": None, "val_check_interval": 4}, STEPS),
    "accumulating two": Scenario({"accumulate_grad_batches": 2}, STEPS, {"schedule": "every second step"}),
    "accumulating three": Scenario({"accumulate_grad_batches": 3}, STEPS, {"schedule": "plateau by step"}),
    "accumulating more and more": Scenario({"accumulate_grad_batches": lambda step: 1 + step // 3}, STEPS, {"schedule": "step"}),
    "max_steps within an epoch": Scenario({"max_steps": 13, "max_epochs": -1}, STEPS),
    "max_steps within an epoch, saved by epochs": Scenario({"max_steps": 13}, {"save_top_k": -1}),
    "max_steps beyond the run": Scenario({"max_steps": 1000}, {"save_top_k": -1}),
    "max_steps beyond the run, no validation": Scenario({"max_steps": 1000, "limit_val_batches": 0}, {"save_top_k": -1}),
    "stopped early": Scenario({"max_epochs": 9}, {"save_top_k": -1}, {"values": FALLS}, stopping={"monitor": "v", "patience": 2}),
    "stopped early, within an epoch": Scenario(
        {"max_epochs": 9, "val_check_interval": 2}, STEPS, {"values": FALLS}, stopping={"monitor": "v", "patience": 3}
    ),
    "in bfloat16": Scenario({"precision": "bf16-mixed"}, STEPS),
    "in bfloat16, every epoch": Scenario({"precision": "bf16-mixed"}, {"save_last": True}),
    "clipped": Scenario({"gradient_clip_val": 0.1}, STEPS),
    "by hand": Scenario(checkpoint=STEPS, module={"manual": True, "schedule": "none"}),
    "shuffled": Scenario(checkpoint=STEPS, data={"kind": "shuffled"}),
    "a stream": Scenario(checkpoint=STEPS, data={"kind": "a stream"}),
    "a stream, accumulating": Scenario({"accumulate_grad_batches": 2}, STEPS, data={"kind": "a stream"}),
    "logged seldom": Scenario({"log_every_n_steps": 3}, STEPS),
    "some batches of each epoch": Scenario({"limit_train_batches": 4}, STEPS),
}


@dataclass
class Ran:
    """A run that has ended, and its parts."""

    trainer: Trainer
    logger: Rows
    folder: Path
    copies: list[tuple[str, Path, int]]

    def left(self) -> dict[str, Any]:
        """Everything that it leaves behind, but for times."""
        trainer = self.trainer
        states = {callback.state_key: callback.state_dict() for callback in trainer.callbacks if not isinstance(callback, Timer | Copies)}
        found = {
            "epoch and step": (trainer.current_epoch, trainer.global_step, trainer.log_step),
            "weights": trainer.lightning_module.state_dict(),
            "optimizer": trainer.optimizers[0].state_dict(),
            "schedules": [config.scheduler.state_dict() for config in trainer.lr_scheduler_configs],
            "counters": trainer.fit_loop.progress.state_dict(),
            "metrics": trainer.callback_metrics,
            "validations": trainer.lightning_module.validations,
            "data": trainer.datamodule.state_dict(),
            "callbacks": states,
            "files": {path.name: self.content(path) for path in sorted(self.folder.glob("*"))},
        }
        return plain(found, str(self.folder))  # type: ignore[no-any-return]

    def content(self, path: Path) -> Any:
        """What is in a file, without the times in it."""
        found = torch.load(path, weights_only=True)
        found["callbacks"].pop("Timer")
        found["loops"]["fit_loop"]["state_dict"].pop("seconds", None)
        return found


def plain(value: Any, folder: str) -> Any:
    """A nested value without tensors and without the folder of its run, so that equal means equal."""
    if isinstance(value, Tensor):
        return value.tolist()
    if isinstance(value, dict):
        return {plain(key, folder): plain(part, folder) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [plain(part, folder) for part in value]
    return value.replace(folder, "FOLDER") if isinstance(value, str) else value


def fit(folder: Path, scenario: Scenario, ckpt_path: Any = None) -> Ran:
    """Fits in a folder, from the beginning or from a checkpoint."""
    storage, logger = Storage(), Rows()
    copies = Copies(folder, storage, logger)
    parts = [
        copies,
        Averaged(),
        EarlyStopping(**scenario.stopping),
        Timer(),
        ModelCheckpoint(dirpath=folder, **{"filename": "{epoch}-{step}", **scenario.checkpoint}),
    ]
    if ckpt_path is not None:
        del parts[0]
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "log_every_n_steps": 1, "logger": logger}
    trainer = Trainer(accelerator="cpu", callbacks=parts, plugins=[storage], **{"max_epochs": 3, **quiet, **scenario.trainer})
    trainer.fit(Net(**scenario.module), datamodule=Data(**scenario.data), ckpt_path=ckpt_path)
    return Ran(trainer, logger, folder, copies.copies)


@pytest.mark.filterwarnings("ignore:an epoch has", "ignore:ModelCheckpoint saves to")
@pytest.mark.parametrize("name", SCENARIOS)
def test_it_ends_like_one_that_was_never_cut_off(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    whole = fit(folder, SCENARIOS[name])
    expected = whole.left()
    assert len(whole.copies) > 1
    for written, copy, rows in whole.copies:
        shutil.rmtree(folder)
        shutil.copytree(copy, folder, symlinks=True)
        resumed = fit(folder, SCENARIOS[name], ckpt_path=folder / written)
        found = resumed.left()
        if written not in expected["files"]:
            del found["files"][written]  # the file that a run was resumed from is not removed
        for what, value in expected.items():
            assert found[what] == value, f"{what}, after {written}"
        assert by_step(whole.logger.rows[:rows] + resumed.logger.rows) == by_step(whole.logger.rows), f"rows, after {written}"


def by_step(rows: list[Row]) -> dict[Any, dict[str, float]]:
    """What was logged, by step and names; what was logged twice must be the same."""
    found: dict[Any, dict[str, float]] = {}
    for step, metrics in rows:
        key = (step, *metrics)
        assert found.setdefault(key, metrics) == metrics
    return found
