"""How many batches and samples training has seen, over epochs, loaders, processes and restarts."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, IterableDataset, SequentialSampler

from lx import Callback, CombinedLoader, LightningModule, Trainer
from lx.kernel import PluginManager
from lx.testing.fakes import FakeCheckpointIO
from lx.testing.models import TinyModule

ROWS = torch.randn(10, 8, generator=torch.Generator().manual_seed(0))
BATCHES = [ROWS[:4], ROWS[4:8], ROWS[8:]]


class Model(TinyModule):
    """Trains, on batches within a list, too."""

    validation_step = LightningModule.validation_step

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return self.loss(batch[0] if isinstance(batch, list) else batch)


class Stream(IterableDataset[Tensor]):
    """Rows without a length."""

    def __iter__(self) -> Iterator[Tensor]:
        return iter(ROWS)


class Notes(Callback):
    """What was seen after each batch."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, int]] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.seen.append((trainer.batches_seen, trainer.samples_seen))


def fit(manager: PluginManager, loader: Any, model: Any = None, ckpt_path: Any = None, **options: Any) -> tuple[Trainer, list[Any]]:
    notes = Notes()
    options = {"max_epochs": 2, "logger": False, "enable_checkpointing": False, "callbacks": [notes], **options}
    trainer = Trainer(manager=manager, **options)
    trainer.fit(model or Model(), loader, ckpt_path=ckpt_path)
    return trainer, notes.seen


LOADERS = {
    "a DataLoader": lambda: DataLoader(ROWS, batch_size=4),
    "one that shuffles": lambda: DataLoader(ROWS, batch_size=4, shuffle=True),
    "with a batch sampler": lambda: DataLoader(ROWS, batch_sampler=BatchSampler(SequentialSampler(ROWS), 4, False)),
    "without a length": lambda: DataLoader(Stream(), batch_size=4),
    "with workers, without a length": lambda: DataLoader(Stream(), batch_size=4, num_workers=1),
    "without automatic batches": lambda: DataLoader(BATCHES, batch_size=None),
    "a list of batches": lambda: BATCHES,
    "several": lambda: CombinedLoader([BATCHES], "max_size_cycle"),
}


@pytest.mark.parametrize("kind", LOADERS)
def test_samples_are_counted_whatever_the_loader_tells(plugin_manager: PluginManager, kind: str) -> None:
    trainer, seen = fit(plugin_manager, LOADERS[kind](), Model())
    assert seen == [(1, 4), (2, 8), (3, 10), (4, 14), (5, 18), (6, 20)]
    assert (trainer.batches_seen, trainer.samples_seen) == (6, 20)


def test_samples_that_are_left_out_do_not_count(plugin_manager: PluginManager) -> None:
    assert fit(plugin_manager, DataLoader(ROWS, batch_size=4, drop_last=True))[1][-1] == (4, 16)
    assert fit(plugin_manager, DataLoader(ROWS, batch_size=4), limit_train_batches=1)[1] == [(1, 4), (2, 8)]


class ByHand(Model):
    """Steps two optimizers for each batch."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch: Any, batch_idx: int) -> None:  # type: ignore[override]
        for optimizer in self.optimizers():
            optimizer.zero_grad()
            self.manual_backward(self.loss(batch))
            optimizer.step()

    def configure_optimizers(self) -> Any:
        return [torch.optim.SGD([parameter], lr=0.01) for parameter in self.parameters()]


def test_batches_do_not_double_with_two_optimizers(plugin_manager: PluginManager) -> None:
    trainer, _ = fit(plugin_manager, BATCHES, ByHand())
    assert (trainer.global_step, trainer.batches_seen, trainer.samples_seen) == (12, 6, 20)


@pytest.mark.parametrize("kind", ["a DataLoader", "a list of batches", "without a length"])
@pytest.mark.parametrize("window", [1, 2])
def test_a_resumed_run_goes_on_counting(plugin_manager: PluginManager, kind: str, window: int) -> None:
    path, memory = "within.ckpt", FakeCheckpointIO()

    class Saves(Callback):
        def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
            if trainer.batches_seen == 4:
                trainer.save_checkpoint(path)

    fit(plugin_manager, LOADERS[kind](), plugins=[memory], callbacks=[Saves()], accumulate_grad_batches=window)
    _, seen = fit(plugin_manager, LOADERS[kind](), ckpt_path=path, plugins=[memory], accumulate_grad_batches=window)
    assert seen == [(5, 18), (6, 20)]


def test_nothing_is_looked_at_in_a_barebones_run(plugin_manager: PluginManager) -> None:
    assert fit(plugin_manager, BATCHES, barebones=True, logger=None, enable_checkpointing=None)[1][-1] == (6, 0)
    assert fit(plugin_manager, DataLoader(ROWS, batch_size=4), barebones=True, logger=None, enable_checkpointing=None)[1][-1] == (6, 20)


def test_a_batch_without_tensors_counts_its_items(plugin_manager: PluginManager) -> None:
    class Words(LightningModule):
        def training_step(self, batch: Any, batch_idx: int) -> None:
            return None

        def configure_optimizers(self) -> None:
            return None

    with pytest.warns(UserWarning, match="without an optimizer"):
        trainer, _ = fit(plugin_manager, [["a", "b"], ["c"]], Words(), max_epochs=1)
    assert trainer.samples_seen == 3
