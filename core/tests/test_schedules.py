"""When schedulers by epoch move, in epochs that do not come to their end."""

from typing import Any

import pytest
from torch.optim import SGD
from torch.optim.lr_scheduler import ReduceLROnPlateau, StepLR

from lx import Callback, Trainer
from lx.kernel import PluginManager
from lx.testing.models import TinyDataModule, TinyModule


class Scheduled(TinyModule):
    """Notes the moves of its schedulers, one of which watches a value that validation logs at the end of an epoch."""

    ends_before = -1

    def __init__(self) -> None:
        super().__init__()
        self.moves: list[tuple[int, str]] = []

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> int | None:
        return -1 if batch_idx == self.ends_before else None

    def configure_optimizers(self) -> Any:
        optimizer = SGD(self.parameters(), lr=0.1)
        return [optimizer], [StepLR(optimizer, 1), {"scheduler": ReduceLROnPlateau(optimizer), "monitor": "val_loss"}]

    def lr_scheduler_step(self, scheduler: Any, metric: Any) -> None:
        self.moves.append((self.trainer.current_epoch, type(scheduler).__name__))


class Stops(Callback):
    """Asks to stop after the first batch."""

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        trainer.should_stop = True


def moved(manager: PluginManager, ends_before: int = -1, **options: Any) -> list[tuple[int, str]]:
    """The moves of schedulers in a fit, with the epochs in which they were."""
    module = Scheduled()
    module.ends_before = ends_before
    Trainer(manager=manager, logger=False, enable_checkpointing=False, **options).fit(module, datamodule=TinyDataModule())
    return module.moves


WHOLE = [(0, "StepLR"), (0, "ReduceLROnPlateau")]


def test_they_move_at_the_end_of_an_epoch(plugin_manager: PluginManager) -> None:
    assert moved(plugin_manager, max_epochs=1) == WHOLE
    assert moved(plugin_manager, max_epochs=1, limit_train_batches=2) == WHOLE


@pytest.mark.parametrize("options", [{"max_steps": 3}, {"max_epochs": 2, "callbacks": [Stops()]}])
@pytest.mark.parametrize("validates", [True, False])
def test_they_do_not_move_in_an_epoch_that_is_cut_short(plugin_manager: PluginManager, options: Any, validates: bool) -> None:
    """Not even those whose value was not logged yet, which would be an error."""
    assert moved(plugin_manager, check_val_every_n_epoch=1 if validates else 2, **options) == []


def test_an_epoch_that_max_steps_ends_with_its_last_batch_is_whole(plugin_manager: PluginManager) -> None:
    assert moved(plugin_manager, max_steps=4) == WHOLE


def test_they_move_where_the_module_ends_an_epoch(plugin_manager: PluginManager) -> None:
    assert moved(plugin_manager, max_epochs=1, ends_before=2, val_check_interval=1) == WHOLE
