"""Lets the files of this folder import each other, and says at the end how many scenarios were compared."""

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

COMPARISONS = {
    "test_the_calls_are_those_of_lightning": "traces of calls",
    "test_what_is_logged_is_what_lightning_logs": "records of what is logged",
    "test_summaries_have_the_same_numbers": "summaries of models",
    "test_a_monitor_logs_the_same_at_the_same_steps": "runs with a ThroughputMonitor",
    "test_the_files_are_those_of_lightning": "runs with a ModelCheckpoint",
    "test_a_run_is_stopped_where_lightning_stops_it": "runs with an EarlyStopping",
    "test_a_file_is_migrated_as_by_lightning": "migrations of files of old releases",
    "test_either_library_goes_on_from_the_file_of_the_other": "runs that each library began and the other ended",
}


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """One line for each kind of comparison."""
    reports = [report for outcome in ("passed", "failed") for report in terminalreporter.stats.get(outcome, []) if report.when == "call"]
    for test, what in COMPARISONS.items():
        count = sum(f"::{test}[" in report.nodeid for report in reports)
        if count:
            terminalreporter.write_line(f"{count} {what} compared with Lightning's")
    told = [
        dict(report.user_properties) for found in terminalreporter.stats.values() for report in found if hasattr(report, "user_properties")
    ]
    for line in [properties["compared"] for properties in told if "compared" in properties][-1:]:
        terminalreporter.write_line(line)
