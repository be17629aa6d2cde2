"""What is logged: names, values, steps and moments are Lightning's, but for the differences that are listed."""

from pathlib import Path
from typing import Any

import logging_of_evaluation  # noqa: F401 -- brings scenarios
import logging_of_metrics  # noqa: F401 -- brings scenarios
import logging_of_training  # noqa: F401 -- brings scenarios
import logging_of_values  # noqa: F401 -- brings scenarios
import pytest
from logging_differences import DIFFERENCES
from logging_record import SCENARIOS, Record
from sides import SIDES, World, quiet


def recorded(side: str, name: str, root: Path) -> list[Any]:
    """The entries of a scenario with one of the libraries."""
    record = Record(World(side, root))
    with quiet(side):
        SCENARIOS[name](record)
    return [entry for before, entry in zip([(), *record.entries], record.entries, strict=False) if is_told(entry, before)]


def is_told(entry: Any, before: Any) -> bool:
    """Whether an entry counts: `save` does after values only, since both libraries also call it when nothing was logged."""
    return not entry[0].startswith("save") or before[:1] == (entry[0].replace("save", "log"),)


def rounded(value: Any) -> Any:
    """Numbers to the five digits to which float32 and float64 sums agree."""
    if isinstance(value, float):
        return float(f"{value:.5g}")
    if isinstance(value, dict):
        return {key: rounded(part) for key, part in value.items()}
    return [rounded(part) for part in value] if isinstance(value, list | tuple) else value


@pytest.mark.parametrize("name", SCENARIOS)
def test_what_is_logged_is_what_lightning_logs(name: str, tmp_path: Path) -> None:
    ours, theirs = (rounded(recorded(side, name, tmp_path)) for side in SIDES)
    assert ours, "the scenario looks at nothing"
    if name in DIFFERENCES:
        difference = DIFFERENCES[name]
        assert ours != theirs, f"no longer different: {difference.reason}"
        theirs = rounded(difference.as_in_lx(theirs))
    assert ours == theirs


def test_listed_differences_are_of_scenarios_that_there_are() -> None:
    assert set(DIFFERENCES) <= set(SCENARIOS)
