"""What a writer gets, and when."""

from typing import Any

import pytest
import torch
from torch.utils.data import BatchSampler, DataLoader, IterableDataset

from lx import LightningModule, Trainer
from lx.kernel.errors import MisconfigurationException
from lx_plugin_prediction_writer.callback import BasePredictionWriter


class Doubles(LightningModule):
    def predict_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Any:
        return batch * 2


class Writer(BasePredictionWriter):
    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.batches: list[Any] = []
        self.epochs: list[Any] = []

    def write_on_batch_end(self, trainer, pl_module, prediction, batch_indices, batch, batch_idx, dataloader_idx):
        assert torch.equal(prediction, batch * 2)
        self.batches.append((prediction.tolist(), batch_indices, batch_idx, dataloader_idx))

    def write_on_epoch_end(self, trainer, pl_module, predictions, batch_indices):
        self.epochs.append((predictions, batch_indices))


ROWS = torch.arange(10, 15)


def predicted(writer: Any, loaders: Any, **options: Any) -> Any:
    trainer = Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, callbacks=[writer], **options)
    return trainer.predict(Doubles(), loaders, return_predictions=False)


def test_each_batch_comes_with_the_indices_of_its_samples() -> None:
    writer = Writer()
    assert predicted(writer, DataLoader(ROWS, batch_size=2)) is None
    assert writer.batches == [([20, 22], [0, 1], 0, 0), ([24, 26], [2, 3], 1, 0), ([28], [4], 2, 0)]
    assert writer.epochs == []


@pytest.mark.filterwarnings("ignore:the predict loader shuffles")
def test_indices_are_those_of_the_data_set_in_whatever_order_workers_fetch_them() -> None:
    loader = DataLoader(ROWS, batch_size=2, shuffle=True, num_workers=2)
    writer = Writer()
    predicted(writer, loader, limit_predict_batches=2)
    assert [values for values, *_ in writer.batches] == [[int(ROWS[index]) * 2 for index in indices] for _, indices, *_ in writer.batches]
    assert len(writer.batches) == 2
    assert not hasattr(loader.batch_sampler, "kept")  # the user's loader is as it was


def test_all_come_at_the_end_in_the_shape_that_predict_returns() -> None:
    writer = Writer("epoch")
    predicted(writer, DataLoader(ROWS, batch_size=4))
    ((predictions, indices),) = writer.epochs
    assert [part.tolist() for part in predictions] == [[20, 22, 24, 26], [28]]
    assert indices == [[[0, 1, 2, 3], [4]]]
    assert writer.batches == []
    both = Writer("batch_and_epoch")
    predicted(both, [DataLoader(ROWS, batch_size=4), DataLoader(ROWS[:2], batch_size=1)])
    ((predictions, indices),) = both.epochs
    assert [[part.tolist() for part in parts] for parts in predictions] == [[[20, 22, 24, 26], [28]], [[20], [22]]]
    assert indices == [[[0, 1, 2, 3], [4]], [[0], [1]]]
    assert [entry[1:] for entry in both.batches] == [([0, 1, 2, 3], 0, 0), ([4], 1, 0), ([0], 0, 1), ([1], 1, 1)]


class Stream(IterableDataset[int]):
    def __iter__(self) -> Any:
        return iter(range(3))


def test_loaders_that_draw_no_indices_have_none() -> None:
    writer = Writer("batch_and_epoch")
    predicted(writer, [DataLoader(Stream(), batch_size=2), [torch.ones(1)]])
    assert [entry[1] for entry in writer.batches] == [[], [], []]
    assert writer.epochs[0][1] == [[], []]


class Twos(BatchSampler):
    """A batch sampler of one's own, whose arguments nobody knows."""

    def __init__(self, rows: int) -> None:
        self.rows = rows

    def __iter__(self) -> Any:
        yield from ([index, index + 1] for index in range(0, self.rows, 2))

    def __len__(self) -> int:
        return self.rows // 2


def test_samplers_of_every_kind_tell_what_they_drew() -> None:
    for loader, expected in (
        (DataLoader(ROWS, batch_sampler=Twos(4)), [[0, 1], [2, 3]]),
        (DataLoader(ROWS, batch_size=None), [[0], [1], [2], [3], [4]]),
        (DataLoader(ROWS, sampler=[4, 0], batch_size=1), [[4], [0]]),
    ):
        writer = Writer()
        predicted(writer, loader)
        assert [entry[1] for entry in writer.batches] == expected


def test_predicting_again_begins_anew() -> None:
    writer, loader = Writer("epoch"), DataLoader(ROWS, batch_size=4)
    predicted(writer, loader)
    predicted(writer, loader)
    assert [indices for _, indices in writer.epochs] == [[[[0, 1, 2, 3], [4]]]] * 2


def test_a_step_that_fetches_itself_is_refused() -> None:
    class Fetches(LightningModule):
        def predict_step(self, dataloader_iter: Any) -> Any:
            return next(dataloader_iter)

    with pytest.raises(NotImplementedError, match=r"predict_step\(dataloader_iter\) takes its batches unseen"):
        Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, callbacks=[Writer()]).predict(Fetches(), DataLoader(ROWS))


def test_another_interval_is_refused() -> None:
    with pytest.raises(MisconfigurationException, match="write_interval='step': it must be one of 'batch', 'epoch', 'batch_and_epoch'"):
        BasePredictionWriter("step")
