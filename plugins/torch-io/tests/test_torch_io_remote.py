"""Checkpoints at URLs, in a file system of fsspec that lies in memory, and what is said where one cannot be reached."""

import argparse
import datetime as dt
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from lx.kernel.errors import CheckpointCorruptError, CheckpointError, CheckpointNotFoundError, MisconfigurationException
from lx.urls import local_or_url
from lx_plugin_torch_io.checkpoint_io import TorchCheckpointIO

fsspec = pytest.importorskip("fsspec", reason="needs fsspec")
CONTENT = {"epoch": 3, "state_dict": {"weight": torch.arange(4.0)}}


@pytest.fixture
def memory() -> Any:
    """The file system, empty."""
    files = fsspec.filesystem("memory")
    files.store.clear()
    files.pseudo_dirs[:] = [""]
    return files


@pytest.mark.parametrize("url", ["memory://bucket/runs/a.ckpt", Path("memory://bucket/runs/a.ckpt"), "MEMORY://bucket/runs/a.ckpt"])
def test_a_checkpoint_is_written_read_and_removed(memory: Any, url: str | Path) -> None:
    io = TorchCheckpointIO()
    io.save_checkpoint(CONTENT, url)
    assert memory.exists("/bucket/runs/a.ckpt")
    found = io.load_checkpoint(url)
    assert found["epoch"] == 3
    assert torch.equal(found["state_dict"]["weight"], CONTENT["state_dict"]["weight"])  # type: ignore[index]
    io.remove_checkpoint(url)
    io.remove_checkpoint(url)
    assert not memory.exists("/bucket/runs/a.ckpt")


def test_what_cannot_be_pickled_leaves_the_old_one(memory: Any) -> None:
    io = TorchCheckpointIO()
    io.save_checkpoint(CONTENT, "memory://a.ckpt")
    with pytest.raises(Exception, match="pickle"):
        io.save_checkpoint({"a": lambda: 0}, "memory://a.ckpt")
    assert io.load_checkpoint("memory://a.ckpt")["epoch"] == 3


def test_what_is_not_there_or_damaged(memory: Any) -> None:
    with pytest.raises(CheckpointNotFoundError, match=r"there is no checkpoint 'memory://nope\.ckpt'"):
        TorchCheckpointIO().load_checkpoint("memory://nope.ckpt")
    memory.pipe("/damaged.ckpt", b"damaged")
    with pytest.raises(CheckpointCorruptError) as caught:
        TorchCheckpointIO().load_checkpoint("memory://damaged.ckpt")
    assert caught.value.__notes__[0].endswith("was a copy of 'memory://damaged.ckpt'.")


class RunsCode:
    def __reduce__(self) -> Any:
        return print, ("code of the file runs",)


def test_nothing_in_a_file_at_a_url_runs(memory: Any, capsys: pytest.CaptureFixture[str]) -> None:
    for url in ("memory://a.ckpt", Path("memory://a.ckpt")):
        with memory.open("/a.ckpt", "wb") as file:
            torch.save({"thing": RunsCode()}, file)
        with pytest.raises(CheckpointError, match="print"):
            TorchCheckpointIO().load_checkpoint(url)
    assert "code of the file" not in capsys.readouterr().out


def test_damage_at_a_url_is_found(memory: Any) -> None:
    TorchCheckpointIO().save_checkpoint({"options": argparse.Namespace(lr=0.1)}, "memory://a.ckpt")
    assert TorchCheckpointIO().load_checkpoint("memory://a.ckpt") == {"options": argparse.Namespace(lr=0.1)}
    content = bytearray(memory.cat("/a.ckpt"))
    content[100] ^= 1
    memory.pipe("/a.ckpt", bytes(content))
    with pytest.raises(CheckpointCorruptError, match=r"a\.ckpt.*digest differ") as caught:
        TorchCheckpointIO().load_checkpoint("memory://a.ckpt")
    assert "memory://a.ckpt" in caught.value.__notes__[0]


def test_what_lies_at_a_url_can_be_asked(memory: Any) -> None:
    io = TorchCheckpointIO()
    assert not io.exists("memory://bucket/runs")
    assert io.list_folder("memory://bucket/runs") == []
    for name in ("b.ckpt", "a.ckpt", "deeper/c.ckpt"):
        io.save_checkpoint(CONTENT, f"memory://bucket/runs/{name}")
    assert io.exists(Path("memory://bucket/runs"))
    assert io.list_folder("memory://bucket/runs/") == ["a.ckpt", "b.ckpt", "deeper"]
    memory.store["/bucket/runs/a.ckpt"].modified = dt.datetime(2030, 1, 1)  # some storages leave UTC unsaid
    assert io.modified("memory://bucket/runs/a.ckpt") == 1893456000
    assert 0 < io.modified("memory://bucket/runs/b.ckpt") < 1893456000
    with pytest.raises(FileNotFoundError):
        io.modified("memory://bucket/runs/d.ckpt")


def test_a_storage_that_keeps_no_times(memory: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(type(memory), "modified")
    with pytest.raises(MisconfigurationException, match=r"the storage of 'memory://a\.ckpt' does not say when files were written"):
        TorchCheckpointIO().modified("memory://a.ckpt")


def test_a_folder_that_a_store_of_objects_lists_itself(memory: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "ls", lambda name, detail: [f"{name}/", f"{name}/a.ckpt", f"{name}/deeper/"])
    assert TorchCheckpointIO().list_folder("memory://bucket/runs") == ["a.ckpt", "deeper"]


def test_a_file_url_is_a_local_path(tmp_path: Path) -> None:
    TorchCheckpointIO().save_checkpoint(CONTENT, f"file://{tmp_path}/a.ckpt")
    assert TorchCheckpointIO().load_checkpoint(Path(f"file://{tmp_path}/a.ckpt"))["epoch"] == 3
    assert (tmp_path / "a.ckpt").exists()


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("s3://bucket/a", "s3://bucket/a"),
        (Path("gs+zip://x"), "gs+zip://x"),
        ("s3://bucket/runs/", "s3://bucket/runs"),
        ("memory://", "memory://"),
        ("C:/a.ckpt", Path("C:/a.ckpt")),
        ("a:b.ckpt", Path("a:b.ckpt")),
        ("step: 1/a", Path("step: 1/a")),
    ],
)
def test_what_is_a_url(path: Any, expected: Any) -> None:
    assert local_or_url(path) == expected


def each_call(io: TorchCheckpointIO, url: str) -> list[Callable[[], Any]]:
    looks = [lambda: io.exists(url), lambda: io.list_folder(url), lambda: io.modified(url)]
    return [lambda: io.save_checkpoint({}, url), lambda: io.load_checkpoint(url), lambda: io.remove_checkpoint(url), *looks]


def test_a_protocol_that_nobody_knows() -> None:
    for call in each_call(TorchCheckpointIO(), "acme://bucket/a.ckpt"):
        with pytest.raises(MisconfigurationException, match=r"'acme://bucket/a.ckpt' is a URL that cannot be used here: .*acme.* copy the"):
            call()


def test_without_fsspec(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fsspec", None)  # type: ignore[arg-type]
    for call in each_call(TorchCheckpointIO(), "s3://bucket/a.ckpt"):
        with pytest.raises(MisconfigurationException, match="'torch_io' uses through fsspec; `pip install fsspec` and"):
            call()
