"""What save_hyperparameters keeps, and what load_from_checkpoint makes of a file, are what they are in Lightning, case by case."""

import dataclasses
import inspect
import warnings
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoint_runs import plain
from sides import SIDES
from torch import nn

Case = Callable[[Any], Any]


def saved(signature: str, save: str, call: str = "") -> Case:
    """The hyperparameters of a module whose `__init__` has a signature, saves some, and is called so."""

    def case(api: Any) -> Any:
        names: dict[str, Any] = {"api": api, "Namespace": Namespace, "nn": nn, "dataclasses": dataclasses}
        exec(f"class Net(api.LightningModule):\n def __init__(self, {signature}):\n  super().__init__()\n  {save}\n", names)
        module = eval(f"Net({call})", names)
        return dict(module.hparams), dict(module.hparams_initial)

    return case


def of_a_chain(api: Any) -> Any:
    class Base(api.LightningModule):  # type: ignore[misc]
        def __init__(self, b: int = 1, shared: int = 0, **more: Any) -> None:
            super().__init__()
            self.save_hyperparameters()

    class Ignores(Base):
        def __init__(self, c: int = 2, **more: Any) -> None:
            super().__init__(**more)
            self.save_hyperparameters(ignore="shared")

    class Silent(Base):
        def __init__(self, c: int = 2, **more: Any) -> None:
            super().__init__(shared=9, **more)

    return dict(Ignores(b=5, shared=7, t=8).hparams), dict(Silent(b=5).hparams)


def of_a_dataclass(api: Any) -> Any:
    @dataclasses.dataclass
    class Net(api.LightningModule):  # type: ignore[misc]
        x: int = 1
        y: list[int] = dataclasses.field(default_factory=list)

        def __post_init__(self) -> None:
            super().__init__()
            self.save_hyperparameters()

    return dict(Net(3).hparams)


def changed_later(api: Any) -> Any:
    class Net(api.LightningModule):  # type: ignore[misc]
        def __init__(self, numbers: list[int]) -> None:
            super().__init__()
            self.save_hyperparameters()

    module = Net([1])
    module.hparams.numbers.append(2)
    module.hparams.more = 3
    return dict(module.hparams), dict(module.hparams_initial)


def of_a_frame(api: Any) -> Any:
    def save(module: Any, frame: Any) -> None:
        module.save_hyperparameters(frame=frame)

    class Net(api.LightningModule):  # type: ignore[misc]
        def __init__(self, x: int = 1) -> None:
            super().__init__()
            save(self, inspect.currentframe())

    return dict(Net(5).hparams)


SAVED: dict[str, Case] = {
    "all, and those gathered by name": saved("x=1, y=2, *args, **kwargs", "self.save_hyperparameters()", "3, z=5"),
    "some": saved("x=1, y=2", "self.save_hyperparameters('x')"),
    "one that was gathered": saved("x=1, **kwargs", "self.save_hyperparameters('z')", "z=4"),
    "all but one": saved("x=1, y=2", "self.save_hyperparameters(ignore='x')"),
    "all but some, one of them unknown": saved("x=1, y=2", "self.save_hyperparameters(ignore=['x', 'nope'])"),
    "a dictionary": saved("hp", "self.save_hyperparameters(hp)", "{'a': 1}"),
    "a dictionary but a key": saved("hp", "self.save_hyperparameters(hp, ignore='a')", "{'a': 1, 'b': 2}"),
    "a dictionary that is no argument": saved("x=1", "self.save_hyperparameters({'b': 2})"),
    "a namespace": saved("hp", "self.save_hyperparameters(hp)", "Namespace(a=1)"),
    "an empty one": saved("x=1", "self.save_hyperparameters({})"),
    "None": saved("x=1", "self.save_hyperparameters(None)"),
    "twice": saved("x=1", "self.save_hyperparameters('x'); self.save_hyperparameters({'n': 1})"),
    "two dictionaries, one after the other": saved("x=1", "self.save_hyperparameters({'m': 1}); self.save_hyperparameters({'n': 1})"),
    "not for loggers": saved("x=1", "self.save_hyperparameters(logger=False)"),
    "a number": saved("x=1", "self.save_hyperparameters(3)"),
    "a list": saved("x=1", "self.save_hyperparameters([1])"),
    "a dataclass": saved("x=1", "self.save_hyperparameters(dataclasses.make_dataclass('D', ['p'])(3))"),
    "a chain of classes": of_a_chain,
    "a module that is a dataclass": of_a_dataclass,
    "what is changed later": changed_later,
    "a frame": of_a_frame,
}


def outcome(case: Case, api: Any) -> Any:
    """What a case gives, or the builtin exception that it ends with."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return case(api)
        except Exception as error:
            return next(kind.__name__ for kind in type(error).__mro__ if kind.__module__ == "builtins" and kind is not Exception)


@pytest.mark.parametrize("case", SAVED)
def test_hyperparameters_are_kept_as_by_lightning(case: str) -> None:
    mine, theirs = (outcome(SAVED[case], api) for api in SIDES.values())
    assert mine == theirs


def net(api: Any, strict: bool | None = None, extra: bool = False) -> Any:
    """A class of modules; with `extra`, it has a layer that is not in the file."""

    class Net(api.LightningModule):  # type: ignore[misc]
        def __init__(self, width: int = 2, name: str = "net") -> None:
            super().__init__()
            self.save_hyperparameters()
            self.layer = nn.Linear(width, 1)
            if extra:
                self.extra = nn.Linear(1, 1)
            if strict is not None:
                self.strict_loading = strict

    return Net


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Files of checkpoints and of hyperparameters."""
    weights = {"layer.weight": torch.ones(1, 2), "layer.bias": torch.zeros(1)}
    content = {"state_dict": weights, "pytorch-lightning_version": "2.6.0", "epoch": 0, "global_step": 0}
    content |= {"hyper_parameters": {"width": 2, "name": "saved"}, "hparams_name": "kwargs"}
    torch.save(content, tmp_path / "a.ckpt")
    for name, noted in (("class", {"_class_path": "os.system"}), ("maker", {"_class_path": "x.Y", "_instantiator": "os.system"})):
        torch.save({**content, "hyper_parameters": {"width": 2, **noted}}, tmp_path / f"{name}.ckpt")
    noted = {"_class_path": "os.system", "_instantiator": "lightning.pytorch.cli.instantiate_module"}
    torch.save({**content, "hyper_parameters": {"width": 2, **noted}}, tmp_path / "command.ckpt")
    torch.save({key: value for key, value in content.items() if "hparams" not in key and "hyper" not in key}, tmp_path / "bare.ckpt")
    (tmp_path / "h.yaml").write_text("width: 2\nname: yaml\nmore: 3\n")
    (tmp_path / "h.csv").write_text("key,value\nwidth,2\nname,csv\n")
    return tmp_path


LOADED: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "as it is": ("a.ckpt", {}, {}),
    "with another argument": ("a.ckpt", {"name": "other"}, {}),
    "with an argument that there is not": ("a.ckpt", {"bogus": 1}, {}),
    "with another shape": ("a.ckpt", {"width": 3}, {}),
    "hyperparameters from YAML": ("a.ckpt", {"hparams_file": "h.yaml"}, {}),
    "hyperparameters from CSV": ("a.ckpt", {"hparams_file": "h.csv"}, {}),
    "hyperparameters from text": ("a.ckpt", {"hparams_file": "h.txt"}, {}),
    "without hyperparameters": ("bare.ckpt", {}, {}),
    "no file": ("nope.ckpt", {}, {}),
    "a folder": (".", {}, {}),
    "a class that is named": ("class.ckpt", {}, {}),
    "a maker that is named": ("maker.ckpt", {}, {}),
    "a class that is named by the command line": ("command.ckpt", {}, {}),
    **{
        f"strict={asked}, strict_loading={said}": ("a.ckpt", {"strict": asked}, {"extra": True, "strict": said})
        for asked in (None, True, False)
        for said in (None, True, False)
    },
}
"""The file, the arguments of load_from_checkpoint, and those of the class."""

OTHERWISE = {"a folder": "RuntimeError"}
"""What lx raises is an IsADirectoryError, too."""


@pytest.mark.parametrize("case", LOADED)
def test_modules_are_made_as_by_lightning(case: str, folder: Path) -> None:
    file, arguments, of = LOADED[case]
    if "hparams_file" in arguments:
        arguments = {"hparams_file": str(folder / arguments["hparams_file"])}

    def load(api: Any) -> Any:
        module = net(api, **of).load_from_checkpoint(folder / file, **arguments)
        return dict(module.hparams), plain({name: value for name, value in module.state_dict().items() if "extra" not in name})

    mine, theirs = (outcome(load, api) for api in SIDES.values())
    assert mine == OTHERWISE.get(case, theirs)


def test_it_is_a_method_of_the_class(folder: Path) -> None:
    assert [outcome(lambda api: net(api)().load_from_checkpoint(folder / "a.ckpt"), api) for api in SIDES.values()] == ["TypeError"] * 2
