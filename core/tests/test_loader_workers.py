"""What is said about the workers of a loader, and what is not worth a word; and that workers draw differently."""

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

import lx.rng
from lx.data import workers
from lx.data.source import LoaderSetup
from lx.rank_zero import PossibleUserWarning
from lx.testing import FakeStrategy


class Files(Dataset[int]):
    """Samples that must be fetched from somewhere."""

    def __init__(self, length: int = 1000) -> None:
        self.length = length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> int:
        return index


class Stream(IterableDataset[int]):
    def __iter__(self) -> Any:
        return iter(range(3))


def said(loader: Any, cores: int, monkeypatch: pytest.MonkeyPatch, *, processes: int = 1, reloads: bool = False) -> list[str]:
    monkeypatch.setattr(workers, "available_cores", lambda: cores)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        workers.warn_of_workers(loader, "train", processes, reloads)
    assert all(warning.category is PossibleUserWarning for warning in caught)
    return [str(warning.message) for warning in caught]


@pytest.mark.parametrize(("cores", "few", "processes", "most"), [(3, 0, 1, 2), (8, 1, 1, 7), (64, 0, 8, 7), (64, 1, 1, 63)])
def test_too_few_workers_come_with_a_number(cores: int, few: int, processes: int, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    (message,) = said(DataLoader(Files(), num_workers=few), cores, monkeypatch, processes=processes)
    assert f"the train loader has {few} worker(s)" in message
    assert f"cores for num_workers={most}." in message
    assert said(DataLoader(Stream(), num_workers=few), cores, monkeypatch, processes=processes)


def test_workers_that_would_gain_nothing_are_not_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    for loader in (
        DataLoader(Files(), num_workers=2),
        DataLoader(Files(99)),
        DataLoader(TensorDataset(torch.zeros(1000))),
        DataLoader(torch.zeros(1000)),  # type: ignore[arg-type]
        DataLoader(list(range(1000))),  # type: ignore[arg-type]
    ):
        assert said(loader, 64, monkeypatch) == []
    assert said(DataLoader(Files()), 2, monkeypatch) == []
    assert said(DataLoader(Files()), 8, monkeypatch, processes=4) == []


def test_workers_that_are_spawned_anew_for_each_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    (message,) = said(DataLoader(Files(9), num_workers=1, multiprocessing_context="spawn"), 2, monkeypatch)
    assert "the train loader spawns its 1 worker(s) anew for each pass" in message
    assert said(DataLoader(Files(9), num_workers=1, multiprocessing_context="spawn", persistent_workers=True), 2, monkeypatch) == []
    assert said(DataLoader(Files(9), num_workers=1, multiprocessing_context="fork"), 2, monkeypatch) == []
    monkeypatch.setattr("torch.multiprocessing.get_start_method", lambda allow_none: "spawn")
    assert said(DataLoader(Files(9), num_workers=1), 2, monkeypatch)
    assert said(DataLoader(Files(9)), 2, monkeypatch) == []


def test_memory_that_stays_pinned_when_loaders_are_made_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    both = DataLoader(Files(9), num_workers=1, persistent_workers=True, pin_memory=True)
    (message,) = said(both, 2, monkeypatch, reloads=True)
    assert "may never be freed. Pass pin_memory=False or persistent_workers=False." in message
    assert said(both, 2, monkeypatch) == []
    assert said(DataLoader(Files(9), num_workers=1, persistent_workers=True), 2, monkeypatch, reloads=True) == []


def test_a_run_looks_at_its_loaders(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "available_cores", lambda: 9)
    with pytest.warns(PossibleUserWarning, match="the val loader has 0 worker"):
        LoaderSetup(FakeStrategy(), True, False, False).evaluation(DataLoader(Files()), "val")


# -- seeds -------------------------------------------------------------------------------------------------------------------


class Augmented(Dataset[Any]):
    """Each sample is what three generators draw for it."""

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> Any:
        return torch.rand(()).item(), np.random.rand()


def drawn(monkeypatch: pytest.MonkeyPatch, *, rank: int = 0, seed: int = 7) -> list[list[float]]:
    """What two workers draw in two epochs, for each generator and epoch."""
    monkeypatch.setattr("lx.rank_zero.rank_zero_only.rank", rank)
    lx.rng.seed_everything(seed, workers=True, verbose=False)
    loader = LoaderSetup(FakeStrategy(), True, False, False).train(DataLoader(Augmented(), num_workers=2, batch_size=1))
    epochs = [[tuple(part.item() for part in batch) for batch in loader] for _ in range(2)]
    return [[sample[place] for sample in epoch] for epoch in epochs for place in (0, 1)]


def test_augmentations_differ_between_workers_epochs_and_ranks_and_repeat_with_the_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (lx.rng.SEED_VARIABLE, lx.rng.WORKERS_VARIABLE):
        monkeypatch.setenv(name, "0")
    with lx.rng.isolate_rng():
        first, again, other = drawn(monkeypatch), drawn(monkeypatch), drawn(monkeypatch, rank=1)
    values = [value for part in first + other for value in part]
    assert len(set(values)) == len(values) == 32
    assert first == again
