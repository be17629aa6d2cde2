"""How long a fit goes on: bounds that may be set between runs, what nothing bounds, and how many optimizer steps come of it."""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from lx.arguments.limits import count
from lx.arguments.spans import Unit
from lx.rank_zero import rank_zero_warn


class counted:  # noqa: N801 -- reads as a declaration, like property
    """An attribute that is checked as an argument is whenever it is assigned; reading it runs no code.

    >>> class Loop:
    ...     max_epochs = counted(least=-1, optional=True, unit=Unit.EPOCHS)
    >>> loop = Loop()
    >>> loop.max_epochs = "3ep"
    >>> loop.max_epochs
    3
    """

    def __init__(self, least: int = 0, optional: bool = False, unit: Unit | None = None) -> None:
        self._checks: dict[str, Any] = {"least": least, "optional": optional, "unit": unit}

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    if TYPE_CHECKING:  # without it, the value is found where __set__ puts it

        def __get__(self, owner: object, cls: type | None = None) -> Any: ...

    def __set__(self, owner: object, value: Any) -> None:
        owner.__dict__[self._name] = count(self._name, value, **self._checks)


def epoch_bounds(bounds: Any, has_timer: bool) -> tuple[int, int]:
    """`(max_epochs, min_epochs)` as fit uses them, of `Limits` or of a fit loop; unbounded is -1. Warns where nothing bounds the run."""
    least = bounds.min_epochs if bounds.min_epochs is not None else int(bounds.min_steps is not None)
    if bounds.max_epochs is not None:
        return bounds.max_epochs, least
    if bounds.max_steps == -1 and not has_timer:
        rank_zero_warn("max_epochs was not given, and nothing else bounds the run: it ends after 1000 epochs. max_epochs=-1 never ends.")
        return 1000, least
    return -1, least


MOST_WINDOWS_COUNTED = 100_000
"""So many accumulation windows are gone through one by one; a schedule that still changes after them is rare, and a count must end."""


def count_steps(window_size: Callable[[int], int], batches: int, epochs: int, at_most: int | float = math.inf) -> int | float:
    """The optimizer steps of `epochs` epochs of `batches` batches, where `window_size(step)` batches make the step after `step` steps.

    No window goes on into the next epoch. After `MOST_WINDOWS_COUNTED` steps, windows count as large as the one reached.

    >>> count_steps(lambda step: 1 if step < 4 else 3, batches=5, epochs=2)
    7
    """
    steps = 0
    for epoch in range(epochs):
        left = batches
        while left > 0:
            if steps >= at_most:
                return at_most
            size = window_size(steps)
            if steps == MOST_WINDOWS_COUNTED:
                rest = math.ceil(left / size) + (epochs - epoch - 1) * math.ceil(batches / size)
                return min(at_most, steps + rest)
            left -= size
            steps += 1
    return steps
