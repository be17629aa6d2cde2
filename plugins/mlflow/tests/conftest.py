"""MLflow without its reports of usage, and a database that need not be made anew for each test."""

import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from lx_plugin_mlflow.store import Store

os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"  # read when MLflow is imported


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database as MLflow makes it, which takes it seconds."""
    folder = tmp_path_factory.mktemp("database")
    Store(None, folder).connect().search_experiments()
    return folder / "mlflow.db"


@pytest.fixture
def uri(empty_database: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The URI of an empty database."""
    return f"sqlite:///{shutil.copy(empty_database, tmp_path_factory.mktemp('database'))}"


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fails where anything is looked up or connected to, also by a thread."""
    tried = []

    def refuse(*args: object, **kwargs: object) -> None:
        tried.append(args)
        raise OSError(f"a test of the logger went to the network: {args}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    yield
    assert not tried


@pytest.fixture(autouse=True)
def no_uri(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs go where a test says."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("MLFLOW_ALLOW_FILE_STORE", raising=False)
