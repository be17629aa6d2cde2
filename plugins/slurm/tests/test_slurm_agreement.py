"""How processes agree on where they end: whenever the signal comes to each, they all end after the same step."""

import itertools

import pytest

from lx_plugin_slurm.agreement import Agreement


class Counters:
    """Those of one run, in one process."""

    def __init__(self) -> None:
        self.values: dict[str, int] = {}

    def add(self, key: str, amount: int) -> int:
        self.values[key] = self.values.get(key, 0) + amount
        return self.values[key]


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_all_end_after_one_step(order: tuple[int, ...]) -> None:
    """`order` says who is through a step first; nobody begins the next one before all have begun this one."""
    for hears in itertools.product(range(1, 5), repeat=3):  # the step in which the signal comes to each
        counters = Counters()
        ranks = [Agreement(counters, rank, 3) for rank in range(3)]
        ended: dict[int, int] = {}
        for step in range(1, 10):
            for rank in order:
                if step >= hears[rank] and rank not in ended and ranks[rank].reached(step):
                    ended[rank] = step
            assert len(ended) in (0, 3), f"some would wait for the others: {hears}"
        assert max(hears) < ended[0] <= max(hears) + 2


def test_while_the_signal_has_not_come_to_all_nobody_ends() -> None:
    counters = Counters()
    first, second = (Agreement(counters, rank, 2) for rank in range(2))
    assert not any(first.reached(step) for step in range(1, 50))
    assert not second.reached(50)
    assert not first.reached(50)
    assert second.reached(51)
    assert first.reached(51)
