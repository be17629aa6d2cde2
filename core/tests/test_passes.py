"""Passes over loaders that are gone on with in their midst: in the same order, with what workers draw, without loading what was taken."""

import random
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    Sampler,
    TensorDataset,
    WeightedRandomSampler,
)

from lx.data import CombinedLoader
from lx.data.position import Passes, go_on, passes_over, place_of, reads_again, says_if_strayed
from lx.generators import generators_in, restore, states
from lx.kernel.errors import MisconfigurationException


class Noisy(Dataset[Tensor]):
    """Each sample is its number, and what three generators draw when it is loaded; it counts the loads."""

    def __init__(self, length: int = 20, own: Any = None) -> None:
        self.length, self.own, self.loaded = length, own, 0

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Tensor:
        self.loaded += 1
        drawn = [torch.rand(()).item(), random.random(), float(np.random.rand())]
        drawn += [] if self.own is None else [float(self.own.random())]
        return torch.tensor([index, *drawn], dtype=torch.float64)


class Backwards(Sampler[list[int]]):
    """Batches of a class of their own, the last samples first, in random lengths, drawn when they are asked for unless `at_once`."""

    def __init__(self, at_once: bool) -> None:
        self.at_once = at_once

    def __iter__(self) -> Iterator[list[int]]:
        left, sizes = list(range(20)), torch.randint(1, 4, (20,)).tolist() if self.at_once else None
        while left:
            size = sizes.pop() if sizes else int(torch.randint(1, 4, ()))
            yield [left.pop() for _ in range(min(size, len(left)))]


LOADERS: dict[str, Any] = {
    "in order": {"batch_size": 3},
    "shuffled": {"batch_size": 3, "shuffle": True},
    "shuffled, with a generator": {"batch_size": 3, "shuffle": True, "generator": torch.Generator().manual_seed(1)},
    "the last dropped": {"batch_size": 3, "shuffle": True, "drop_last": True},
    "drawn with weights": {"batch_size": 3, "sampler": WeightedRandomSampler([1.0] * 20, 20)},
    "more samples than there are": {"batch_size": 3, "sampler": RandomSampler(range(20), replacement=True, num_samples=31)},
    "batches of an own class": {"batch_sampler": Backwards(at_once=True)},
    "without batches": {"batch_size": None, "shuffle": True},
    "workers": {"batch_size": 3, "shuffle": True, "num_workers": 2},
    "workers that stay": {"batch_size": 3, "shuffle": True, "num_workers": 2, "persistent_workers": True},
    "workers without batches": {"batch_size": None, "shuffle": True, "num_workers": 1},
}


def seed(number: int) -> None:
    torch.manual_seed(number)
    random.seed(number)
    np.random.seed(number)


@pytest.mark.parametrize("kind", LOADERS)
@pytest.mark.parametrize("taken", [0, 1, 4])
def test_a_pass_goes_on_as_it_would_have(kind: str, taken: int) -> None:
    seed(3)
    passes = Passes(DataLoader(Noisy(), **LOADERS[kind]))
    for _ in passes:  # an earlier one, so that workers may stay
        torch.rand(1)
    torch.rand(5)
    batches = iter(passes)
    for _ in range(taken):
        next(batches)
        torch.rand(2)
    start, now = passes.start, states(passes.generators)
    following = list(batches)
    after = list(passes)

    seed(99)
    again = Passes(DataLoader(Noisy(), **LOADERS[kind]))
    rest = again.go_on(start, taken)
    restore(now, again.generators)
    assert [batch.tolist() for batch in rest] == [batch.tolist() for batch in following]
    assert [batch.tolist() for batch in again] == [batch.tolist() for batch in after], "the next pass, too"


@pytest.mark.parametrize("own", [random.Random(5), np.random.default_rng(5)], ids=["python", "numpy"])
def test_generators_of_a_data_set_are_part_of_it(own: Any) -> None:
    passes = Passes(DataLoader(Noisy(own=own), batch_size=4))
    batches = iter(passes)
    next(batches)
    now = states(passes.generators)
    rest = [batch.tolist() for batch in batches]
    other = type(own)(7) if isinstance(own, random.Random) else np.random.default_rng(7)
    again = Passes(DataLoader(Noisy(own=other), batch_size=4))
    resumed = again.go_on(passes.start, 1)
    restore(now, again.generators)
    assert [batch.tolist() for batch in resumed] == rest


@pytest.mark.parametrize("at_once", [True, False])
def test_an_order_that_does_not_come_again_is_noticed(at_once: bool) -> None:
    passes = Passes(DataLoader(range(20), batch_sampler=Backwards(at_once)))
    batches = iter(passes)
    for _ in range(4):
        next(batches)
        torch.rand(3)  # what training draws
    place = passes.place(4)
    assert place is not None
    again = Passes(DataLoader(range(20), batch_sampler=Backwards(at_once)))
    list(again.go_on(place, 4))
    assert again.strayed is not at_once
    if not at_once:
        with pytest.warns(UserWarning, match="Backwards drew another order than when the epoch began"):
            says_if_strayed(again, "replay")
        with pytest.raises(MisconfigurationException, match="Give it a generator of its own"):
            says_if_strayed(again, "refuse")


def test_nothing_that_was_taken_is_loaded() -> None:
    data = Noisy()
    passes = Passes(DataLoader(Noisy(), batch_size=4, shuffle=True))
    next(iter(passes))
    again = Passes(DataLoader(data, batch_size=4, shuffle=True))
    assert len(list(again.go_on(passes.start, 4))) == 1
    assert data.loaded == 4


def test_a_million_batches_are_sought_in_less_than_a_second() -> None:
    loader = DataLoader(TensorDataset(torch.zeros(1_000_010)), batch_size=1, shuffle=True)
    passes = Passes(loader)
    next(iter(passes))
    begins = time.process_time()
    next(Passes(loader).go_on(passes.start, 1_000_000))
    assert time.process_time() - begins < 1


def test_numbered_batches_draw_apart_and_each_generator_for_itself() -> None:
    seed(0)
    rows = torch.cat(list(Passes(DataLoader(Noisy(), batch_size=1, num_workers=2))))
    drawn = rows[:, 1:].flatten().tolist()
    assert len(set(drawn)) == len(drawn)


def test_workers_find_the_data_set_of_the_user() -> None:
    def remember(worker_id: int) -> None:
        info = torch.utils.data.get_worker_info()
        assert info is not None
        assert type(info.dataset) is Noisy
        info.dataset.length = 7  # as users do who share data out to workers

    loader = DataLoader(Noisy(), batch_size=1, num_workers=1, worker_init_fn=remember)
    assert len(list(Passes(loader))) == 20


def test_one_pass_over_a_loader_draws_no_more_than_the_loader_itself() -> None:
    loader = DataLoader(Noisy(), batch_size=3, shuffle=True)
    seed(1)
    plain, after = [batch.tolist() for batch in loader], torch.rand(1)
    seed(1)
    assert [batch.tolist() for batch in Passes(loader)] == plain
    assert torch.equal(torch.rand(1), after)


@pytest.mark.parametrize("mode", ["min_size", "max_size", "max_size_cycle"])
@pytest.mark.parametrize("taken", range(7))
def test_combined_loaders_each_go_on(mode: str, taken: int) -> None:
    def both() -> Any:
        return passes_over(
            CombinedLoader(
                {"a": DataLoader(range(12), batch_size=2, shuffle=True), "b": DataLoader(range(5), batch_size=2, shuffle=True)}, mode
            )
        )

    def plain(row: Any) -> Any:
        return {key: None if value is None else value.tolist() for key, value in row[0].items()}

    seed(taken)
    combined = both()
    batches = iter(combined)
    taken = min(taken, len(combined))
    for _ in range(taken):
        next(batches)
        torch.rand(1)
    places, now = place_of(combined, taken), states([])
    rest = [plain(row) for row in batches]
    seed(77)
    again = both()
    resumed = go_on(again, places, taken)
    restore(now, [])
    assert [plain(row) for row in resumed] == rest


class Stream(IterableDataset[int]):
    def __iter__(self) -> Iterator[int]:
        return iter(range(10))


@pytest.mark.parametrize("loader", [DataLoader(Stream(), batch_size=2), [1, 2, 3, 4]], ids=["a stream", "a list"])
def test_what_cannot_seek_is_read_again(loader: Any) -> None:
    passes = Passes(loader)
    whole = list(passes)
    assert [str(batch) for batch in passes.go_on(passes.start, 2)] == [str(batch) for batch in whole[2:]]
    assert passes.seekable == isinstance(loader, list)


def test_generators_are_found_where_they_are_held() -> None:
    class Part:
        def __init__(self, held: Any) -> None:
            self.held = held

    first, second, third = torch.Generator(), random.Random(1), np.random.default_rng(1)
    ring = Part(None)
    ring.held = [ring, Part({"x": third}), first]
    assert generators_in([Part((second, second)), ring]) == [second, third, first]


@pytest.mark.parametrize(
    "make",
    [
        lambda: torch.Generator().manual_seed(1),
        lambda: random.Random(1),
        lambda: np.random.default_rng(1),
        lambda: np.random.RandomState(1),
    ],
)
def test_every_kind_of_generator_is_put_back(make: Any) -> None:
    generator = make()

    def draw() -> float:
        if isinstance(generator, torch.Generator):
            return float(torch.rand((), generator=generator))
        return float(generator.normal()) if hasattr(generator, "normal") else float(generator.gauss(0, 1))

    draw()
    state = states([generator])
    first = [draw() for _ in range(3)]
    restore(state, [generator])
    assert [draw() for _ in range(3)] == first


def test_indices_are_kept_for_whoever_asks() -> None:
    passes = Passes(DataLoader(range(7), batch_size=3, shuffle=True, num_workers=1))
    kept = passes.keep_indices()
    assert kept is not None
    for batch in passes:
        assert kept.popleft() == batch.tolist()
    assert not kept
    assert Passes([1, 2]).keep_indices() is None


def test_batch_samplers_of_torch_are_sought_by_samples() -> None:
    passes = Passes(DataLoader(range(11), batch_sampler=BatchSampler(RandomSampler(range(11)), 3, drop_last=True)))
    whole = [batch.tolist() for batch in passes]
    assert [batch.tolist() for batch in passes.go_on(passes.start, 2)] == whole[2:]


def test_a_policy_that_refuses() -> None:
    with pytest.raises(MisconfigurationException, match=r"Stream cannot go on after 5 batches.*unseekable_data='replay'"):
        reads_again(Passes(DataLoader(Stream())), 5, "refuse")
    reads_again(Passes([1]), 5, "refuse")
