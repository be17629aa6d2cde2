"""Shares of a data set, and loaders whose samplers are replaced without calling anybody's `__init__` again."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch.utils.data import BatchSampler, DataLoader, DistributedSampler, IterableDataset, RandomSampler, SequentialSampler

from lx.data.samplers import ShareSampler, clone, distribute, in_sequence, is_distributed, is_shuffled, set_epoch
from lx.kernel.errors import MisconfigurationException


def shares(sampler: Any, replicas: int, **options: Any) -> list[list[int]]:
    made = [ShareSampler(sampler, replicas, rank, **options) for rank in range(replicas)]
    drawn = [list(share) for share in made]
    assert [len(share) for share in made] == [len(items) for items in drawn]
    return drawn


# -- shares ------------------------------------------------------------------------------------------------------------------


def test_padded_shares_are_equally_long_and_begin_again_where_items_run_out() -> None:
    assert shares(range(7), 2) == [[0, 2, 4, 6], [1, 3, 5, 0]]
    assert shares(range(2), 5) == [[0], [1], [0], [1], [0]]
    assert shares(range(0), 2) == [[], []]
    assert shares(range(4), 2) == [[0, 2], [1, 3]]


def test_without_padding_every_item_comes_once() -> None:
    assert shares(range(7), 3, pad=False) == [[0, 3, 6], [1, 4], [2, 5]]
    assert shares(range(1), 2, pad=False) == [[0], []]


def test_all_ranks_draw_the_same_order_which_follows_from_seed_and_epoch() -> None:
    drawn = shares(RandomSampler(range(20)), 2)
    assert sorted(drawn[0] + drawn[1]) == list(range(20))
    assert drawn == shares(RandomSampler(range(20)), 2)
    assert drawn != shares(RandomSampler(range(20)), 2, seed=1)
    share = ShareSampler(RandomSampler(range(20)), 2, 0)
    first = list(share)
    share.set_epoch(1)
    assert list(share) != first
    assert list(share) == list(ShareSampler(RandomSampler(range(20)), 2, 0, seed=1))
    share.set_epoch(0)
    assert list(share) == first


def test_drawing_a_share_leaves_the_programs_random_numbers_alone() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        expected = torch.rand(1)
        torch.manual_seed(5)
        list(ShareSampler(RandomSampler(range(20)), 2, 0))
        assert torch.rand(1) == expected


class Epochs(SequentialSampler):
    epoch = -1

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch


def test_a_sampler_inside_is_told_the_epoch_too() -> None:
    inner = Epochs(range(4))
    ShareSampler(inner, 2, 0).set_epoch(3)
    assert inner.epoch == 3


# -- loaders of one's own ----------------------------------------------------------------------------------------------------


class OwnLoader(DataLoader[int]):
    """Its `__init__` cannot be called again: it takes what it does not keep."""

    made = 0

    def __init__(self, secret: str, rows: int, **options: Any) -> None:
        type(self).made += 1
        super().__init__(range(rows), **options)
        self.note = f"{secret}-{rows}"


class OwnBatchSampler(BatchSampler):
    """The same of a batch sampler, which reverses each batch."""

    def __init__(self, secret: str, sampler: Any, batch_size: int) -> None:
        super().__init__(sampler, batch_size, drop_last=False)
        self.note = secret

    def __iter__(self) -> Iterator[list[int]]:
        for batch in super().__iter__():
            yield batch[::-1]


def collate(items: list[int]) -> list[int]:
    return items


def batches(loader: Any) -> list[Any]:
    return [batch if isinstance(batch, int | list) else batch.tolist() for batch in loader]


def test_a_share_keeps_the_users_class_and_all_that_was_set() -> None:
    loader = OwnLoader("x", 7, batch_size=2, drop_last=True, collate_fn=collate)
    OwnLoader.made = 0
    share = distribute(loader, 2, 1)
    assert OwnLoader.made == 0
    assert (type(share), share.note, share.batch_size, share.drop_last, share.collate_fn) == (OwnLoader, "x-7", 2, True, collate)
    assert batches(share) == [[1, 3], [5, 0]]
    assert batches(loader) == [[0, 1], [2, 3], [4, 5]]
    assert (len(share), len(loader)) == (2, 3)


def test_a_batch_sampler_of_ones_own_batches_the_share() -> None:
    loader = DataLoader(range(5), batch_sampler=OwnBatchSampler("mine", SequentialSampler(range(5)), 2), collate_fn=collate)
    share = distribute(loader, 2, 0)
    assert (type(share.batch_sampler), share.batch_sampler.note) == (OwnBatchSampler, "mine")
    assert batches(share) == [[2, 0], [4]]
    assert batches(loader) == [[1, 0], [3, 2], [4]]


def test_a_loader_without_batches_shares_its_samples() -> None:
    assert batches(distribute(DataLoader([10, 11, 12], batch_size=None), 2, 1)) == [11, 10]
    assert batches(distribute(DataLoader([10, 11, 12], batch_size=None), 2, 1, pad=False)) == [11]


def test_a_batch_sampler_without_a_sampler_cannot_be_shared() -> None:
    loader = DataLoader(range(4), batch_sampler=[[0, 1], [2, 3]])
    with pytest.raises(MisconfigurationException, match="the batch sampler list has no attribute `sampler`"):
        distribute(loader, 2, 0)


class Endless(IterableDataset[int]):
    def __iter__(self) -> Iterator[int]:
        return iter(range(3))


@pytest.mark.parametrize(
    "loader",
    [
        DataLoader(Endless()),
        DataLoader(range(4), sampler=DistributedSampler(range(4), 2, 0)),
        distribute(DataLoader(range(4), batch_size=2), 2, 0),
        distribute(DataLoader(range(4), batch_size=None), 2, 0),
    ],
    ids=["iterable", "distributed", "shared", "shared without batches"],
)
def test_what_is_shared_out_already_stays_as_it_is(loader: Any) -> None:
    assert distribute(loader, 2, 0) is loader
    assert is_distributed(loader) is not isinstance(loader.dataset, Endless)


def test_one_process_needs_no_share() -> None:
    loader = DataLoader(range(4), shuffle=True)
    assert distribute(loader, 1, 0) is loader
    assert not is_distributed(loader)


# -- order -------------------------------------------------------------------------------------------------------------------


def test_whether_a_loader_shuffles() -> None:
    shuffled = DataLoader(range(4), shuffle=True)
    for loader in (shuffled, DataLoader(range(4), shuffle=True, batch_size=None), distribute(shuffled, 2, 0)):
        assert is_shuffled(loader)
    for loader in (DataLoader(range(4)), in_sequence(shuffled), distribute(DataLoader(range(4)), 2, 0), [1, 2]):
        assert not is_shuffled(loader)


def test_a_loader_in_sequence_keeps_class_batches_and_batch_sampler() -> None:
    loader = OwnLoader("x", 5, batch_size=2, shuffle=True, drop_last=True, collate_fn=collate)
    OwnLoader.made = 0
    assert batches(in_sequence(loader)) == [[0, 1], [2, 3]]
    assert (type(in_sequence(loader)), OwnLoader.made) == (OwnLoader, 0)
    assert batches(in_sequence(DataLoader([10, 11], batch_size=None, shuffle=True))) == [10, 11]
    given = DataLoader(range(5), batch_sampler=BatchSampler(RandomSampler(range(5)), 2, drop_last=False), collate_fn=collate)
    assert batches(in_sequence(given)) == [[0, 1], [2, 3], [4]]
    own = DataLoader(range(5), batch_sampler=OwnBatchSampler("mine", RandomSampler(range(5)), 2), collate_fn=collate)
    assert batches(in_sequence(own)) == [[1, 0], [3, 2], [4]]
    assert is_shuffled(own)


def test_a_clone_starts_workers_of_its_own() -> None:
    loader = DataLoader(range(4), num_workers=1, persistent_workers=True)
    iter(loader)
    other = clone(loader, sampler=SequentialSampler(range(2)))
    assert loader._iterator is not None
    assert other._iterator is None
    assert other.sampler is not loader.sampler
    loader._iterator = None


# -- epochs ------------------------------------------------------------------------------------------------------------------


def test_the_epoch_is_told_to_the_sampler_the_batch_sampler_and_the_one_in_it() -> None:
    class Batch(OwnBatchSampler):
        epoch = -1

        def set_epoch(self, epoch: int) -> None:
            self.epoch = epoch

    alone, outer, inner = Epochs(range(2)), Batch("x", Epochs(range(2)), 1), Epochs(range(2))
    for loader in (
        DataLoader(range(2), sampler=alone),
        DataLoader(range(2), batch_sampler=outer),
        DataLoader(range(2), batch_sampler=BatchSampler(inner, 1, drop_last=False)),
        DataLoader(range(2)),
        [1, 2],
    ):
        set_epoch(loader, 3)
    assert (alone.epoch, outer.epoch, outer.sampler.epoch, inner.epoch) == (3, 3, 3, 3)
