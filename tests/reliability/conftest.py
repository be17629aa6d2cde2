"""Says how many cases the tests marked `soak` had, each of which calls the fixture `told` with one line."""

from collections.abc import Callable
from typing import Any

import pytest


@pytest.fixture
def told(record_property: Callable[[str, object], None]) -> Callable[[str], None]:
    """Takes the figures of a test, in words, which are printed at the end of the run."""
    return lambda line: record_property("told", line)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """The figures of all tests."""
    for outcome in ("passed", "failed"):
        for report in terminalreporter.stats.get(outcome, []):
            for line in [value for name, value in report.user_properties if name == "told"]:
                terminalreporter.write_line(line)
