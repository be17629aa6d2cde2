"""Which checkpoint I/O reads a file that no Trainer chose one for."""

from pathlib import Path
from typing import Any

import pytest

import lx.module_loading
from lx.kernel.errors import NotInstalledError
from lx.module_loading import checkpoint_io_for
from lx.testing import FakeCheckpointIO, fake_plugin_manager


class Other(FakeCheckpointIO):
    """Recognises files by how they begin."""

    def recognises(self, path: Any) -> bool:
        return Path(path).is_file() and Path(path).read_bytes().startswith(b"other")


class Broken(FakeCheckpointIO):
    """Cannot be made."""

    def __init__(self) -> None:
        raise RuntimeError("no device")


@pytest.fixture
def manager(monkeypatch: pytest.MonkeyPatch) -> Any:
    manager = fake_plugin_manager({"checkpoint_io": {"a_broken": Broken, "other": Other}})
    manager.registry.checkpoint_io.add("an_absent", "no_such_module:Class")
    monkeypatch.setattr(lx.module_loading, "default_manager", lambda: manager)
    return manager


def test_the_one_that_recognises_a_file_reads_it(manager: Any, tmp_path: Path) -> None:
    path = tmp_path / "a.ckpt"
    path.write_bytes(b"other than the default")
    for given in (path, str(path), f"file://{path}"):
        assert type(checkpoint_io_for(given)) is Other
    path.write_bytes(b"what nobody recognises")
    for given in (path, tmp_path, tmp_path / "none.ckpt", "s3://bucket/a.ckpt"):
        assert type(checkpoint_io_for(given)) is FakeCheckpointIO


def test_a_file_that_is_recognised_needs_no_default(manager: Any, tmp_path: Path) -> None:
    manager.registry.checkpoint_io.remove("fake")
    path = tmp_path / "a.ckpt"
    path.write_bytes(b"other than the default")
    assert type(checkpoint_io_for(path)) is Other
    with pytest.raises(NotInstalledError, match="pip install lx-standard"):
        checkpoint_io_for(tmp_path / "none.ckpt")
