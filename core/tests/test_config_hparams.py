"""Hyperparameters that are configurations, with a stand-in for OmegaConf: plain in the file, and configurations again when it is read."""

import copy
import io
import sys
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from lx import LightningModule
from lx.hparams.configurations import pack, unpack


class Config(dict[str, Any]):
    """Stands for a DictConfig: a mapping whose keys are attributes."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None


class OmegaConf:
    """The part of OmegaConf that is used, of which `to_container` fails for references that cannot be resolved."""

    @staticmethod
    def is_config(value: Any) -> bool:
        return isinstance(value, Config)

    @staticmethod
    def create(value: dict[str, Any]) -> Config:
        return Config({name: OmegaConf.create(inner) if isinstance(inner, dict) else inner for name, inner in value.items()})

    @staticmethod
    def to_container(value: Any, resolve: bool) -> Any:
        if resolve and "${gone}" in value.values():
            raise KeyError("gone")
        return {name: OmegaConf.to_container(inner, resolve) if isinstance(inner, dict) else inner for name, inner in value.items()}

    @staticmethod
    def masked_copy(value: Config, keys: list[str]) -> Config:
        return Config({name: copy.deepcopy(value[name]) for name in keys})


@pytest.fixture(autouse=True)
def library(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has OmegaConf installed and imported."""
    monkeypatch.setitem(sys.modules, "omegaconf", SimpleNamespace(OmegaConf=OmegaConf))  # type: ignore[arg-type]


class Whole(LightningModule):
    """One configuration holds all."""

    def __init__(self, cfg: Config, **ignore: Any) -> None:
        super().__init__()
        self.save_hyperparameters(cfg, **ignore)
        self.layer = torch.nn.Linear(cfg.model.width, 1)


class Part(LightningModule):
    """One argument of several is a configuration."""

    def __init__(self, cfg: Config, rate: float = 0.1) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.layer = torch.nn.Linear(cfg.model.width, 1)


CONTENT: dict[str, Any] = {"model": {"width": 2}, "seed": 3}


def file_of(module: Any) -> io.BytesIO:
    """The checkpoint of a module, as a Trainer writes it."""
    packed, names = pack(module.hparams)
    file = io.BytesIO()
    content = {"hparams_name": module.hparams_name, "hyper_parameters": packed, "hparams_configurations": names}
    torch.save({"state_dict": module.state_dict(), **content}, file)
    file.seek(0)
    return file


def test_a_configuration_that_holds_all_stays_one() -> None:
    given = OmegaConf.create(CONTENT)
    module = Whole(given)
    assert type(module.hparams) is type(module.hparams_initial) is Config
    assert module.hparams is not given
    module.hparams["seed"] = 4
    assert (given.seed, module.hparams_initial.seed) == (3, 3)
    read = Whole.load_from_checkpoint(file_of(module))
    assert type(read.hparams) is Config
    assert (read.hparams.model.width, read.hparams.seed) == (2, 4)


def test_arguments_of_the_call_go_into_it() -> None:
    assert Whole.load_from_checkpoint(file_of(Whole(OmegaConf.create(CONTENT))), seed=5).hparams.seed == 5


def test_names_to_ignore_are_left_out_and_later_calls_add_up() -> None:
    module = Whole(OmegaConf.create(CONTENT), ignore=["seed"])
    assert dict(module.hparams) == {"model": {"width": 2}}
    module.save_hyperparameters({"more": 1})
    assert dict(module.hparams) == {"model": {"width": 2}, "more": 1}


def test_one_among_other_arguments_is_one_again() -> None:
    module = Part(OmegaConf.create(CONTENT), rate=0.2)
    file = file_of(module)
    assert torch.load(file, weights_only=True)["hyper_parameters"] == {"cfg": CONTENT, "rate": 0.2}, "a file that is read safely"
    file.seek(0)
    read = Part.load_from_checkpoint(file)
    assert type(read.hparams.cfg) is Config
    assert read.hparams.rate == 0.2


def test_references_that_cannot_be_resolved_stay_references() -> None:
    assert pack({"cfg": Config(a="${gone}")}) == ({"cfg": {"a": "${gone}"}}, ["cfg"])


def test_without_the_library_they_come_as_dictionaries_with_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "omegaconf", None)  # type: ignore[arg-type]
    with pytest.warns(UserWarning, match="hyperparameters of OmegaConf, which come as plain dictionaries; `pip install omegaconf`"):
        assert unpack({"cfg": CONTENT}, ["cfg"]) == {"cfg": CONTENT}
    assert pack({"cfg": CONTENT}) == ({"cfg": CONTENT}, [])
