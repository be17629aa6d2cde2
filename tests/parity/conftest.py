"""Lets the files of this folder import each other, and says at the end how many scenarios were compared."""

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

COMPARISONS = {
    "test_the_calls_are_those_of_lightning": "traces of calls",
    "test_what_is_logged_is_what_lightning_logs": "records of what is logged",
}


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """One line for each kind of comparison."""
    reports = [report for outcome in ("passed", "failed") for report in terminalreporter.stats.get(outcome, []) if report.when == "call"]
    for test, what in COMPARISONS.items():
        count = sum(f"::{test}[" in report.nodeid for report in reports)
        if count:
            terminalreporter.write_line(f"{count} {what} compared with Lightning's")
