"""What lx has to say reaches the screen of a program that has set up no logging, and never twice."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from lx.rank_zero import rank_zero_debug, rank_zero_info


@contextmanager
def no_handlers() -> Iterator[logging.Logger]:
    """The root logger of a program that has set up nothing; the handlers of pytest are put aside."""
    root = logging.getLogger()
    handlers, root.handlers = root.handlers, []
    try:
        yield root
    finally:
        root.handlers = handlers


def test_a_program_without_logging_sees_the_line(capsys: pytest.CaptureFixture[str]) -> None:
    with no_handlers():
        rank_zero_info("read as %s", "3 batches")
        rank_zero_debug("nobody asked")
    assert capsys.readouterr().err == "read as 3 batches\n"


def test_a_program_with_logging_decides(capsys: pytest.CaptureFixture[str]) -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(name)s: %(message)s"))
    with no_handlers() as root:
        root.addHandler(handler)
        rank_zero_info("once")
    assert capsys.readouterr().err == "lx: once\n"


def test_a_handler_of_its_own_is_enough(capsys: pytest.CaptureFixture[str]) -> None:
    log = logging.getLogger("lx")
    handler = logging.StreamHandler()
    log.addHandler(handler)
    try:
        with no_handlers():
            rank_zero_info("once")
    finally:
        log.removeHandler(handler)
    assert capsys.readouterr().err == "once\n"


def test_a_level_silences_it(capsys: pytest.CaptureFixture[str]) -> None:
    log = logging.getLogger("lx")
    before = log.level
    log.setLevel(logging.WARNING)
    try:
        with no_handlers():
            rank_zero_info("quiet")
    finally:
        log.setLevel(before)
    assert capsys.readouterr().err == ""
