"""Broken plugins and bad arguments: each has an error of its own class, which names what is wrong with the cure; all else works."""

import inspect
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import lx
from bad_arguments import CALLS_OF_FABRIC, CALLS_OF_TRAINER, COMPONENTS, EXCLUDE_EACH_OTHER, OF_ANOTHER_TYPE, OF_FABRIC, OUT_OF_RANGE
from broken_plugins import KINDS, Broken
from lx import Fabric, Trainer
from lx.cli import main
from lx.kernel import default_manager, errors
from lx.kernel.errors import LxError
from lx.testing import TinyDataModule, TinyModule
from lx.testing.fixtures import Distributions

QUIET: dict[str, Any] = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)


class Module(TinyModule):
    """With loaders of its own for validation, so that fit does not miss them."""

    def val_dataloader(self) -> Any:
        return TinyDataModule().val_dataloader()


def assert_says(caught: BaseException, error: type[BaseException], said: tuple[str, ...]) -> None:
    """The class is exactly that, and the message, or a note of it, has all that is to be said."""
    text = "\n".join([str(caught), *getattr(caught, "__notes__", [])])
    assert type(caught) is error, text
    assert [part for part in said if part not in text] == [], text


# -- plugins ---------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def broken(request: pytest.FixtureRequest, make_distribution: Distributions, monkeypatch: pytest.MonkeyPatch) -> Broken:
    """A plugin of that kind, installed beside those that work."""
    kind = KINDS[request.param]
    for name, value in kind.environ.items():
        monkeypatch.setenv(name, value)
    files = {"broken_plugin.py": kind.entry} if kind.part is None else {"broken_plugin.py": kind.entry, "broken_part.py": kind.part}
    make_distribution("acme-broken", files, plugins={kind.slug: kind.module}, requires=kind.requires)
    default_manager.cache_clear()
    return kind


@pytest.mark.parametrize("broken", KINDS, indirect=True)
def test_a_broken_plugin_is_named_with_the_cure_and_breaks_nothing_else(
    broken: Broken, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = sorted(os.listdir(tmp_path))
    with pytest.raises(broken.error) as caught:
        Trainer(**{"accelerator": "cpu", "logger": False, **broken.asks})
    assert_says(caught.value, broken.error, broken.said)
    assert any(name in str(broken.said) for name in ("broken", "'csv'"))
    assert sorted(os.listdir(tmp_path)) == before

    assert main(["plugins"]) == 0
    rows = {row.split()[0]: row for row in capsys.readouterr().out.splitlines()}
    assert broken.state in rows[broken.slug]
    assert " active " in rows["early-stopping"]
    assert lx.callbacks.EarlyStopping("x").monitor == "x"

    trainer = Trainer(accelerator="cpu", max_epochs=1, callbacks="timer", **QUIET)
    trainer.fit(TinyModule(), TinyDataModule())
    assert trainer.global_step == 4


# -- arguments -------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def nothing_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Afterwards there is neither a file nor a process group."""
    monkeypatch.chdir(tmp_path)
    yield
    assert os.listdir(tmp_path) == []
    assert not torch.distributed.is_initialized()


@pytest.mark.usefixtures("nothing_written")
@pytest.mark.parametrize(("kind", "component", "error", "said"), COMPONENTS)
def test_an_argument_of_a_component(kind: str, component: str, error: type[Exception], said: tuple[str, ...]) -> None:
    argument = "callbacks" if kind == "callback" else kind
    with pytest.raises(error) as caught:
        Trainer(**{"accelerator": "cpu", "devices": 2 if kind == "strategy" else 1, "logger": False, argument: component})
    assert_says(caught.value, error, said)


@pytest.mark.usefixtures("nothing_written")
@pytest.mark.parametrize(("arguments", "error", "said"), OF_FABRIC)
def test_an_argument_of_a_fabric(arguments: dict[str, Any], error: type[Exception], said: tuple[str, ...]) -> None:
    with pytest.raises(error) as caught:
        Fabric(**{"accelerator": "cpu", **arguments})
    assert_says(caught.value, error, said)


@pytest.mark.usefixtures("nothing_written")
@pytest.mark.parametrize(("method", "args", "kwargs", "error", "said"), CALLS_OF_FABRIC)
def test_what_a_method_of_a_fabric_is_passed(
    method: str, args: tuple[Any, ...], kwargs: dict[str, Any], error: type[Exception], said: tuple[str, ...]
) -> None:
    with pytest.raises(error) as caught:
        getattr(Fabric(accelerator="cpu"), method)(*args, **kwargs)
    assert_says(caught.value, error, said)


@pytest.mark.usefixtures("nothing_written")
@pytest.mark.parametrize(("entry_point", "arguments", "error", "said"), CALLS_OF_TRAINER)
def test_what_an_entry_point_is_passed(entry_point: str, arguments: dict[str, Any], error: type[Exception], said: tuple[str, ...]) -> None:
    trainer = Trainer(accelerator="cpu", max_epochs=1, **QUIET)
    with pytest.raises(error) as caught:
        getattr(trainer, entry_point)(Module(), TinyDataModule().train_dataloader(), **arguments)
    assert_says(caught.value, error, said)


# -- how many --------------------------------------------------------------------------------------------------------------------


def test_there_are_as_many_as_are_promised(told: Any) -> None:
    """12 kinds of broken plugin, and 60 bad arguments; those of a Trainer are tried in tests/together/test_bad_arguments.py."""
    of_trainers = len(OUT_OF_RANGE) + len(OF_ANOTHER_TYPE) + len(EXCLUDE_EACH_OTHER)
    of_others = len(COMPONENTS) + len(OF_FABRIC) + len(CALLS_OF_FABRIC) + len(CALLS_OF_TRAINER)
    assert len(KINDS) >= 12
    assert of_trainers >= 60
    assert of_others >= 60
    told(f"{len(KINDS)} kinds of broken plugin, {of_trainers + of_others} bad arguments")


def test_nearly_all_of_them_have_a_class_of_lx() -> None:
    """A builtin class is enough where the name of what was called is in the message, and is never the only one of a table."""
    tables = (COMPONENTS, OF_FABRIC, CALLS_OF_FABRIC, CALLS_OF_TRAINER)
    classes = [column for table in tables for row in table for column in row if inspect.isclass(column)]
    assert len([error for error in classes if not issubclass(error, LxError)]) <= 1
    named = {name for name, error in vars(errors).items() if inspect.isclass(error) and issubclass(error, LxError)}
    assert len({error.__name__ for error in classes} & named) >= 9
