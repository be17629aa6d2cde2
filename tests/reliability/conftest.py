"""Says at the end how many cases the tests marked `soak` had, which tell it by the fixtures `told` and `counted`."""

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from forked import Server


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """The process that killed ones are forks of."""
    server = Server()
    yield server
    server.close()


@pytest.fixture
def told(record_property: Callable[[str, object], None]) -> Callable[[str], None]:
    """Takes the figures of a test, in words, which are printed at the end of the run."""
    return lambda line: record_property("told", line)


@pytest.fixture
def counted(record_property: Callable[[str, object], None]) -> Callable[[str, int], None]:
    """Takes how many cases of a sort a test has done, which are added up over all tests that passed."""
    return lambda what, number: record_property("counted", (what, number))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """The figures of all tests."""
    sums: Counter[str] = Counter()
    for outcome in ("passed", "failed"):
        for report in terminalreporter.stats.get(outcome, []):
            for name, value in report.user_properties:
                if name == "told":
                    terminalreporter.write_line(value)
                elif name == "counted" and outcome == "passed":
                    sums[value[0]] += value[1]
    for what, number in sums.items():
        terminalreporter.write_line(f"{number} {what}")
