"""Where loaders come from, how they are made ready for a run, and the batches of an iterator."""

import math
import os
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, SequentialSampler

import lx.rng
from lx import LightningDataModule, LightningModule
from lx.data import CombinedLoader, batch_indices
from lx.data.samplers import ShareSampler
from lx.data.source import Batches, LoaderSetup, Source, check_loaders
from lx.interfaces.strategy import StrategyCapabilities
from lx.kernel.errors import MisconfigurationException
from lx.rank_zero import PossibleUserWarning
from lx.testing import FakeDistributedStrategy, FakeStrategy, TinyDataModule


@pytest.fixture(autouse=True)
def unseeded(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (lx.rng.SEED_VARIABLE, lx.rng.WORKERS_VARIABLE):
        monkeypatch.delenv(name, raising=False)


def setup(strategy: Any = None, *, samples: bool = True, overfits: bool = False, allow_empty: bool = False) -> LoaderSetup:
    return LoaderSetup(strategy or FakeStrategy(), samples, overfits, allow_empty)


def rows(loader: Any) -> list[Any]:
    return [batch.tolist() if isinstance(batch, torch.Tensor) else batch for batch in loader]


# -- where they come from ----------------------------------------------------------------------------------------------------


class Has(LightningModule):
    def train_dataloader(self) -> Any:
        return ["of the module"]


def test_what_was_passed_ranks_over_the_hooks() -> None:
    source = Source(Has(), None, {"train": "passed", "val": None})
    assert (source.has("train"), source.request("train")) == (True, "passed")
    assert not source.has("val")
    assert not source.has("test")


def test_hooks_are_asked_of_the_data_module_alone_where_there_is_one() -> None:
    assert (Source(Has(), None, {}).has("train"), Source(Has(), None, {}).request("train")) == (True, ["of the module"])
    source = Source(Has(), LightningDataModule(), {})
    assert not source.has("train")
    assert len(Source(Has(), TinyDataModule(), {}).request("train")) == 4
    module = LightningModule()
    module.val_dataloader = lambda: ["of the instance"]
    assert (Source(module, None, {}).has("val"), Source(module, None, {}).request("val")) == (True, ["of the instance"])


# -- training ----------------------------------------------------------------------------------------------------------------


def test_one_loader_stays_one_and_a_collection_cycles_the_shorter() -> None:
    loader = DataLoader(range(2))
    assert setup().train(loader) is loader
    assert setup().train([1, 2]) == [1, 2]
    combined = setup().train({"a": loader, "b": DataLoader(range(3))})
    assert (type(combined), combined.mode, len(combined)) == (CombinedLoader, "max_size_cycle", 3)
    own = CombinedLoader([[1], [2, 3]], "min_size")
    assert setup().train(own) is own


def test_an_evaluation_goes_through_its_loaders_one_after_the_other() -> None:
    loader = DataLoader(range(2))
    for given in (loader, [loader]):
        combined = setup().evaluation(given, "val")
        assert (combined.mode, combined.flattened) == ("sequential", [loader])
    assert setup().evaluation([(1, 2), (3, 4)], "val").flattened == [[(1, 2), (3, 4)]]
    own = CombinedLoader([[1], [2, 3]], "max_size")
    assert setup().evaluation(own, "test") is own


@pytest.mark.parametrize(
    ("given", "prefix", "error", "message"),
    [
        (3, "train", TypeError, "here: it must be an iterable of batches"),
        ([DataLoader(range(2)), None], "val", TypeError, "here: .* not None"),
        ("rows", "val", TypeError, "not 'rows'"),
        (DataLoader, "val", TypeError, "DataLoader is a class"),
        (CombinedLoader([[1]], "sequential"), "train", ValueError, "cannot have mode='sequential'"),
        (CombinedLoader([[1]], "min_size"), "predict", ValueError, "mode='sequential' only, not mode='min_size'"),
    ],
)
def test_loaders_that_a_stage_cannot_have_are_refused(given: Any, prefix: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        check_loaders(given, prefix, "here")


def test_loaders_that_a_stage_can_have_pass() -> None:
    for given, prefix in (([1, 2], "train"), ({"a": range(2)}, "train"), (CombinedLoader([[1]], "sequential"), "predict")):
        check_loaders(given, prefix, "here")


# -- order -------------------------------------------------------------------------------------------------------------------


def test_overfitting_iterates_a_shuffling_loader_in_order() -> None:
    loader = DataLoader(range(4), batch_size=2, shuffle=True)
    with pytest.warns(UserWarning, match="overfit_batches: the train loader shuffles"):
        assert rows(setup(overfits=True).train(loader)) == [[0, 1], [2, 3]]
    with pytest.warns(UserWarning, match="overfit_batches: the val loader shuffles"):
        (ready,) = setup(overfits=True).evaluation(loader, "val").flattened
    assert rows(ready) == [[0, 1], [2, 3]]
    straight = DataLoader(range(4))
    assert setup(overfits=True).train(straight) is straight


def test_an_evaluation_of_a_shuffling_loader_is_warned_of_and_left_alone() -> None:
    loader = DataLoader(range(4), shuffle=True)
    with pytest.warns(PossibleUserWarning, match="the test loader shuffles"):
        assert setup().evaluation(loader, "test").flattened == [loader]
    with pytest.warns(PossibleUserWarning, match="the predict loader shuffles"):
        setup(overfits=True).evaluation(loader, "predict")
    assert setup().train(loader) is loader


class Samples(Dataset[int]):
    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> int:
        return range(2)[index]


def test_a_data_set_without_a_loader_is_warned_of() -> None:
    with pytest.warns(PossibleUserWarning, match="the train loader is a data set"):
        setup().train(Samples())


# -- shares ------------------------------------------------------------------------------------------------------------------


def test_each_process_gets_its_share_padded_but_for_predictions() -> None:
    second = FakeDistributedStrategy(2, 1)
    assert rows(setup(second).train(DataLoader(range(5)))) == [[1], [3], [0]]
    with pytest.warns(PossibleUserWarning, match="shared out over 2 processes"):
        (val,) = setup(second).evaluation(DataLoader(range(5)), "val").flattened
    assert rows(val) == [[1], [3], [0]]
    (predict,) = setup(second).evaluation(DataLoader(range(5)), "predict").flattened
    assert rows(predict) == [[1], [3]]


def test_the_order_of_a_share_follows_the_seed_of_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    def drawn(seed: str | None) -> list[Any]:
        if seed is not None:
            monkeypatch.setenv(lx.rng.SEED_VARIABLE, seed)
        return rows(setup(FakeDistributedStrategy(2, 0)).train(DataLoader(range(40), shuffle=True)))

    assert drawn(None) == drawn("0")
    assert drawn("0") != drawn("1")


def test_shares_are_left_to_the_user_where_asked_or_already_done() -> None:
    loader = DataLoader(range(4))
    assert setup(FakeDistributedStrategy(2, 1), samples=False).train(loader) is loader
    assert setup(FakeStrategy(2, 1)).train(loader) is loader  # declares no several processes
    shared = setup(FakeDistributedStrategy(2, 1)).train(loader)
    assert isinstance(shared.sampler, ShareSampler)
    assert setup(FakeDistributedStrategy(2, 1)).train(shared) is shared

    class Stream(IterableDataset[int]):
        def __iter__(self) -> Iterator[int]:
            return iter(range(2))

    stream = DataLoader(Stream())
    assert setup(FakeDistributedStrategy(2, 1)).train(stream) is stream


def test_every_loader_of_a_collection_is_shared_out() -> None:
    combined = setup(FakeDistributedStrategy(2, 1)).train([DataLoader(range(4)), DataLoader(range(2))])
    assert [rows(loader) for loader in combined.flattened] == [[[1], [3]], [[1]]]


def test_workers_are_seeded_where_the_program_asked_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    own = DataLoader(range(2), worker_init_fn=print)
    assert setup().train(DataLoader(range(2))).worker_init_fn is None
    monkeypatch.setitem(os.environ, lx.rng.WORKERS_VARIABLE, "1")
    assert setup().train(DataLoader(range(2))).worker_init_fn is lx.rng.worker_init_function
    assert setup().train(own).worker_init_fn is print


# -- counting ----------------------------------------------------------------------------------------------------------------


def test_batches_are_counted_under_the_limit() -> None:
    assert setup().count(range(10), "limit_train_batches", 0.5) == 5
    assert setup().count(range(10), "limit_train_batches", 3) == 3
    assert setup().count(iter([]), "limit_train_batches", 1.0) == math.inf
    with pytest.raises(MisconfigurationException, match="limit_train_batches"):
        setup().count(range(3), "limit_train_batches", 0.1)
    with pytest.warns(UserWarning, match=r"no batches \(limit_val_batches"):
        assert setup().count([], "limit_val_batches", 1.0) == 0


class OtherHasSome(FakeStrategy):
    """One of two processes, of which the other has batches."""

    capabilities = StrategyCapabilities(distributed=True)

    def reduce_boolean_decision(self, decision: bool, **how: bool) -> bool:
        return how == {"all": False}


@pytest.mark.filterwarnings("ignore:a loader has no batches")
def test_an_empty_loader_beside_full_ones_would_wait_forever() -> None:
    with pytest.raises(RuntimeError, match="the loader of this process is empty, and that of another is not"):
        setup(OtherHasSome()).count([], "limit_train_batches", 1.0)
    assert setup(OtherHasSome(), allow_empty=True).count([], "limit_train_batches", 1.0) == 0
    assert setup(FakeDistributedStrategy(2, 0)).count([], "limit_train_batches", 1.0) == 0  # all are empty


# -- batches -----------------------------------------------------------------------------------------------------------------


def walk(batches: Batches) -> list[tuple[int, Any, bool]]:
    return [(index, batch, index == batches.last) for index, batch in batches]


@pytest.mark.parametrize("sized", [True, False])
def test_the_last_batch_is_known_when_it_comes(sized: bool) -> None:
    assert walk(Batches(iter("abc"), 3, sized=sized)) == [(0, "a", False), (1, "b", False), (2, "c", True)]
    assert walk(Batches(iter("abc"), 2, sized=sized)) == [(0, "a", False), (1, "b", True)]
    assert walk(Batches(iter("abc"), 0, sized=sized)) == []
    assert walk(Batches(iter(""), 3, sized=sized)) == []


def test_an_end_that_nobody_announced_is_seen_one_batch_ahead() -> None:
    assert walk(Batches(iter("ab"), math.inf)) == [(0, "a", False), (1, "b", True)]
    assert walk(Batches(iter("ab"), 5, sized=False)) == [(0, "a", False), (1, "b", True)]
    assert walk(Batches(iter([None, None]), math.inf, sized=False)) == [(0, None, False), (1, None, True)]


def test_indices_go_on_where_an_epoch_was_left() -> None:
    assert walk(Batches(iter("abcd"), 4, start=2)) == [(2, "a", False), (3, "b", True)]
    assert walk(Batches(iter("ab"), math.inf, sized=False, start=2)) == [(2, "a", False), (3, "b", True)]
    assert walk(Batches(iter("ab"), 2, start=2)) == walk(Batches(iter("ab"), 2, sized=False, start=2)) == []


def test_no_batch_is_fetched_that_is_not_used() -> None:
    fetched: list[int] = []

    def fetch() -> Iterator[int]:
        for index in range(9):
            fetched.append(index)
            yield index

    assert next(iter(Batches(fetch(), 9))) == (0, 0)
    assert fetched == [0]
    fetched.clear()
    assert next(iter(Batches(fetch(), math.inf, sized=False))) == (0, 0)
    assert fetched == [0, 1]
    for sized in (True, False):
        fetched.clear()
        walk(Batches(fetch(), 2, sized=sized))
        assert fetched == [0, 1]


def test_samplers_of_shared_loaders_are_the_users_inside() -> None:
    loader = DataLoader(range(4), sampler=SequentialSampler(range(4)))
    assert setup(FakeDistributedStrategy(2, 1)).train(loader).sampler.sampler is loader.sampler


# -- indices -----------------------------------------------------------------------------------------------------------------


def test_a_loader_to_predict_tells_the_indices_of_its_batches_where_it_draws_any() -> None:
    loader = DataLoader(range(10, 15), batch_size=2)  # type: ignore[arg-type, var-annotated]
    (ready,) = setup().evaluation(loader, "predict").flattened
    assert ready is not loader
    assert rows(ready) == rows(loader)  # whether or not anybody asks
    indices = batch_indices(ready)
    assert rows(ready) == rows(loader)
    assert list(indices or ()) == [[0, 1], [2, 3], [4]]
    assert batch_indices(loader) is None
    assert batch_indices([1, 2]) is None
    assert (len(ready), ready.batch_size, ready.batch_sampler.drop_last) == (3, 2, False)
