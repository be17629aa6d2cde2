"""What rank 0 alone does: functions, warnings, log records; and how the rank is known."""

import logging
import subprocess
import sys
import warnings

import pytest

from lx.rank_zero import (
    LightningDeprecationWarning,
    PossibleUserWarning,
    disable_possible_user_warnings,
    environment_rank,
    rank_zero_debug,
    rank_zero_deprecation,
    rank_zero_info,
    rank_zero_only,
    rank_zero_warn,
)

RANKS = ("RANK", "SLURM_PROCID", "LOCAL_RANK", "JSM_NAMESPACE_RANK")


@pytest.fixture
def second(monkeypatch):
    """This process is rank 1."""
    monkeypatch.setattr(rank_zero_only, "rank", 1)


def test_a_function_of_rank_zero_alone(monkeypatch):
    def write(what):
        """Writes."""
        return f"wrote {what}"

    plain, with_default = rank_zero_only(write), rank_zero_only(write, default="nothing")
    assert plain("a") == with_default("a") == "wrote a"
    assert (plain.__name__, plain.__doc__) == ("write", "Writes.")
    monkeypatch.setattr(rank_zero_only, "rank", 3)
    assert (plain("a"), with_default("a")) == (None, "nothing")


@pytest.mark.parametrize(
    ("variables", "rank"),
    [
        ({}, 0),
        ({"LOCAL_RANK": "2"}, 2),
        ({"LOCAL_RANK": "1", "RANK": "5"}, 5),
        ({"SLURM_PROCID": "4", "LOCAL_RANK": "0"}, 4),
        ({"JSM_NAMESPACE_RANK": "3"}, 3),
        ({"RANK": "", "LOCAL_RANK": "1"}, 1),
    ],
)
def test_the_environment_tells_the_rank(variables, rank, monkeypatch):
    for name in RANKS:
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert environment_rank() == rank


def test_messages_of_rank_zero(caplog):
    caplog.set_level(logging.DEBUG, logger="lx")
    rank_zero_info("epoch %d of %d", 1, 2)
    rank_zero_debug("more")
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [("INFO", "epoch 1 of 2"), ("DEBUG", "more")]
    assert {record.filename for record in caplog.records} == {"test_rank_zero.py"}


@pytest.mark.usefixtures("second")
def test_other_ranks_say_nothing(caplog, recwarn):
    caplog.set_level(logging.DEBUG, logger="lx")
    rank_zero_info("a")
    rank_zero_debug("b")
    rank_zero_warn("c")
    rank_zero_deprecation("d")
    assert not caplog.records
    assert not list(recwarn)


def test_warnings_of_rank_zero():
    with pytest.warns(UserWarning, match="careful"):
        rank_zero_warn("careful")
    with pytest.warns(PossibleUserWarning, match="maybe"):
        rank_zero_warn("maybe", category=PossibleUserWarning)
    with pytest.warns(DeprecationWarning, match="gone") as caught:
        rank_zero_deprecation("gone", stacklevel=2)
    assert caught[0].category is LightningDeprecationWarning
    assert caught[0].filename == __file__


def test_possible_warnings_can_be_turned_off():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        disable_possible_user_warnings(module="somewhere")
        rank_zero_warn("one", PossibleUserWarning)
        disable_possible_user_warnings()
        rank_zero_warn("two", PossibleUserWarning)
        rank_zero_warn("three")
    assert [str(warning.message) for warning in caught] == ["one", "three"]


@pytest.mark.parametrize(("value", "said"), [("off", "[]"), ("0", "[]"), ("on", "['maybe']")])
def test_the_environment_turns_possible_warnings_off(value, said, monkeypatch):
    monkeypatch.setenv("POSSIBLE_USER_WARNINGS", value)
    code = """if True:
        import warnings
        with warnings.catch_warnings(record=True) as caught:
            from lx.rank_zero import PossibleUserWarning, rank_zero_warn
            rank_zero_warn("maybe", PossibleUserWarning)
        print([str(warning.message) for warning in caught])
    """
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == said
