"""A terminal and a log in memory, which are the standard output of the tests that ask for them."""

import io
import re
from collections.abc import Iterator
from contextlib import redirect_stdout
from typing import Any

import pytest


class Terminal(io.StringIO):
    """A terminal in memory."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True

    def screen(self) -> list[str]:
        """The lines that are to be seen, the empty ones at the end left out."""
        lines, row, column = [""], 0, 0
        for token in re.findall(r"\x1b\[[0-9;?]*[A-Za-z]|[\r\n]|[^\x1b\r\n]+", self.getvalue()):
            if token == "\r":
                column = 0
            elif token == "\n":
                row, column = row + 1, 0
                lines += [""] * (row + 1 - len(lines))
            elif token.endswith("A") and token.startswith("\x1b"):
                row -= int(token[2:-1] or 1)
            elif token == "\x1b[2K":
                lines[row] = ""
            elif not token.startswith("\x1b"):
                lines[row] = f"{lines[row]:<{column}}"[:column] + token + lines[row][column + len(token) :]
                column += len(token)
        return "\n".join(line.rstrip() for line in lines).rstrip().split("\n")


VARIABLES = ("COLUMNS", "FORCE_COLOR", "LINES", "NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE")
"""What rich would let change its mind about the terminal."""


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")


@pytest.fixture
def terminal(environment: None) -> Terminal:
    return Terminal()


@pytest.fixture
def log(environment: None) -> io.StringIO:
    return io.StringIO()


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Iterator[Any]:
    """Redirects here and not in the fixtures, since pytest sets the standard output anew between a test's set-up and its call."""
    stream = pyfuncitem.funcargs.get("terminal") or pyfuncitem.funcargs.get("log")
    if stream is None:
        return (yield)
    with redirect_stdout(stream):
        return (yield)
