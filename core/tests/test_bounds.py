"""How long a fit goes on: bounds between runs, and the optimizer steps that come of them."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from lx.arguments import bounds
from lx.arguments.bounds import count_steps, counted, epoch_bounds
from lx.arguments.spans import Unit
from lx.kernel.errors import MisconfigurationException


def asked(**given: Any) -> SimpleNamespace:
    """The four bounds, as `Limits` and a fit loop have them."""
    return SimpleNamespace(**{"max_epochs": None, "min_epochs": None, "max_steps": -1, "min_steps": None, **given})


@pytest.mark.parametrize(
    ("given", "timer", "bounds"),
    [
        ({"max_epochs": 3}, False, (3, 0)),
        ({"max_epochs": 0}, False, (0, 0)),
        ({"max_epochs": -1}, False, (-1, 0)),
        ({"max_steps": 5}, False, (-1, 0)),
        ({"max_steps": 5, "max_epochs": 2}, False, (2, 0)),
        ({}, True, (-1, 0)),
        ({"max_epochs": 3, "min_epochs": 2}, False, (3, 2)),
        ({"max_epochs": 3, "min_steps": 9}, False, (3, 1)),
        ({"max_epochs": 3, "min_steps": 9, "min_epochs": 0}, False, (3, 0)),
    ],
)
def test_epoch_bounds(given: dict[str, Any], timer: bool, bounds: tuple[int, int]) -> None:
    assert epoch_bounds(asked(**given), timer) == bounds


def test_a_run_that_nothing_bounds_ends_after_1000_epochs() -> None:
    with pytest.warns(UserWarning, match="max_epochs was not given.*1000 epochs.*max_epochs=-1 never ends"):
        assert epoch_bounds(asked(), False) == (1000, 0)


# -- assigned bounds -----------------------------------------------------------------------------------------------------------


class Loop:
    max_epochs = counted(least=-1, optional=True, unit=Unit.EPOCHS)
    max_steps = counted(least=-1, unit=Unit.STEPS)

    def __init__(self) -> None:
        self.max_epochs, self.max_steps = None, -1


def test_what_is_assigned_is_checked_and_read_like_any_attribute() -> None:
    loop = Loop()
    assert (loop.max_epochs, loop.max_steps) == (None, -1)
    loop.max_epochs, loop.max_steps = "3ep", "40st"
    assert vars(loop) == {"max_epochs": 3, "max_steps": 40}
    assert not hasattr(counted, "__get__")  # so that reading finds the value itself


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("max_epochs", -2, "max_epochs=-2: it must be -1 or more"),
        ("max_epochs", 1.5, "max_epochs=1.5: it must be an integer or None"),
        ("max_epochs", "3st", "max_epochs='3st': optimizer steps cannot be given here"),
        ("max_steps", None, "max_steps=None: it must be an integer"),
        ("max_steps", "40ba", "max_steps='40ba': batches cannot be given here"),
    ],
)
def test_what_cannot_be_a_bound_is_refused_and_the_old_one_stays(name: str, value: Any, said: str) -> None:
    loop = Loop()
    before = dict(vars(loop))
    with pytest.raises(MisconfigurationException, match=said):
        setattr(loop, name, value)
    assert vars(loop) == before


# -- steps ---------------------------------------------------------------------------------------------------------------------


def simulated(window_size: Callable[[int], int], batches: int, epochs: int) -> int:
    """Batch by batch, as training does it."""
    steps = 0
    for _ in range(epochs):
        held = 0
        for batch in range(batches):
            if held == 0:
                size = window_size(steps)
            held += 1
            if held == size or batch == batches - 1:
                steps, held = steps + 1, 0
    return steps


@pytest.mark.parametrize("batches", [1, 4, 5, 7])
@pytest.mark.parametrize("epochs", [1, 2, 5])
@pytest.mark.parametrize(
    "window_size", [lambda step: 1, lambda step: 3, lambda step: 1 if step < 4 else 3, lambda step: step % 3 + 1, lambda step: 100]
)
def test_steps_are_counted_as_training_takes_them(window_size: Callable[[int], int], batches: int, epochs: int) -> None:
    steps = simulated(window_size, batches, epochs)
    assert count_steps(window_size, batches, epochs) == steps
    assert count_steps(window_size, batches, epochs, at_most=steps + 1) == steps
    assert count_steps(window_size, batches, epochs, at_most=1) == 1


@pytest.mark.parametrize("most", [0, 1, 5, 6, 11])
def test_a_count_ends_and_takes_the_window_reached_for_the_rest(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "MOST_WINDOWS_COUNTED", most)
    asked: list[int] = []

    def window_size(step: int) -> int:
        asked.append(step)
        return 2

    assert count_steps(window_size, batches=5, epochs=1_000) == 3_000
    assert asked == list(range(most + 1))
    assert count_steps(window_size, batches=5, epochs=1_000, at_most=2_000) == 2_000
