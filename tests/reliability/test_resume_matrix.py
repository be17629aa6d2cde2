"""Runs of every kind are killed at random points, and end bit for bit like those that nobody killed.

Each configuration is drawn from LX_SOAK_SEED, and so are the points. A failure prints the command with which it can be repeated; a kill
that comes from outside, some time after an event, falls where it falls.
"""

import json
import random
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from forked import Server
from resume_script import CHOICES
from soak import drawn_from, sample

SCRIPT = Path(__file__).with_name("resume_script.py")
KILLS = sample(4, 2)
RUNS = sample(50, 4)
"""200 kills in `tox -e soak`."""
ALWAYS: tuple[dict[str, Any], ...] = (
    {"shuffle": True, "workers": 2, "augmentation": "numpy", "dropout": True, "accumulate": 3, "checkpoints": "every second step"},
    {"shuffle": True, "workers": 2, "persistent": True, "augmentation": "python", "validation": "within epochs", "average": True},
)
"""The first runs, of which the default run has all; the others are drawn."""


def drawn(number: int) -> tuple[dict[str, Any], str, int]:
    """The configuration of a run, the signal and the seed of its kills."""
    seed = drawn_from()
    source = random.Random(f"{seed} {number}")
    chosen = {name: source.choice(values) for name, values in CHOICES.items()}
    fixed = {**{name: values[0] for name, values in CHOICES.items()}, **ALWAYS[number]} if number < len(ALWAYS) else chosen
    return fixed, "TERM" if number % 4 == 3 else "KILL", seed * 1000 + number


@pytest.mark.soak
@pytest.mark.parametrize("number", range(RUNS))
def test_a_killed_run_ends_like_one_that_was_not(number: int, server: Server, counted: Callable[[str, int], None]) -> None:
    chosen, signal, seed = drawn(number)
    shown = {name: value for name, value in chosen.items() if value != CHOICES[name][0]}
    command = ["--kills", str(KILLS), "--seed", str(seed), "--signal", signal, str(SCRIPT), json.dumps(shown)]
    code, printed = server.verify(*command)
    assert code == 0, f"{printed}\nlx verify-resume {shlex.join(command)}"
    assert re.search(rf"^resumes exactly: {KILLS} of {KILLS} kills, ", printed, re.MULTILINE), printed
    counted("kills, after which a run ended bit for bit like one that nobody killed", KILLS)
    counted("of these kills came when there was a checkpoint to go on from", len(re.findall("went on from step", printed)))
