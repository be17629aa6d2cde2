"""Steps that fetch their batches themselves."""

from collections.abc import Iterator
from itertools import islice
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset

from lx import LightningModule, Trainer
from lx.dataloader_iter import DataLoaderIter
from lx.kernel.errors import MisconfigurationException
from lx.testing import FakeLogger, fake_plugin_manager


class Stream(IterableDataset[Any]):
    """Six rows that say not how many they are."""

    def __iter__(self) -> Iterator[torch.Tensor]:
        return iter(torch.arange(6.0).reshape(6, 1))


class Fetches(LightningModule):
    """Takes `take` batches a step, and notes what it got, and what its hooks were handed."""

    def __init__(self, take: int = 1, size: int | None = 2) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
        self.take, self.size = take, size
        self.seen: list[Any] = []
        self.hooks: list[Any] = []

    def _step(self, dataloader_iter: Any, name: str) -> Any:
        for _ in range(self.take):
            batch, batch_idx, dataloader_idx = next(dataloader_iter)
            self.seen.append((batch[0, 0].item(), batch_idx, dataloader_idx))
        self.log(name, batch.sum(), on_epoch=True, batch_size=self.size)
        return self.layer(batch).mean()

    def training_step(self, dataloader_iter: Any) -> Any:
        return self._step(dataloader_iter, "train")

    def validation_step(self, dataloader_iter: Any) -> None:
        self._step(dataloader_iter, "val")

    def predict_step(self, dataloader_iter: Any) -> Any:
        return next(dataloader_iter)[0].sum().item()

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        raise AssertionError("the step moves its batches itself")

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.hooks.append((batch.batch[0, 0].item(), batch_idx, self.trainer.is_last_batch))

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def trainer_of_fakes(**options: Any) -> Trainer:
    return Trainer(manager=fake_plugin_manager(), logger=FakeLogger(), max_epochs=1, num_sanity_val_steps=0, log_every_n_steps=1, **options)


def rows() -> Any:
    return DataLoader(torch.arange(6.0).reshape(6, 1), batch_size=2)  # type: ignore[arg-type, var-annotated]


@pytest.mark.parametrize("loader", [rows(), DataLoader(Stream(), batch_size=2)], ids=["sized", "unsized"])
def test_a_step_takes_a_batch_with_its_indices_and_the_last_is_known(loader: Any) -> None:
    model, trainer = Fetches(), trainer_of_fakes()
    trainer.fit(model, loader, rows())
    assert model.seen == [(0.0, 0, 0), (2.0, 1, 0), (4.0, 2, 0)] * 2
    assert model.hooks == [(0.0, 0, False), (2.0, 1, False), (4.0, 2, True)]
    assert trainer.global_step == 3
    assert (trainer.callback_metrics["train_epoch"], trainer.callback_metrics["val"]) == (5.0, 5.0)


@pytest.mark.parametrize("length", [4, 6, 5])
@pytest.mark.parametrize("sized", [True, False])
def test_a_step_may_take_several_and_one_that_comes_too_late_counts_for_nothing(length: int, sized: bool) -> None:
    data = torch.arange(float(length)).reshape(length, 1)
    model, trainer = Fetches(take=2), trainer_of_fakes(limit_val_batches=0)
    trainer.fit(model, DataLoader(data, batch_size=1) if sized else (row.reshape(1, 1) for row in data), rows())  # type: ignore[arg-type]
    assert [entry[0] for entry in model.seen] == list(map(float, range(length)))
    assert trainer.global_step == length // 2


def test_limits_and_windows_count_steps() -> None:
    model, trainer = Fetches(), trainer_of_fakes(limit_train_batches=2, limit_val_batches=1, accumulate_grad_batches=2)
    trainer.fit(model, rows(), rows())
    assert [entry[0] for entry in model.seen] == [0.0, 2.0, 0.0]
    assert trainer.global_step == 1


def test_each_loader_of_an_evaluation_has_its_index_and_its_values() -> None:
    model = Fetches()
    results = trainer_of_fakes().validate(model, [rows(), DataLoader(torch.ones(4, 1), batch_size=4)], verbose=False)  # type: ignore[arg-type]
    assert model.seen == [(0.0, 0, 0), (2.0, 1, 0), (4.0, 2, 0), (1.0, 0, 1)]
    assert results == [{"val/dataloader_idx_0": 5.0}, {"val/dataloader_idx_1": 4.0}]


def test_predictions_are_those_of_the_batches() -> None:
    assert trainer_of_fakes().predict(Fetches(), rows()) == [1.0, 5.0, 9.0]


def test_a_mean_needs_a_size_that_only_the_step_knows() -> None:
    with pytest.raises(MisconfigurationException, match=r"takes dataloader_iter must say the size: self\.log\(\.\.\., batch_size="):
        trainer_of_fakes().fit(Fetches(size=None), rows(), rows())


def test_the_iterator_looks_one_batch_ahead_of_whoever_looks_ahead() -> None:
    fetched: list[int] = []

    def source() -> Iterator[int]:
        for index in range(5):
            fetched.append(index)
            yield index

    iterator = DataLoaderIter(source())
    steps = iterator.once_a_step()
    assert next(steps) is iterator
    assert fetched == [0]
    assert list(islice(steps, 1)) == [iterator]
    assert fetched == [0, 1]
    assert [next(iterator) for _ in range(3)] == [(0, 0, 0), (1, 1, 0), (2, 2, 0)]
    assert iterator.batch == 2
    assert list(iterator) == [(3, 3, 0), (4, 4, 0)]
    assert list(steps) == []
