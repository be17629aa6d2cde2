"""Garbage collection, kept out of the way of imports."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager

AT_ONCE = 10_000
"""So many new objects are searched together."""
NEVER = 2**31 - 1


@contextmanager
def collection_relaxed() -> Iterator[None]:
    """Within, where modules are imported, which stay, an object is searched for garbage once, and seldom: not time and again.

    Beside torch a search of all objects takes a tenth of a second, and imports as big as its own, or that of its compiler, bring about
    several. A collector that the program has turned off stays off.

    >>> with collection_relaxed():
    ...     gc.get_threshold()[0] == AT_ONCE
    True
    """
    thresholds = gc.get_threshold()
    gc.set_threshold(thresholds[0] and max(thresholds[0], AT_ONCE), NEVER, NEVER)
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)
