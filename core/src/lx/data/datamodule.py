"""LightningDataModule: the data of an experiment in one class."""

import functools
import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset

from lx.data.combined import combine
from lx.hooks import DataHooks
from lx.hparams.mixin import HyperparametersMixin
from lx.module_loading import LoadableFromCheckpoint


class LightningDataModule(DataHooks, HyperparametersMixin, LoadableFromCheckpoint):
    """Downloads, splits and loads data; passed as `trainer.fit(model, datamodule=...)`.

    >>> class Numbers(LightningDataModule):
    ...     def train_dataloader(self):
    ...         return DataLoader(range(4), batch_size=2)
    >>> len(Numbers().train_dataloader())
    2
    """

    name: str | None = None
    # Of the class, so that a data module works whose __init__ does not call this one's.
    trainer: Any = None
    prepare_data_per_node: bool = True
    allow_zero_length_dataloader_with_multiple_devices: bool = False

    @classmethod
    def from_datasets(
        cls,
        train_dataset: Any = None,
        val_dataset: Any = None,
        test_dataset: Any = None,
        predict_dataset: Any = None,
        batch_size: int = 1,
        num_workers: int = 0,
        **datamodule_kwargs: Any,
    ) -> "LightningDataModule":
        """A data module over data sets, or collections of them; training shuffles, unless the data set is iterable.

        `batch_size` and `num_workers` also go to `__init__`, if it takes them, with `datamodule_kwargs`.
        """
        taken = inspect.signature(cls).parameters
        open_ended = any(parameter.kind is parameter.VAR_KEYWORD for parameter in taken.values())
        loading = {"batch_size": batch_size, "num_workers": num_workers}
        datamodule = cls(**{name: value for name, value in loading.items() if open_ended or name in taken}, **datamodule_kwargs)
        given = {"train": train_dataset, "val": val_dataset, "test": test_dataset, "predict": predict_dataset}
        for prefix, dataset in given.items():
            if dataset is not None:
                loaders = functools.partial(_loaders, dataset, prefix == "train", batch_size, num_workers)
                setattr(datamodule, f"{prefix}_dataloader", loaders)
        return datamodule

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint must hold of this data module; an empty one is not stored."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes up what `state_dict` gave."""

    def on_exception(self, exception: BaseException) -> None:
        """Called on every rank when a run is ended by an exception, after the callbacks'."""

    def __str__(self) -> str:
        lines = []
        for prefix in ("train", "val", "test", "predict"):
            try:
                loaders = getattr(self, f"{prefix}_dataloader")()
            except Exception:  # before prepare_data and setup a loader may be impossible, and this is only a description
                loaders = None
            sizes = [str(_size(loader)) for loader in combine(loaders, "sequential").flattened]
            lines.append(f"{prefix}: {', '.join(sizes)}")
        return "\n".join(lines)


def _size(loader: Any) -> int | None:
    try:
        return len(loader.dataset)
    except (AttributeError, TypeError):
        return None


def _loaders(dataset: Any, shuffle: bool, batch_size: int, num_workers: int) -> Any:
    if isinstance(dataset, Mapping):
        return {name: _loaders(item, shuffle, batch_size, num_workers) for name, item in dataset.items()}
    if not isinstance(dataset, Dataset) and isinstance(dataset, list | tuple):
        return [_loaders(item, shuffle, batch_size, num_workers) for item in dataset]
    shuffle = shuffle and not isinstance(dataset, IterableDataset)
    pin_memory = torch.accelerator.is_available()  # without one, torch warns of it
    return DataLoader(dataset, batch_size=batch_size, shuffle=shuffle, num_workers=num_workers, pin_memory=pin_memory)
