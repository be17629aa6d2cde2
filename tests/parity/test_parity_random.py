"""Drawn at random, a training does with lx what it does with Lightning, but for the differences that are listed.

`LX_PARITY_DRAWS=3000 LX_PARITY_SEED=7` makes other draws, and another number of them, than a run without these.
"""

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, seed, settings
from random_comparison import Comparison
from random_differences import DIFFERENCES
from random_draws import Draw, trainings
from random_examples import EXAMPLES

DRAWS, SEED = int(os.environ.get("LX_PARITY_DRAWS", "500")), os.environ.get("LX_PARITY_SEED")


class Tally:
    """What was compared so far."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.counts: Counter[str] = Counter()
        self.under: Counter[str] = Counter()

    def compare(self, draw: Draw) -> Comparison:
        """Runs a draw with both libraries, and fails where they differ otherwise than is listed."""
        comparison = Comparison(draw, self.folder)
        if comparison.under is None:
            pytest.fail(f"{draw!r}\n{comparison.explain()}", pytrace=False)
        self.counts["draws"] += 1
        self.counts["refused by both"] += comparison.refused
        self.counts["equal"] += not comparison.under
        self.under.update(comparison.under)
        return comparison

    def __str__(self) -> str:
        counts = ", ".join(f"{count} {what}" for what, count in self.counts.items())
        return f"{counts}; under a difference: " + ", ".join(f"{name} {self.under[name]}" for name in sorted(self.under))


@pytest.fixture(scope="module")
def tally(tmp_path_factory: pytest.TempPathFactory) -> Tally:
    return Tally(tmp_path_factory.mktemp("drawn"))


@pytest.fixture(autouse=True)
def told(request: pytest.FixtureRequest, tally: Tally) -> Iterator[None]:
    """Writes into the report of a test what was compared until its end."""
    yield
    request.node.user_properties.append(("compared", f"random trainings: {tally}"))


def drawn(test: Any) -> Any:
    """A test of as many draws as are wanted, the same ones each time unless a seed is given."""
    test = given(trainings())(test)
    options: dict[str, Any] = {"max_examples": DRAWS, "derandomize": SEED is None, "database": None, "deadline": None}
    test = settings(suppress_health_check=list(HealthCheck), print_blob=False, report_multiple_bugs=False, **options)(test)
    return test if SEED is None else seed(int(SEED))(test)


@drawn
def test_drawn_trainings_are_those_of_lightning(tally: Tally, draw: Draw) -> None:
    tally.compare(draw)


@pytest.mark.parametrize("name", DIFFERENCES)
def test_every_listed_difference_shows(name: str, tally: Tally) -> None:
    assert name in (tally.compare(EXAMPLES[name]).under or ()), f"{name} is not needed any more to make of one outcome the other"
