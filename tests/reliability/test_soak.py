"""The default run does a sample, `tox -e soak` does all."""

import importlib

import pytest

import soak


@pytest.mark.parametrize(("variable", "count"), [("1", 1000), ("", 10), (None, 10)])
def test_how_many_cases_are_drawn(variable: str | None, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LX_SOAK", raising=False)
    if variable is not None:
        monkeypatch.setenv("LX_SOAK", variable)
    try:
        assert importlib.reload(soak).sample(1000, 10) == count
    finally:
        monkeypatch.undo()
        importlib.reload(soak)


def test_the_seed_is_told_by_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LX_SOAK_SEED", raising=False)
    assert soak.drawn_from(3) == 3
    monkeypatch.setenv("LX_SOAK_SEED", "17")
    assert soak.drawn_from(3) == 17
