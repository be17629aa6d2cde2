"""Timing that a busy machine changes little: two contestants take turns in one process, and the best round of each counts."""

from collections.abc import Callable

SETTLED = 0.001
"""The share by which a minimum may still fall in a block of rounds when it counts as found."""
BLOCKS = 6


def in_turns(one: Callable[[], float], other: Callable[[], float], rounds: int) -> tuple[float, float]:
    """The fewest seconds that each reported; turns go on, in blocks of `rounds`, until neither minimum falls any more.

    >>> seconds = iter([3.0, 7.0, 1.0, 8.0, 1.0, 9.0, 2.0, 7.0])
    >>> in_turns(lambda: next(seconds), lambda: next(seconds), 2)
    (1.0, 7.0)
    """
    best = [float("inf"), float("inf")]
    for _ in range(BLOCKS):
        found = [(one(), other()) for _ in range(rounds)]
        lowest = [min(best[place], *(pair[place] for pair in found)) for place in (0, 1)]
        settled = all(low >= before * (1 - SETTLED) for low, before in zip(lowest, best, strict=True))
        best = lowest
        if settled:
            break
    return best[0], best[1]
