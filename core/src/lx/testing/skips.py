"""A pytest plugin that fails a run with too many skipped tests, so that a missing package cannot turn the tests off unnoticed.

`pytest_plugins = ["lx.testing.skips"]` in the root conftest, and `skips_at_most = 40` in pytest's configuration, or
`--skips-at-most 40`. Every skip is listed with its reason where there are too many.
"""

from typing import Any

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds the option and the setting."""
    parser.addoption("--skips-at-most", type=int, default=None, help="fails the run if more tests are skipped than this")
    parser.addini("skips_at_most", "fails the run if more tests are skipped than this", default="")


def bound(config: pytest.Config) -> int | None:
    """The number of skips that is accepted; None where nobody set one."""
    option = config.getoption("--skips-at-most")
    setting = config.getini("skips_at_most")
    return option if option is not None else int(setting) if setting else None


def excess(config: pytest.Config) -> list[Any]:
    """The reports of the skipped tests if they are too many; empty otherwise, and in the workers of pytest-xdist."""
    most = bound(config)
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if most is None or reporter is None or hasattr(config, "workerinput"):
        return []
    skipped = reporter.stats.get("skipped", [])
    return list(skipped) if len(skipped) > most else []


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Turns a run with too many skips into a failed one."""
    if excess(session.config) and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Says what was skipped, and why."""
    skipped = excess(config)
    if not skipped:
        return
    terminalreporter.section("too many skips", red=True)
    terminalreporter.line(f"{len(skipped)} tests were skipped, and {bound(config)} may be:")
    for report in skipped:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        terminalreporter.line(f"{report.nodeid}: {reason}")
