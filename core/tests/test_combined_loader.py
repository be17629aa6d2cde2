"""Several loaders iterated as one, in each mode and under limits."""

import math
from collections import OrderedDict, namedtuple
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

from lx.data import CombinedLoader
from lx.data.combined import combine, is_collection, length_of, set_epochs

SHORT, LONG = [1, 2, 3], [10, 20, 30, 40, 50]

ROWS = {
    ("min_size", None): [[1, 10], [2, 20], [3, 30]],
    ("min_size", 2): [[1, 10], [2, 20]],
    ("min_size", (1, 3)): [[1, 10]],
    ("max_size", None): [[1, 10], [2, 20], [3, 30], [None, 40], [None, 50]],
    ("max_size", 2): [[1, 10], [2, 20]],
    ("max_size", (1, 3)): [[1, 10], [None, 20], [None, 30]],
    ("max_size", (0, 2)): [[None, 10], [None, 20]],
    ("max_size_cycle", None): [[1, 10], [2, 20], [3, 30], [1, 40], [2, 50]],
    ("max_size_cycle", 2): [[1, 10], [2, 20]],
    ("max_size_cycle", (2, 4)): [[1, 10], [2, 20], [1, 30], [2, 40]],
    ("max_size_cycle", (3, 1)): [[1, 10], [2, 10], [3, 10]],
    ("max_size_cycle", (0, 2)): [[None, 10], [None, 20]],
    ("max_size_cycle", 0): [],
}


@pytest.mark.parametrize(("mode", "limits"), ROWS)
def test_loaders_are_iterated_together_and_as_many_rows_come_as_the_length_says(mode: str, limits: Any) -> None:
    combined = CombinedLoader([SHORT, LONG], mode)
    combined.limits = limits
    expected = [(row, index, 0) for index, row in enumerate(ROWS[mode, limits])]
    assert list(combined) == expected
    assert list(combined) == expected  # as often as one likes
    assert len(combined) == len(expected)


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        (None, [(1, 0, 0), (2, 1, 0), (3, 2, 0), (10, 0, 1), (20, 1, 1), (30, 2, 1), (40, 3, 1), (50, 4, 1)]),
        (2, [(1, 0, 0), (2, 1, 0), (10, 0, 1), (20, 1, 1)]),
        ([0, 1], [(10, 0, 1)]),
        ([math.inf, 1], [(1, 0, 0), (2, 1, 0), (3, 2, 0), (10, 0, 1)]),
    ],
)
def test_one_after_the_other_counts_anew_for_each_loader(limits: Any, expected: list[Any]) -> None:
    combined = CombinedLoader([SHORT, LONG], "sequential")
    combined.limits = limits
    assert list(combined) == expected
    assert len(combined) == len(expected)


class Counts:
    """A loader that notes how many batches were taken from it, and how often it was started."""

    def __init__(self, size: int) -> None:
        self.size, self.taken, self.started = size, 0, 0

    def __len__(self) -> int:
        return self.size

    def __iter__(self) -> Any:
        self.started += 1
        return self.take()

    def take(self) -> Any:
        for index in range(self.size):
            self.taken += 1
            yield index


@pytest.mark.parametrize("mode", ["min_size", "max_size", "sequential"])
def test_no_batch_is_fetched_beyond_a_limit_and_no_loader_started_for_none(mode: str) -> None:
    one, two = Counts(5), Counts(5)
    combined = CombinedLoader([one, two], mode)
    combined.limits = [2, 2]
    list(combined)
    assert (one.taken, two.taken) == (2, 2)
    combined.limits = [0, 0]
    assert list(combined) == []
    assert (one.started, two.started) == (1, 1)


def test_an_empty_loader_among_others() -> None:
    assert [row for row, _, _ in CombinedLoader([Counts(0), SHORT], "min_size")] == []
    assert [row for row, _, _ in CombinedLoader([Counts(0), [1, 2]], "max_size")] == [[None, 1], [None, 2]]
    for empty in ([Counts(0), Counts(2)], [Counts(2), Counts(0)]):
        rows = [row for row, _, _ in CombinedLoader(empty, "max_size_cycle")]
        assert [sorted(map(str, row)) for row in rows] == [["0", "None"], ["1", "None"]]
    for mode in ("min_size", "max_size", "max_size_cycle", "sequential"):
        assert list(CombinedLoader([Counts(0), Counts(0)], mode)) == []


Pair = namedtuple("Pair", "a b")


@pytest.mark.parametrize(
    ("collection", "first"),
    [
        (Pair([1, 2], [3, 4]), Pair(1, 3)),
        ((range(2), range(3)), (0, 0)),
        (OrderedDict(a=Counts(2), b=Counts(3)), {"a": 0, "b": 0}),
        ({"x": [range(2), range(3)], "y": range(4)}, {"x": [0, 0], "y": 0}),
        (range(5, 8), 5),
        ([[(0.0, 1), (1.0, 2)], range(3)], [(0.0, 1), 0]),
        ({"a": [(0.0, 1), (1.0, 2)], "b": [range(3)]}, {"a": (0.0, 1), "b": [0]}),
    ],
    ids=["named tuple", "tuple", "mapping", "nested", "one loader", "a list of batches in a list", "a list of batches in a mapping"],
)
def test_a_batch_has_the_shape_of_the_collection(collection: Any, first: Any) -> None:
    batch, index, place = next(iter(CombinedLoader(collection)))
    assert (batch, index, place) == (first, 0, 0)
    assert type(batch) is (dict if isinstance(collection, dict) else type(first))


def test_what_is_a_collection_of_loaders_and_what_is_one_loader() -> None:
    loader = DataLoader(range(2))
    for collection in (
        [loader, loader],
        {"a": loader},
        [[1, 2], [3, 4]][:0],
        Pair(loader, [loader]),
        [range(2)],
        [[torch.ones(1)], loader],
    ):
        assert is_collection(collection)
    for one in (loader, range(2), [1, 2], ["a", "b"], [(1, torch.ones(1))], [{"x": torch.ones(1)}], torch.ones(2), Counts(1)):
        assert not is_collection(one)


def test_what_was_given_for_loaders_is_combined() -> None:
    ready = CombinedLoader([SHORT], "min_size")
    assert combine(ready, "sequential") is ready
    loader = DataLoader(range(2))
    for given, flat in ((loader, [loader]), ([loader, SHORT], [loader, SHORT]), (SHORT, [SHORT]), ([[1, 2], [3, 4]], [[[1, 2], [3, 4]]])):
        assert combine(given, "max_size").flattened == flat
    assert list(combine([(1, 2), (3, 4)], "sequential")) == [((1, 2), 0, 0), ((3, 4), 1, 0)]


def test_an_unknown_mode_is_refused() -> None:
    with pytest.raises(ValueError, match="mode='longest'; it must be one of min_size, max_size_cycle, max_size, sequential"):
        CombinedLoader([], "longest")


def test_limits_are_one_for_all_or_one_for_each() -> None:
    combined = CombinedLoader({"a": SHORT, "b": [Counts(5), LONG]})
    assert combined.limits is None
    combined.limits = 2
    assert combined.limits == [2, 2, 2]
    combined.limits = (1, 2, math.inf)
    assert combined.limits == [1, 2, math.inf]
    assert combined.lengths() == [1, 2, 5]
    with pytest.raises(ValueError, match="2 limits for 3 loaders"):
        combined.limits = [1, 2]
    combined.limits = None
    assert combined.lengths() == [3, 5, 5]


def test_loaders_can_be_replaced_by_as_many_others() -> None:
    loader = Counts(2)
    combined = CombinedLoader({"a": SHORT, "b": (loader, LONG)})
    assert combined.flattened == [SHORT, loader, LONG]
    combined.flattened = [range(1), range(2), range(3)]
    assert combined.iterables == {"a": range(1), "b": (range(2), range(3))}
    with pytest.raises(ValueError, match="1 loaders cannot replace 3"):
        combined.flattened = [range(1)]


class Endless:
    def __iter__(self) -> Any:
        return iter(int, 1)


def test_a_loader_without_a_length_has_one_only_under_a_limit() -> None:
    assert (length_of(Endless()), length_of(SHORT)) == (math.inf, 3)
    for mode, length in (("min_size", 3), ("max_size", None), ("max_size_cycle", None), ("sequential", None)):
        combined = CombinedLoader([SHORT, Endless()], mode)
        if length is None:
            with pytest.raises(TypeError, match="has no length"):
                len(combined)
        else:
            assert len(combined) == length
    combined.limits = [9, 2]
    assert len(combined) == 5
    assert len(list(combined)) == 5


def test_samplers_are_read_in_the_shape_of_the_collection() -> None:
    one, two = DataLoader(range(2)), DataLoader(range(3), shuffle=True)
    combined = CombinedLoader({"a": one, "b": [two, SHORT]})
    assert combined.sampler == {"a": one.sampler, "b": [two.sampler, None]}
    assert combined.batch_sampler == {"a": one.batch_sampler, "b": [two.batch_sampler, None]}


class Stateful(Counts):
    def __init__(self, size: int, place: int = 0) -> None:
        super().__init__(size)
        self.place = place

    def state_dict(self) -> dict[str, int]:
        return {"place": self.place}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.place = state["place"]


def test_loaders_with_a_state_are_saved_and_restored_in_order() -> None:
    states = CombinedLoader([Stateful(2, 5), SHORT, {"x": Stateful(2, 7)}]).state_dict()
    assert states == [{"place": 5}, {"place": 7}]
    one, two = Stateful(2), Stateful(2)
    combined = CombinedLoader({"a": one, "b": two, "c": LONG})
    combined.load_state_dict(states)
    assert (one.place, two.place) == (5, 7)
    with pytest.raises(RuntimeError, match="the states of 1 loaders, and 2 loaders here have one"):
        combined.load_state_dict(states[:1])


def test_reset_ends_the_workers_of_all_loaders() -> None:
    loader = DataLoader(range(2), num_workers=1, persistent_workers=True)
    combined = CombinedLoader([loader, SHORT])
    assert len(list(combined)) == 2
    (worker,) = loader._iterator._workers
    assert worker.is_alive()
    combined.reset()
    assert not worker.is_alive()
    assert len(list(combined)) == 2


def test_samplers_of_all_loaders_are_told_the_epoch() -> None:
    class Notes(torch.utils.data.SequentialSampler):
        epoch = None

        def set_epoch(self, epoch: int) -> None:
            self.epoch = epoch

    samplers = [Notes(range(2)), Notes(range(2)), Notes(range(2))]
    loaders = [DataLoader(range(2), sampler=sampler) for sampler in samplers]
    set_epochs(CombinedLoader([loaders[0], {"x": loaders[1]}, SHORT]), 3)
    set_epochs(loaders[2], 4)
    set_epochs(SHORT, 5)
    assert [sampler.epoch for sampler in samplers] == [3, 3, 4]
