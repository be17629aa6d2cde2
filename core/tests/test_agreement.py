"""How processes agree on where they end: whenever a signal comes to each, or to one, they all end after the same step."""

import itertools
import signal

import pytest

from lx.running.agreement import Agreement, Listener
from lx.testing.requires import requires


class Store:
    """One that those of one run see, in one process."""

    def __init__(self) -> None:
        self.counters: dict[str, int] = {}
        self.values: dict[str, str] = {}

    def add(self, key: str, amount: int) -> int:
        self.counters[key] = self.counters.get(key, 0) + amount
        return self.counters[key]

    def set(self, key: str, value: str) -> None:
        self.values[key] = value

    def compare_set(self, key: str, expected: str, value: str) -> None:
        if self.values.get(key, "") == expected:
            self.values[key] = value

    def get(self, key: str) -> str:
        return self.values[key]


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_all_end_after_one_step(order: tuple[int, ...]) -> None:
    """`order` says who is through a step first; nobody begins the next one before all have begun this one."""
    for hears in itertools.product(range(1, 5), repeat=3):  # the step in which each knows of the signal
        store = Store()
        ranks = [Agreement(store, rank, 3) for rank in range(3)]
        ended: dict[int, int] = {}
        for step in range(1, 10):
            for rank in order:
                if step >= hears[rank] and rank not in ended and ranks[rank].reached(step, 15):
                    ended[rank] = step
            assert len(ended) in (0, 3), f"some would wait for the others: {hears}"
        assert max(hears) < ended[0] <= max(hears) + 2


def test_while_some_do_not_know_nobody_ends() -> None:
    store = Store()
    first, second = (Agreement(store, rank, 2) for rank in range(2))
    assert not any(first.reached(step, 15) for step in range(1, 50))
    assert not second.reached(50, 15)
    assert not first.reached(50, 15)
    assert second.reached(51, 15)
    assert first.reached(51, 15)


def test_nobody_ends_in_a_validation_and_the_first_signal_is_that_of_all() -> None:
    store = Store()
    first, second = (Agreement(store, rank, 2) for rank in range(2))
    assert second.reached(None, signal.SIGUSR1) == 0
    assert first.reached(1, signal.SIGTERM) == 0
    assert [one.reached(2, signal.SIGTERM) for one in (first, second)] == [signal.SIGUSR1] * 2


@requires(processes=2)
def test_word_of_a_signal_comes_to_all() -> None:
    from torch.distributed import HashStore  # type: ignore[attr-defined]

    store = HashStore()
    heard: list[int] = []
    listeners = [Listener(store, store, rank, 3, heard.append) for rank in range(3)]
    Agreement(store, 2, 3).announce(signal.SIGTERM)
    for listener in listeners:
        listener.wait()
    assert heard == [signal.SIGTERM] * 3


@requires(processes=2)
def test_who_listens_may_stop() -> None:
    from torch.distributed import HashStore  # type: ignore[attr-defined]

    store = HashStore()
    heard: list[int] = []
    listener = Listener(store, store, 0, 3, heard.append)
    listener.close()
    listener.wait()
    assert heard == []
