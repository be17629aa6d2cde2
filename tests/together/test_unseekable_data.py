"""Data that cannot seek, in a run that goes on within an epoch: read again, refused, or gone on with by itself, if it keeps a state."""

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from lx import Callback, LightningModule, Trainer
from lx.kernel.errors import MisconfigurationException

ROWS = torch.randn(20, 3, generator=torch.Generator().manual_seed(1))
MakeTrainer = Callable[..., Trainer]


class Stream(IterableDataset[Tensor]):
    """Rows with noise, whose numbers it notes when they are read."""

    def __init__(self) -> None:
        self.read: list[int] = []

    def __iter__(self) -> Iterator[Tensor]:
        for number, row in enumerate(ROWS):
            self.read.append(number)
            yield row + torch.randn(3)


class StatefulLoader:
    """Of the shape of torchdata's StatefulDataLoader: it says how much it has given, and goes on after that without reading it."""

    def __init__(self, sized: bool) -> None:
        self.read: list[int] = []
        self._given = 0
        self._goes_on = False
        if sized:
            self.__class__ = type("SizedStatefulLoader", (StatefulLoader,), {"__len__": lambda self: 5})

    def __iter__(self) -> Iterator[Tensor]:
        if not self._goes_on:
            self._given = 0
        self._goes_on = False
        while self._given < 5:
            rows = range(4 * self._given, 4 * self._given + 4)
            self.read += rows
            self._given += 1
            yield ROWS[list(rows)] + torch.randn(4, 3)

    def state_dict(self) -> dict[str, Any]:
        """How many batches it has given."""
        return {"_num_yielded": self._given}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on after so many."""
        self._given, self._goes_on = state["_num_yielded"], True


class StatefulStream(Stream):
    """Rows, of which it says how many it has given."""

    def __init__(self) -> None:
        super().__init__()
        self.given = 0

    def __iter__(self) -> Iterator[Tensor]:
        while self.given < len(ROWS):
            self.read.append(self.given)
            self.given += 1
            yield ROWS[self.given - 1] + torch.randn(3)
        self.given = 0

    def state_dict(self) -> dict[str, Any]:
        """How many rows it has given."""
        return {"given": self.given}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on after so many."""
        self.given = state["given"]


class Net(LightningModule):
    """One layer with dropout before it."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(3, 1)
        torch.nn.init.ones_(self.layer.weight)
        torch.nn.init.zeros_(self.layer.bias)
        self.batches: list[list[float]] = []

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        self.batches.append(batch[:, 0].tolist())
        loss: Tensor = self.layer(torch.nn.functional.dropout(batch, 0.3)).square().mean()
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.05)


class Saves(Callback):
    """Saves after the third batch."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if batch_idx == 2 and trainer.current_epoch == 0:
            trainer.save_checkpoint(self.path)


def fit(trainer: Trainer, loader: Any, ckpt_path: Any = None) -> Net:
    """Trains, from other random numbers each time."""
    torch.manual_seed(0 if ckpt_path is None else 7)
    model = Net()
    trainer.fit(model, loader, ckpt_path=ckpt_path)
    return model


def weights(model: Net) -> list[Any]:
    """The weights, to be compared bit by bit."""
    return [parameter.tolist() for parameter in model.parameters()]


@pytest.fixture
def whole(bare_trainer: MakeTrainer, tmp_path: Path) -> Net:
    """A run of two epochs over the stream, which has left a checkpoint of its third batch."""
    return fit(bare_trainer(max_epochs=2, callbacks=[Saves(tmp_path / "a.ckpt")]), DataLoader(Stream(), 4))


def test_what_was_trained_on_is_read_again_and_dropped_and_that_is_said(
    whole: Net, bare_trainer: MakeTrainer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stream = Stream()
    with caplog.at_level(logging.INFO, "lx"):
        resumed = fit(bare_trainer(max_epochs=2), DataLoader(stream, 4), tmp_path / "a.ckpt")
    assert stream.read == [*range(20), *range(20)]
    assert resumed.batches == whole.batches[3:]
    assert weights(resumed) == weights(whole)
    assert "Stream cannot seek: 4 batches are read again and dropped. To spare that, give it state_dict" in caplog.text


@pytest.mark.usefixtures("whole")
def test_to_read_it_again_is_refused_where_that_is_asked_for(bare_trainer: MakeTrainer, tmp_path: Path) -> None:
    stream = Stream()
    trainer = bare_trainer(max_epochs=2, unseekable_data="refuse")
    with pytest.raises(
        MisconfigurationException, match=r"Stream cannot go on after 4 batches .*unseekable_data='refuse' refuses: give it state_dict"
    ):
        fit(trainer, DataLoader(stream, 4), tmp_path / "a.ckpt")
    assert not stream.read


@pytest.mark.parametrize("sized", [True, False])
def test_a_loader_that_keeps_a_state_goes_on_by_itself(
    sized: bool, bare_trainer: MakeTrainer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole = fit(bare_trainer(max_epochs=2, callbacks=[Saves(tmp_path / "a.ckpt")]), StatefulLoader(sized))
    loader = StatefulLoader(sized)
    with caplog.at_level(logging.INFO, "lx"):
        resumed = fit(bare_trainer(max_epochs=2, unseekable_data="refuse"), loader, tmp_path / "a.ckpt")
    assert loader.read == [*range(12 if sized else 16, 20), *range(20)], "without a length one batch more was fetched, and is in the file"
    assert resumed.batches == whole.batches[3:]
    assert weights(resumed) == weights(whole)
    assert "read again" not in caplog.text


def test_a_data_set_that_keeps_a_state_goes_on_by_itself(bare_trainer: MakeTrainer, tmp_path: Path) -> None:
    whole = fit(bare_trainer(max_epochs=2, callbacks=[Saves(tmp_path / "a.ckpt")]), DataLoader(StatefulStream(), 4))
    stream = StatefulStream()
    resumed = fit(bare_trainer(max_epochs=2, unseekable_data="refuse"), DataLoader(stream, 4), tmp_path / "a.ckpt")
    assert stream.read == [*range(16, 20), *range(20)]
    assert resumed.batches == whole.batches[3:]
    assert weights(resumed) == weights(whole)
