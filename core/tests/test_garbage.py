"""Garbage collection while modules are imported."""

import gc
from collections.abc import Iterator

import pytest

from lx.kernel.garbage import AT_ONCE, NEVER, collection_relaxed


@pytest.fixture(autouse=True)
def thresholds() -> Iterator[None]:
    before = gc.get_threshold()
    yield
    gc.set_threshold(*before)


def test_what_was_set_comes_back_also_after_an_error() -> None:
    def fail() -> None:
        with collection_relaxed():
            assert gc.get_threshold()[:2] == (AT_ONCE, NEVER)  # later releases of Python have no third
            raise ImportError

    gc.set_threshold(500, 7, 8)
    with pytest.raises(ImportError):
        fail()
    assert gc.get_threshold()[:2] == (500, 7)


@pytest.mark.parametrize("young", [0, 10 * AT_ONCE])
def test_a_collector_that_is_off_or_rare_stays_so(young: int) -> None:
    gc.set_threshold(young, 10, 10)
    with collection_relaxed():
        assert gc.get_threshold()[0] == young


def test_garbage_goes_all_the_same() -> None:
    class Node:
        alive = 0

        def __init__(self) -> None:
            self.itself = self
            Node.alive += 1

        def __del__(self) -> None:
            Node.alive -= 1

    with collection_relaxed():
        for _ in range(3 * AT_ONCE):
            Node()
        assert Node.alive <= AT_ONCE
