"""The events of callbacks around the transfer of a batch and the move of a scheduler."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.optim import SGD
from torch.optim.lr_scheduler import ReduceLROnPlateau, StepLR

from lx import Callback, LightningModule, Trainer
from lx.kernel import PluginManager
from lx.kernel.errors import MisconfigurationException
from lx.testing.models import TinyDataModule, TinyModule

QUIET = {"logger": False, "enable_checkpointing": False, "max_epochs": 1}


class Noting(TinyModule):
    """Notes what reaches its hooks and steps, and multiplies batches."""

    validation_step = LightningModule.validation_step

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Any] = []

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        self.seen.append(("module before", float(batch[0].sum())))
        return [batch[0] * 10, batch[1]]

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        self.seen.append(("module after", float(batch[0].sum())))
        return [batch[0] * 10, batch[1]]

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        self.seen.append(("step", float(batch[0].sum())))
        return self.loss(batch)

    def train_dataloader(self) -> Any:
        return [[torch.ones(1, 8), torch.ones(1, 1)]]


class Mixes(Callback):
    """Exchanges every batch, before and after its transfer."""

    def __init__(self, seen: list[Any]) -> None:
        self.seen = seen

    def on_before_batch_transfer(self, trainer: Any, pl_module: Any, batch: Any, dataloader_idx: int) -> Any:
        self.seen.append(("callback before", float(batch[0].sum())))
        return [batch[0] * 2, batch[1]]

    def on_after_batch_transfer(self, trainer: Any, pl_module: Any, batch: Any, dataloader_idx: int) -> Any:
        self.seen.append(("callback after", float(batch[0].sum())))
        return [batch[0] * 2, batch[1]]


class Looks(Callback):
    """Looks at batches and leaves them."""

    def __init__(self) -> None:
        self.stages: list[str] = []

    def on_after_batch_transfer(self, trainer: Any, pl_module: Any, batch: Any, dataloader_idx: int) -> None:
        self.stages.append(trainer.state.stage.value)


def test_each_may_exchange_the_batch_callbacks_first(plugin_manager: PluginManager) -> None:
    model = Noting()
    Trainer(manager=plugin_manager, callbacks=[Mixes(model.seen), Looks()], **QUIET).fit(model)
    assert model.seen == [
        ("callback before", 8.0),
        ("module before", 16.0),
        ("callback after", 160.0),
        ("module after", 320.0),
        ("step", 3200.0),
    ]


def test_batches_of_all_stages_pass_by(plugin_manager: PluginManager) -> None:
    looks = Looks()
    trainer = Trainer(manager=plugin_manager, callbacks=[looks], **QUIET)
    trainer.fit(TinyModule(), datamodule=TinyDataModule())
    trainer.test(TinyModule(), datamodule=TinyDataModule())
    trainer.predict(TinyModule(), datamodule=TinyDataModule())
    assert looks.stages == ["sanity_check"] * 2 + ["train"] * 4 + ["validate"] * 4 + ["test"] * 4 + ["predict"] * 4


def test_nothing_can_be_logged_where_a_batch_is_on_its_way(plugin_manager: PluginManager) -> None:
    class Logs(Callback):
        def on_after_batch_transfer(self, trainer: Any, pl_module: Any, batch: Any, dataloader_idx: int) -> None:
            self.log("x", 1.0)

    with pytest.raises(MisconfigurationException, match="was called in on_after_batch_transfer, where nothing can be logged"):
        Trainer(manager=plugin_manager, callbacks=[Logs()], **QUIET).fit(TinyModule(), datamodule=TinyDataModule())


class Scheduled(TinyModule):
    """A scheduler that moves by step and a plateau one by epoch."""

    def configure_optimizers(self) -> Any:
        optimizer = SGD(self.parameters(), lr=1.0)
        plateau = {"scheduler": ReduceLROnPlateau(optimizer), "monitor": "val_loss"}
        return [optimizer], [{"scheduler": StepLR(optimizer, 1, gamma=0.5), "interval": "step"}, plateau]


class Moves(Callback):
    """Notes the moves of schedulers."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    def note(self, when: str, pl_module: Any, scheduler: Any, metric: Any) -> None:
        lr = pl_module.optimizers().param_groups[0]["lr"]
        self.seen.append((when, type(scheduler).__name__, metric is not None, lr))

    def on_before_lr_scheduler_step(self, trainer: Any, pl_module: Any, scheduler: Any, metric: Any) -> None:
        self.note("before", pl_module, scheduler, metric)

    def on_after_lr_scheduler_step(self, trainer: Any, pl_module: Any, scheduler: Any, metric: Any) -> None:
        self.note("after", pl_module, scheduler, metric)


def test_callbacks_know_when_a_scheduler_moves(plugin_manager: PluginManager) -> None:
    moves = Moves()
    Trainer(manager=plugin_manager, callbacks=[moves], limit_train_batches=2, **QUIET).fit(Scheduled(), datamodule=TinyDataModule())
    assert moves.seen == [
        ("before", "StepLR", False, 1.0),
        ("after", "StepLR", False, 0.5),
        ("before", "StepLR", False, 0.5),
        ("after", "StepLR", False, 0.25),
        ("before", "ReduceLROnPlateau", True, 0.25),
        ("after", "ReduceLROnPlateau", True, 0.25),
    ]


def test_a_traced_run_keeps_its_batches(plugin_manager: PluginManager) -> None:
    lines: list[str] = []
    plugin_manager.trace = lines.append
    trainer = Trainer(manager=plugin_manager, callbacks=[Looks()], **QUIET)
    trainer.fit(TinyModule(), datamodule=TinyDataModule())
    assert trainer.global_step == 4
    assert "event on_before_batch_transfer -> nobody" in lines
    assert "event on_after_batch_transfer -> Looks" in lines
