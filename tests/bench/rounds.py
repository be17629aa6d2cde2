"""Timing that a busy machine changes little: two contestants take turns in one process, and each pair of turns is compared by itself."""

from collections.abc import Callable
from statistics import median


def paired(one: Callable[[], float], other: Callable[[], float], rounds: int, compare: Callable[[float, float], float]) -> float:
    """The median of what `compare` makes of the seconds that both reported, over so many pairs of turns.

    A machine that is slow for a while is so for both turns of a pair. The least seconds of each, which is what one takes on a quiet
    machine, may be of different whiles.

    >>> seconds = iter([3.0, 1.0, 20.0, 10.0, 6.0, 2.0])
    >>> paired(lambda: next(seconds), lambda: next(seconds), 3, lambda one, other: one / other)
    3.0
    """
    return median(compare(one(), other()) for _ in range(rounds))
