"""LightningDataModule: made of data sets, described, and kept in a checkpoint."""

import pickle
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch.utils.data import BatchSampler, DataLoader, Dataset, IterableDataset, RandomSampler, SequentialSampler

from lx import LightningDataModule
from lx.data import CombinedLoader
from lx.data.source import Source


class Rows(Dataset[int]):
    def __init__(self, size: int) -> None:
        self.size = size

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> int:
        return index


class Stream(IterableDataset[int]):
    def __iter__(self) -> Iterator[int]:
        return iter(range(3))


def test_loaders_are_made_of_data_sets_and_only_training_shuffles() -> None:
    data = LightningDataModule.from_datasets(Rows(8), Rows(4), Rows(3), Rows(2), batch_size=2)
    loaders = [getattr(data, f"{prefix}_dataloader")() for prefix in ("train", "val", "test", "predict")]
    assert [type(loader.sampler) for loader in loaders] == [RandomSampler, *[SequentialSampler] * 3]
    assert [(len(loader.dataset), loader.batch_size, loader.num_workers) for loader in loaders] == [(n, 2, 0) for n in (8, 4, 3, 2)]
    assert {loader.pin_memory for loader in loaders} == {torch.accelerator.is_available()}
    assert data.train_dataloader() is not loaders[0]  # made anew, for those who ask again


def test_only_what_was_given_is_there() -> None:
    source = Source(None, LightningDataModule.from_datasets(val_dataset=Rows(4)), {})
    assert [source.has(prefix) for prefix in ("train", "val", "test", "predict")] == [False, True, False, False]
    assert len(source.request("val")) == 4


def test_an_iterable_data_set_is_not_shuffled() -> None:
    loader = LightningDataModule.from_datasets(Stream(), num_workers=0).train_dataloader()
    assert [batch.item() for batch in loader] == [0, 1, 2]


def test_collections_of_data_sets_become_collections_of_loaders() -> None:
    data = LightningDataModule.from_datasets({"a": Rows(4), "b": [Rows(3), Stream()]}, [Rows(2), Rows(5)], batch_size=4)
    train, val = data.train_dataloader(), data.val_dataloader()
    assert list(train) == ["a", "b"]
    assert [type(loader.batch_sampler) for loader in (train["a"], train["b"][0])] == [BatchSampler] * 2
    assert isinstance(train["b"][0].sampler, RandomSampler)
    assert [len(loader.dataset) for loader in val] == [2, 5]


def test_the_size_of_batches_goes_to_an_init_that_takes_it() -> None:
    class Takes(LightningDataModule):
        def __init__(self, batch_size: int, root: str = ".") -> None:
            super().__init__()
            self.save_hyperparameters()

    class TakesAll(LightningDataModule):
        def __init__(self, **options: Any) -> None:
            super().__init__()
            self.options = options

    assert dict(Takes.from_datasets(Rows(2), batch_size=16, num_workers=0, root="x").hparams) == {"batch_size": 16, "root": "x"}
    assert TakesAll.from_datasets(Rows(2), batch_size=16, root="x").options == {"batch_size": 16, "num_workers": 0, "root": "x"}
    with pytest.raises(TypeError, match="argument"):
        LightningDataModule.from_datasets(Rows(2), root="x")


def test_it_can_be_pickled() -> None:
    data = pickle.loads(pickle.dumps(LightningDataModule.from_datasets(Rows(4), batch_size=2)))
    assert len(data.train_dataloader()) == 2


# -- description -------------------------------------------------------------------------------------------------------------


def test_it_describes_itself_by_the_sizes_of_its_data_sets() -> None:
    data = LightningDataModule.from_datasets({"a": Rows(4), "b": Rows(3)}, [Rows(2), Stream()], batch_size=2)
    assert str(data) == "train: 4, 3\nval: 2, None\ntest: None\npredict: None"


def test_loaders_of_any_kind_can_be_described_also_before_the_data_is_there() -> None:
    class Odd(LightningDataModule):
        def train_dataloader(self) -> Any:
            return DataLoader(self.rows)  # made by setup, which nobody has called

        def val_dataloader(self) -> Any:
            return CombinedLoader({"a": DataLoader(Rows(4)), "b": [DataLoader(Rows(3))]})

        def test_dataloader(self) -> Any:
            return [torch.ones(2), torch.ones(2)]

        def predict_dataloader(self) -> Any:
            return DataLoader(Rows(5))

    assert str(Odd()) == "train: None\nval: 4, 3\ntest: None\npredict: 5"


# -- state -------------------------------------------------------------------------------------------------------------------


def test_it_stands_alone_until_a_trainer_takes_it() -> None:
    data = LightningDataModule()
    assert (data.trainer, data.prepare_data_per_node, data.allow_zero_length_dataloader_with_multiple_devices) == (None, True, False)
    assert data.state_dict() == {}
    for hook in ("train_dataloader", "val_dataloader", "test_dataloader", "predict_dataloader"):
        with pytest.raises(NotImplementedError):
            getattr(data, hook)()
