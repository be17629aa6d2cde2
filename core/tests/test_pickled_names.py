"""Files with classes that are not here, or that torch does not know: what of them is read, and that nothing of theirs is run."""

import io
import pathlib
import pickle
import sys
import types
from argparse import Namespace
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Any

import pytest
import torch

from lx.checkpoints.pickled_names import reading
from lx.hparams.mixin import AttributeDict

RAN: list[str] = []


class Runs:
    """Its unpickling runs code."""

    def __reduce__(self) -> Any:
        return RAN.append, ("ran",)


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    """Makes classes of another library, which are gone as soon as a file is written."""

    def make(module: str, **classes: type[Any]) -> dict[str, Any]:
        parts = module.split(".")
        for count in range(len(parts)):
            monkeypatch.setitem(sys.modules, ".".join(parts[: count + 1]), types.ModuleType(".".join(parts[: count + 1])))
        for name, made in classes.items():
            made.__module__, made.__qualname__, made.__name__ = module, name, name
            setattr(sys.modules[module], name, made)
        return dict(classes)

    return make


def written(content: Any) -> io.BytesIO:
    """A file, after which the classes of other libraries are gone."""
    file = io.BytesIO()
    torch.save(content, file)
    file.seek(0)
    for name in [name for name in sys.modules if name.startswith(("pytorch_lightning", "lightning"))]:
        del sys.modules[name]
    return file


def load(file: io.BytesIO, safely: bool = True) -> Any:
    return reading(lambda: torch.load(file, weights_only=safely), file, safely)


both_ways = pytest.mark.parametrize("safely", [True, False])


@both_ways
def test_classes_as_keys(elsewhere: Any, safely: bool) -> None:
    made = elsewhere("pytorch_lightning.callbacks.early_stopping", EarlyStopping=type("EarlyStopping", (), {}))
    (found,) = load(written({made["EarlyStopping"]: {"wait_count": 3}}), safely).items()
    assert (found[0].__qualname__, found[1]) == ("EarlyStopping", {"wait_count": 3})
    assert not [name for name in sys.modules if name.startswith("pytorch_lightning")], "the stand-ins are gone again"


@both_ways
def test_members_of_enumerations_are_their_values(elsewhere: Any, safely: bool) -> None:
    class Stage(StrEnum):
        """As in Lightning."""

        TRAINING = "train"

    elsewhere("lightning.pytorch.trainer.states", RunningStage=Stage)
    assert load(written({Stage.TRAINING: [Stage.TRAINING]}), safely) == {"train": ["train"]}


@both_ways
@pytest.mark.parametrize("module", ["pytorch_lightning.utilities.parsing", "lightning.fabric.utilities.data"])
def test_dictionaries_with_attributes(elsewhere: Any, module: str, safely: bool) -> None:
    Theirs = elsewhere(module, AttributeDict=type("AttributeDict", (dict,), {}))["AttributeDict"]
    content = {"hyper_parameters": Theirs(a=1, b=[Theirs(c=2)], d={"e": (Theirs(f=3),)}), "other": Theirs(g=4)}
    found = load(written(content), safely)
    hparams = found["hyper_parameters"]
    assert (hparams.a, hparams.b[0].c, hparams.d["e"][0].f) == (1, 2, 3)
    assert type(hparams.d) is dict
    assert found["other"] == {"g": 4}


def test_dictionaries_with_attributes_of_lx() -> None:
    found = load(written({"hyper_parameters": {"model": AttributeDict(width=2)}}))
    assert found["hyper_parameters"]["model"].width == 2
    assert type(found["hyper_parameters"]["model"]) is AttributeDict


@pytest.mark.parametrize("value", [Namespace(a=1, b=Namespace(c=2)), Path("data") / "train", pathlib.PosixPath("/")])
def test_what_is_harmless_among_hyperparameters(value: Any) -> None:
    found = load(written({"hyper_parameters": {"value": value}}))["hyper_parameters"]["value"]
    assert found == value
    assert type(found) is type(value)


def test_objects_of_classes_that_are_gone_are_empty_and_warned_of(elsewhere: Any) -> None:
    made = elsewhere("pytorch_lightning.loggers.csv_logs", CSVLogger=type("CSVLogger", (), {"save": lambda self: RAN.append("save")}))
    logger = made["CSVLogger"]()
    logger.folder = "logs"
    with pytest.warns(UserWarning, match=r"objects of pytorch_lightning.loggers.csv_logs.CSVLogger, which is not here"):
        found = load(written({"logger": logger}))["logger"]
    assert found.folder == "logs"
    assert not hasattr(found, "save")


def test_everything_else_is_refused_and_not_run(elsewhere: Any) -> None:
    RAN.clear()
    made = elsewhere("pytorch_lightning.callbacks.timer", Timer=type("Timer", (), {}))
    for content in ({made["Timer"]: 1, "a": Runs()}, {"a": Runs()}, {"a": Namespace(b=Runs())}):
        with pytest.raises(pickle.UnpicklingError, match=r"append|getattr"):
            load(written(content))
    assert RAN == []


def test_a_stand_in_runs_nothing(elsewhere: Any) -> None:
    """A name in the pickle is all that is taken from it: not even a function of that name is called."""
    RAN.clear()

    class Called:
        """Is made by a function of a library."""

        def __reduce__(self) -> Any:
            return sys.modules["pytorch_lightning.tools"].run, (1, 2)

    def run(*args: Any) -> None:
        RAN.append("ran")

    elsewhere("pytorch_lightning.tools", run=run)  # type: ignore[arg-type]
    with pytest.warns(UserWarning, match="objects of pytorch_lightning.tools.run"):
        load(written({"a": Called()}))
    assert RAN == []


def test_a_file_is_read_once_where_that_is_enough_or_nothing_helps(tmp_path: Path) -> None:
    reads = []

    def fails() -> Any:
        reads.append(1)
        raise FileNotFoundError("nope")

    with pytest.raises(FileNotFoundError):
        reading(fails, tmp_path / "nope.ckpt", True)
    with pytest.raises(FileNotFoundError):
        reading(fails, written({"a": 1}), True)
    assert reading(lambda: reads.append(1), "any", True) is None
    assert len(reads) == 3
