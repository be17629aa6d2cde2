import errno
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
import torch

from lx_plugin_torch_io.checkpoint_io import TorchCheckpointIO

OLD, NEW = {"epoch": 1}, {"epoch": 2, "weight": torch.ones(1000)}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "last.ckpt"
    TorchCheckpointIO().save_checkpoint(OLD, path)
    return path


def assert_untouched(path: Path) -> None:
    assert TorchCheckpointIO().load_checkpoint(path) == OLD
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("options", [{}, {"key": 1}, False])
def test_storage_options_are_refused(path: Path, options: Any) -> None:
    with pytest.raises(TypeError, match=r"storage_options=.*leave it out"):
        TorchCheckpointIO().save_checkpoint(NEW, path, storage_options=options)
    assert_untouched(path)


def test_names_that_look_a_little_like_urls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a:b.ckpt", "val_loss=0.1:0.2/a.ckpt", "C:/a.ckpt", "step: 1/a.ckpt"):
        TorchCheckpointIO().save_checkpoint(OLD, name)
        assert TorchCheckpointIO().load_checkpoint(name) == OLD


def test_a_long_name(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 250 + ".ckpt")
    TorchCheckpointIO().save_checkpoint(OLD, path)
    assert TorchCheckpointIO().load_checkpoint(path) == OLD


def test_the_mode_is_that_of_any_new_file(path: Path) -> None:
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask


def test_a_link_is_replaced_and_not_followed(path: Path) -> None:
    link = path.with_name("link.ckpt")
    link.symlink_to(path.name)
    TorchCheckpointIO().save_checkpoint(NEW, link)
    assert not link.is_symlink()
    assert TorchCheckpointIO().load_checkpoint(path) == OLD
    assert TorchCheckpointIO().load_checkpoint(link)["epoch"] == 2


def test_a_directory_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "sharded" / "inner").mkdir(parents=True)
    with pytest.raises(IsADirectoryError, match="sharded"):
        TorchCheckpointIO().save_checkpoint(NEW, tmp_path / "sharded")
    assert sorted(entry.name for entry in tmp_path.rglob("*")) == ["inner", "sharded"]


def test_a_parent_that_is_a_file(path: Path) -> None:
    with pytest.raises(OSError, match="last") as caught:
        TorchCheckpointIO().save_checkpoint(NEW, path / "inner.ckpt")
    assert "was not written" in caught.value.__notes__[0]
    assert_untouched(path)


@pytest.fixture
def no_privileges(path: Path) -> Iterator[None]:
    """A process that may read the folder of the checkpoint, and not write there."""
    path.parent.chmod(0o555)
    privileged = os.geteuid() == 0  # whom no mode of a folder stops
    if privileged:
        folders = [folder for folder in path.parents if folder.stat().st_uid == 0 and folder.stat().st_mode & 0o011 != 0o011]
        modes = {folder: stat.S_IMODE(folder.stat().st_mode) for folder in folders}
        for folder in folders:
            folder.chmod(modes[folder] | 0o011)
        os.seteuid(65534)
    yield
    if privileged:
        os.seteuid(0)
        for folder, mode in modes.items():
            folder.chmod(mode)
    path.parent.chmod(0o755)


@pytest.mark.usefixtures("no_privileges")
def test_a_folder_that_may_not_be_written_to(path: Path) -> None:
    for target in (path, path.parent / "new" / "last.ckpt"):
        with pytest.raises(PermissionError) as caught:
            TorchCheckpointIO().save_checkpoint(NEW, target)
        assert str(target) in caught.value.__notes__[0]
    assert_untouched(path)


def test_a_full_disk(path: Path) -> None:
    # A limit on the size of files fails as a full disk does, at any write; Python ignores the signal that comes with it.
    code = """
        import errno, resource, sys, torch
        from lx_plugin_torch_io.checkpoint_io import TorchCheckpointIO
        content = {"weight": torch.ones(100_000)}
        _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
        for room in (0, 100, 5_000, 60_000, 399_000):
            resource.setrlimit(resource.RLIMIT_FSIZE, (room, most))
            try:
                TorchCheckpointIO().save_checkpoint(content, sys.argv[1])
            except OSError as error:
                assert error.errno == errno.EFBIG and sys.argv[1] in str(error), error
            else:
                sys.exit(f"with room for {room} bytes nothing was raised")
    """
    done = subprocess.run([sys.executable, "-c", dedent(code), path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert_untouched(path)


def test_a_save_that_is_interrupted(path: Path) -> None:
    class Interrupting:
        def __reduce__(self) -> Any:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        TorchCheckpointIO(allow_objects=True).save_checkpoint({**NEW, "late": Interrupting()}, path)
    assert_untouched(path)


def test_content_is_on_the_disk_before_it_replaces_the_old(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []
    fsync, replace = os.fsync, os.replace

    def synced(descriptor: int) -> None:
        events.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else f"file of {os.fstat(descriptor).st_size}")
        fsync(descriptor)

    def replaced(source: Any, target: Any) -> None:
        events.append("replace")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", replaced)
    TorchCheckpointIO().save_checkpoint(NEW, path)
    assert events == [f"file of {path.stat().st_size}", "replace", "folder"]


def test_a_folder_that_cannot_be_synchronised(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fsync = os.fsync

    def refuse(number: int) -> None:
        def for_folders(descriptor: int) -> None:
            if stat.S_ISDIR(os.fstat(descriptor).st_mode):
                raise OSError(number, os.strerror(number))
            fsync(descriptor)

        monkeypatch.setattr(os, "fsync", for_folders)

    refuse(errno.EINVAL)
    TorchCheckpointIO().save_checkpoint(NEW, path)
    refuse(errno.EIO)
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        TorchCheckpointIO().save_checkpoint(NEW, path)


def test_removal_of_links(path: Path) -> None:
    folder = path.parent / "folder"
    folder.mkdir()
    for name, target in (("to_file", path.name), ("to_folder", "folder"), ("to_nothing", "nothing")):
        (path.parent / name).symlink_to(target)
        TorchCheckpointIO().remove_checkpoint(path.parent / name)
        assert not (path.parent / name).is_symlink()
    assert folder.is_dir()
    assert path.is_file()
