"""Runs of a small model, and a record of what was written and removed, in order."""

import os
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

import lx
from lx import Callback, LightningModule, Trainer
from lx.interfaces import CheckpointIO
from lx_plugin_checkpoint.callback import ModelCheckpoint


class Boom(Exception):
    """What ends a run in a test."""


class Model(LightningModule):
    """Logs the next of `values` as `v`, in each validation run or in each training step."""

    def __init__(self, values=(), where="validation", manual=False):
        super().__init__()
        self.layer = torch.nn.Linear(2, 1)
        self.values, self.where = list(values), where
        self.automatic_optimization = not manual

    def training_step(self, batch, batch_idx):
        if self.where == "training":
            self.log("v", self.values.pop(0))
        loss = self.layer(batch[0]).sum()
        if not self.automatic_optimization:
            self.optimizers().zero_grad()
            self.manual_backward(loss)
            self.optimizers().step()
        return loss

    def validation_step(self, batch, batch_idx):
        if self.where == "validation" and self.values and not self.trainer.sanity_checking:
            self.log("v", float(self.values.pop(0)))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.01)


class Watch(Callback):
    """Knows at which place of a run it is, and ends the run before a step if it is told to."""

    place = "start"

    def __init__(self, boom, raises):
        self.boom, self.raises = boom, raises

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.global_step == self.boom:
            self.place = "exception"
            raise self.raises

    def on_train_batch_end(self, *args):
        self.place = "batch"

    def on_validation_end(self, *args):
        self.place = "validation"

    def on_train_epoch_end(self, *args):
        self.place = "epoch"

    def on_train_end(self, *args):
        self.place = "end"


class Recording(CheckpointIO):
    """Writes with the checkpoint I/O that is installed, and keeps what was done as `save NAME PLACE` and `remove NAME`."""

    def __init__(self, watch):
        self.inner = lx.registry.checkpoint_io.build("torch_io")
        self.watch = watch
        self.events = []

    def save_checkpoint(self, checkpoint, path, storage_options=None):
        self.inner.save_checkpoint(checkpoint, path)
        self.events.append(f"save {os.path.basename(path)} {self.watch.place}")

    def load_checkpoint(self, path, map_location=None, weights_only=None):
        return self.inner.load_checkpoint(path, map_location, weights_only)

    def remove_checkpoint(self, path):
        self.events.append(f"remove {os.path.basename(path)}")
        self.inner.remove_checkpoint(path)


@dataclass
class Ran:
    """What a run left behind."""

    trainer: Any
    folder: Any
    error: BaseException | None = None
    events: list = field(default_factory=list)

    @property
    def files(self):
        return sorted(os.listdir(self.folder)) if os.path.isdir(self.folder) else []

    @property
    def saved(self):
        return [event.removeprefix("save ") for event in self.events if event.startswith("save ")]


def data(batches):
    return DataLoader(TensorDataset(torch.ones(batches, 2)), batch_size=1)


@pytest.fixture
def fit(tmp_path):
    """Fits with callbacks, or with the arguments of one ModelCheckpoint, in `tmp_path/checkpoints`; four batches an epoch."""

    def run(
        *callbacks,
        values=(),
        where="validation",
        manual=False,
        validates=True,
        boom=None,
        raises=Boom,
        ckpt_path=None,
        folder=None,
        **settings,
    ):
        watch = Watch(boom, raises)
        storage = Recording(watch)
        arguments = {
            "max_epochs": 3,
            "accelerator": "cpu",
            "logger": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "num_sanity_val_steps": 0,
            "default_root_dir": tmp_path,
            "plugins": storage,
            "limit_val_batches": 1.0 if validates else 0,
        }
        folder = folder or tmp_path / "checkpoints"
        made = [ModelCheckpoint(**{"dirpath": folder, **one}) if isinstance(one, dict) else one for one in callbacks]
        ran = Ran(Trainer(callbacks=[watch, *made], **{**arguments, **settings}), folder, events=storage.events)
        try:
            ran.trainer.fit(Model(values, where, manual), data(4), data(1), ckpt_path=ckpt_path)
        except (Boom, SystemExit) as error:
            ran.error = error
        return ran

    return run
