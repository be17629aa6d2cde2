"""Every hook of callbacks, module and data module is called in Lightning's order, but for the differences that are listed."""

import difflib
import re
from collections.abc import Callable
from typing import Any

import pytest
import references  # noqa: F401 -- brings scenarios
import scenarios_again  # noqa: F401 -- brings scenarios
import scenarios_by_hand  # noqa: F401 -- brings scenarios
import scenarios_data  # noqa: F401 -- brings scenarios
import scenarios_loaders  # noqa: F401 -- brings scenarios
import scenarios_runs  # noqa: F401 -- brings scenarios
import scenarios_training  # noqa: F401 -- brings scenarios
import torch
from recording import Recorder
from scenarios import REFERENCES, SCENARIOS, WARNINGS
from sides import World, quiet
from trace_differences import DIFFERENCES, LOADERS, Difference, Lines, apart

Traced = Callable[[str, str], Lines]


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory) -> Traced:
    """The calls in a scenario with one of the libraries; lx has to warn of what the scenario says, and of nothing else."""
    traces: dict[tuple[str, str], Lines] = {}

    def run(side: str, name: str) -> Lines:
        world = World(side, tmp_path_factory.mktemp("scenario"))
        world.root.mkdir()
        recorder = Recorder(world)
        torch.manual_seed(0)
        with quiet(side):
            if side == "lx" and name in WARNINGS:
                with pytest.warns(UserWarning, match=WARNINGS[name]):
                    SCENARIOS[name](recorder)
            else:
                SCENARIOS[name](recorder)
        return [call.replace(str(world.root), "") for call in recorder.calls]

    def remembered(side: str, name: str) -> Lines:
        if (side, name) not in traces:
            traces[side, name] = run(side, name)
        return traces[side, name]

    return remembered


def as_in_lx(lines: Lines, difference: Difference, other: Lines) -> Lines:
    """Lightning's calls with a difference applied."""
    if difference.as_in_lx is None:
        return lines
    changed = difference.as_in_lx(lines, other)
    assert changed != lines, f"no longer different: {difference.why}"
    return changed


def from_difference_on(ours: Lines, theirs: Lines, difference: Difference) -> tuple[Lines, Lines]:
    """Both without the values that may differ, from the line on where they first do."""
    if not difference.apart:
        return ours, theirs
    at = next((at for at, (our, their) in enumerate(zip(ours, theirs, strict=False)) if our != their), None)
    assert at is not None, f"no longer different: {difference.why}"
    assert re.search(difference.since, ours[at]), f"the first to differ is {ours[at]}, not {difference.since}"
    ours, theirs = ([*lines[:at], *(apart(line, difference.apart) for line in lines[at:])] for lines in (ours, theirs))
    return ours, theirs


@pytest.mark.parametrize("name", [name for name in SCENARIOS if name not in REFERENCES])
def test_the_calls_are_those_of_lightning(name: str, traced: Traced) -> None:
    ours, theirs = traced("lx", name), loaders_as_in_lx(traced("lightning", name))
    assert ours or theirs, "the scenario records nothing"
    for difference in DIFFERENCES.get(name, ()):
        other = loaders_as_in_lx(traced("lightning", difference.beside)) if difference.beside else []
        theirs = as_in_lx(theirs, difference, other)
        ours, theirs = from_difference_on(ours, theirs, difference)
    if ours != theirs:
        pytest.fail("\n".join(difflib.unified_diff(theirs, ours, "Lightning", "lx", n=2, lineterm="")), pytrace=False)


def loaders_as_in_lx(lines: Lines) -> Lines:
    """Lightning's calls with the difference that holds everywhere; most scenarios have loaders, not all."""
    assert LOADERS.as_in_lx is not None
    return LOADERS.as_in_lx(lines, [])


def test_loaders_differ_as_is_listed(traced: Traced) -> None:
    calls = {side: [call for call in traced(side, "validate") if "dataloader()" in call] for side in ("lx", "lightning")}
    assert calls["lightning"]
    assert calls["lx"] == as_in_lx(calls["lightning"], LOADERS, [])


def test_listed_differences_are_of_scenarios_that_there_are() -> None:
    listed: set[Any] = {difference.beside for differences in DIFFERENCES.values() for difference in differences if difference.beside}
    assert set(DIFFERENCES) | listed | set(WARNINGS) <= set(SCENARIOS)
    assert listed >= REFERENCES
