"""Samplers and batch samplers as people write them: shared out over processes, or refused with what to do about it."""

from collections.abc import Iterator
from itertools import count, islice
from typing import Any

import pytest
import torch
from torch.utils.data import BatchSampler, DataLoader, Sampler, SequentialSampler

from lx.data.samplers import ShareSampler, distribute
from lx.kernel.errors import MisconfigurationException


def batches(loader: Any) -> list[Any]:
    return [batch.tolist() for batch in loader]


def shared(batch_sampler: Any, rows: int = 8) -> list[list[Any]]:
    return [batches(distribute(DataLoader(range(rows), batch_sampler=batch_sampler), 2, rank)) for rank in (0, 1)]


# -- samplers without a length -----------------------------------------------------------------------------------------------


class Stream(Sampler[int]):
    """Draws at random, and says not how often."""

    def __init__(self, length: int | None) -> None:
        self.length = length
        self.drawn = 0

    def __iter__(self) -> Iterator[int]:
        for _ in count() if self.length is None else range(self.length):
            self.drawn += 1
            yield int(torch.randint(0, 1000, ()))


def test_an_endless_sampler_is_drawn_from_as_needed_and_alike_on_every_rank() -> None:
    source = Stream(None)
    taken = []
    for rank in (0, 1):
        iterator = iter(ShareSampler(source, 2, rank))
        taken.append([])
        for item in islice(iterator, 200):
            torch.rand(rank + 1)  # training draws on every rank, and not alike
            taken[-1].append(item)
    assert source.drawn < 1200
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        expected = list(islice(Stream(None), 400))
    assert [taken[0], taken[1]] == [expected[::2], expected[1::2]]


def test_drawing_as_needed_leaves_the_programs_random_numbers_alone() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        expected = torch.rand(1)
        torch.manual_seed(5)
        list(ShareSampler(Stream(300), 2, 0))
        assert torch.rand(1) == expected


@pytest.mark.parametrize("length", [0, 1, 127, 128, 129, 301])
def test_shares_of_an_unknown_number_are_equally_long_unless_padding_is_off(length: int) -> None:
    def drawn(pad: bool) -> list[list[int]]:
        return [list(ShareSampler((index for index in range(length)), 2, rank, pad=pad)) for rank in (0, 1)]

    first, second = drawn(True)
    assert len(first) == len(second) == -(-length // 2)
    assert set(first) | set(second) == set(range(length))
    assert [item for part in drawn(False) for item in part] == [*range(0, length, 2), *range(1, length, 2)]


def test_plain_lists_are_samplers_too() -> None:
    loader = DataLoader(range(10), sampler=[9, 7, 5], batch_size=2)  # type: ignore[arg-type, var-annotated]
    assert [batches(distribute(loader, 2, rank)) for rank in (0, 1)] == [[[9, 5]], [[7, 9]]]


# -- batch samplers ----------------------------------------------------------------------------------------------------------


class Pairs:
    """No BatchSampler at all; its arguments are kept under other names, and one is not kept."""

    __slots__ = ("reverses", "sampler")

    def __init__(self, rows: int, flip: bool) -> None:
        self.sampler = SequentialSampler(range(rows))
        self.reverses = flip

    def __iter__(self) -> Iterator[list[int]]:
        items = list(self.sampler)
        for place in range(0, len(items), 2):
            yield items[place : place + 2][:: -1 if self.reverses else 1]

    def __len__(self) -> int:
        return (len(self.sampler) + 1) // 2


def test_a_batch_sampler_of_any_class_is_shared_by_its_sampler() -> None:
    assert shared(Pairs(8, True)) == [[[2, 0], [6, 4]], [[3, 1], [7, 5]]]


class Cached(BatchSampler):
    """Its length was read when it was made."""

    def __init__(self, rows: int) -> None:
        super().__init__(SequentialSampler(range(rows)), 2, drop_last=False)
        self.length = len(self.sampler) // 2

    def __len__(self) -> int:
        return self.length


def test_a_length_that_does_not_follow_the_share_is_refused_with_both_numbers() -> None:
    with pytest.raises(MisconfigurationException, match=r"Cached says that it has 4 batches, and has 2 of .* len\(self\.sampler\)"):
        shared(Cached(8))


class Fixed(Cached):
    """So many batches, whatever the sampler gives."""

    def __iter__(self) -> Iterator[list[int]]:
        for _ in range(len(self)):
            yield list(self.sampler)[:2]


def test_a_length_of_its_own_that_is_true_of_a_share_is_taken() -> None:
    assert shared(Fixed(8)) == [[[0, 2]] * 4, [[1, 3]] * 4]


class Prepared(BatchSampler):
    """Makes its batches in advance."""

    def __init__(self, rows: int) -> None:
        super().__init__(SequentialSampler(range(rows)), 2, drop_last=False)
        self.batches = [[index] for index in range(rows)]

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self.batches)


def test_batches_that_were_made_in_advance_are_refused() -> None:
    with pytest.raises(MisconfigurationException, match=r"Prepared makes its batches without a look at its attribute `sampler`"):
        shared(Prepared(8))


class Sealed(Pairs):
    """Lets nobody set its sampler."""

    __slots__ = ()

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "sampler" and hasattr(self, "sampler"):
            raise AttributeError(name)
        super().__setattr__(name, value)


def test_a_sampler_that_cannot_be_set_is_refused() -> None:
    with pytest.raises(MisconfigurationException, match="`sampler` of the batch sampler Sealed cannot be set"):
        shared(Sealed(8, False))
