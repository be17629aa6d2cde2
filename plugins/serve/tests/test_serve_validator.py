"""The validator, with a server in a process of its own: what it finds, what it refuses, and that no process is left."""

import multiprocessing
import socket
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from lx import Trainer
from lx.interfaces.strategy import StrategyCapabilities
from lx.kernel.errors import MisconfigurationException
from lx.testing.models import TinyDataModule, TinyModule
from lx_plugin_serve import ServableModuleValidator, ServerError


def validate(model: Any, folder: Path, **arguments: Any) -> ServableModuleValidator:
    """Fits a model for a step, with a validator."""
    callback = ServableModuleValidator(**{"port": 0, "timeout": 120, **arguments})
    try:
        Trainer(max_steps=1, callbacks=[callback], logger=False, enable_checkpointing=False, default_root_dir=folder).fit(
            model, datamodule=TinyDataModule()
        )
    finally:
        assert multiprocessing.active_children() == []
    return callback


def test_a_model_that_can_be_served(models: Any, tmp_path: Path) -> None:
    model = models.Good()
    callback = validate(model, tmp_path)
    assert callback.successful is True
    assert (callback.resp.status_code, callback.resp.json()) == (200, model.expected)
    assert callback.state_dict() == {"successful": True, "optimization": None, "server": "fastapi"}
    assert model.training
    assert not any(weight.is_shared() for weight in model.parameters())


@pytest.mark.usefixtures("served_in_a_thread")
def test_a_model_that_answers_otherwise(models: Any, tmp_path: Path) -> None:
    with pytest.raises(ServerError, match=r"Different answers \{'size': 1, .*\} to configure_payload\(\), and .* expects \{'size': 2\}"):
        validate(models.Different(), tmp_path, exit_on_failure=False)


@pytest.mark.usefixtures("served_in_a_thread")
def test_a_model_that_fails_shows_its_traceback(models: Any, tmp_path: Path) -> None:
    with pytest.raises(MisconfigurationException, match=r"(?s)Failing cannot be served, it answers 500:.*no such number"):
        validate(models.Failing(), tmp_path)


@pytest.mark.usefixtures("served_in_a_thread")
def test_a_model_that_fails_may_be_trained_all_the_same(models: Any, tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="Failing cannot be served"):
        callback = validate(models.Failing(), tmp_path, exit_on_failure=False)
    assert callback.successful is False
    assert callback.resp.status_code == 500


def test_a_server_that_dies_while_it_is_asked(models: Any, tmp_path: Path) -> None:
    with pytest.raises(ServerError, match=r"/serve was not answered within 120 seconds: "):
        validate(models.Dying(), tmp_path)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (lambda models: TinyModule(), r"TinyModule is no ServableModule"),
        (lambda models: models.NoBody(), r'configure_payload\(\) of NoBody must return a mapping with the inputs under "body"'),
        (lambda models: models.NoJSON(), r"configure_payload\(\) of NoJSON must return what JSON knows"),
    ],
)
def test_what_is_wrong_is_said_before_a_process_is_started(model: Any, message: str, models: Any, tmp_path: Path) -> None:
    kind = TypeError if "no Servable" in message else MisconfigurationException
    with pytest.raises(kind, match=message):
        validate(model(models), tmp_path)


def test_a_port_that_is_taken(models: Any, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(MisconfigurationException, match=rf"port={port}: no server can listen there: .*0 finds a free one"):
            validate(models.Good(), tmp_path, port=port)


@pytest.mark.parametrize("sharded", ["declared", "distributed"])
def test_a_sharded_model(sharded: str, models: Any) -> None:
    model = models.Good()
    if sharded == "distributed":
        model.layer.weight = nn.Parameter(torch.zeros(1).as_subclass(type("Sharded", (torch.Tensor,), {"to_local": None})))
    strategy = SimpleNamespace(capabilities=StrategyCapabilities(restores_after_setup=sharded == "declared"))
    with pytest.raises(MisconfigurationException, match=r"SimpleNamespace shards the weights of Good"):
        ServableModuleValidator().on_train_start(SimpleNamespace(is_global_zero=True, strategy=strategy), model)


def test_other_ranks_do_nothing() -> None:
    callback = ServableModuleValidator()
    callback.on_train_start(SimpleNamespace(is_global_zero=False), TinyModule())
    assert (callback.successful, callback.resp) == (None, None)


@pytest.mark.parametrize("argument", [{"optimization": "onnx"}, {"server": "ray"}])
def test_what_is_not_there_yet(argument: dict[str, str]) -> None:
    (name,) = argument
    with pytest.raises(NotImplementedError, match=rf"{name}={argument[name]!r}: only "):
        ServableModuleValidator(**argument)


@pytest.mark.parametrize("package", ["fastapi", "uvicorn"])
def test_what_is_not_installed(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ModuleNotFoundError, match=rf"needs {package}, which is not installed: `pip install fastapi uvicorn`"):
        ServableModuleValidator()
