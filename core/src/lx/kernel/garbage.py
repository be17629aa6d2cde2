"""Garbage collection, kept out of the way of imports."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def collection_paused() -> Iterator[None]:
    """No search for garbage within, where modules are imported: they stay, and beside torch one search takes a tenth of a second.

    A collector that the program has turned off stays off.

    >>> with collection_paused():
    ...     gc.isenabled()
    False
    """
    running = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if running:
            gc.enable()
