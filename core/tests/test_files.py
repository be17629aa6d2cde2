"""Files that replace others at once, and what is left where a process was killed while it wrote one."""

import errno
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from lx.files import leftovers, replacing
from lx.files.replacing import replaced


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def write(path: Path, content: bytes = b"new") -> None:
    with replaced(path) as file:
        file.write(content)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "a.ckpt"
    write(path, b"old")
    return path


class Full:
    """A file on a disk that is full from some point on."""

    def __init__(self, file: Any, fails_in: str) -> None:
        self.file, self.fails_in = file, fails_in

    def __getattr__(self, name: str) -> Any:
        if name == self.fails_in:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return getattr(self.file, name)

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *error: Any) -> None:
        self.file.close()


@pytest.mark.parametrize("fails_in", ["write", "flush", "fileno", "close"])
def test_a_full_disk_loses_nothing_and_says_where(path: Path, fails_in: str, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = Path.open
    monkeypatch.setattr(leftovers, "_lock", lambda file: True)
    monkeypatch.setattr(Path, "open", lambda self, mode: Full(opened(self, mode), fails_in))
    with pytest.raises(OSError, match=rf"No space left on device: '{path}'") as caught:
        write(path)
    assert caught.value.__notes__ == [f"The checkpoint '{path}' was not written; what was there before is untouched."]
    assert (path.read_bytes(), names(path.parent)) == (b"old", ["a.ckpt"])


@pytest.mark.parametrize("call", ["open", "replace"])
def test_a_permission_that_is_missing_loses_nothing(path: Path, call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, *_: Any) -> Any:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self))

    monkeypatch.setattr(Path, call, refuse)
    with pytest.raises(PermissionError, match=r"Permission denied: '.*\.tmp'") as caught:
        write(path)
    monkeypatch.undo()
    assert f"{str(path)!r} was not written" in caught.value.__notes__[0]
    assert (path.read_bytes(), names(path.parent)) == (b"old", ["a.ckpt"])


def test_new_folders_are_on_the_disk_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[Path] = []
    monkeypatch.setattr(replacing, "sync_folder", synced.append)
    write(tmp_path / "runs" / "version_0" / "a.ckpt")
    assert synced == [tmp_path, tmp_path / "runs", tmp_path / "runs" / "version_0"]


def test_a_folder_in_which_one_may_not_look_around_is_no_obstacle(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = os.open

    def refuse(name: Any, flags: int, *more: Any) -> int:
        if flags & os.O_DIRECTORY:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return opened(name, flags, *more)

    monkeypatch.setattr(os, "open", refuse)
    write(path)
    assert path.read_bytes() == b"new"


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that has begun to write a file, and waits."""
    code = """
        import sys
        from pathlib import Path
        from lx.files.replacing import replaced
        with replaced(Path(sys.argv[1])) as file:
            file.write(b"half")
            file.flush()
            print("begun", flush=True)
            sys.stdin.read()
    """
    command = [sys.executable, "-c", dedent(code), str(tmp_path / "b.ckpt")]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"begun\n"
    yield process
    process.kill()
    process.communicate()


def test_what_a_killed_process_left_goes_with_the_next_save(writer: subprocess.Popen[bytes], path: Path) -> None:
    write(path)
    left = [name for name in names(path.parent) if name.endswith(".tmp")]
    assert len(left) == 1, "it lives, and its file stays"
    assert left[0].startswith(f".b.ckpt.{socket.gethostname().replace('.', '_')}.{writer.pid}.")
    writer.kill()
    writer.communicate()
    write(path)
    assert names(path.parent) == ["a.ckpt"]


def test_a_process_of_another_container_is_known_by_its_lock(
    writer: subprocess.Popen[bytes], path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leftovers, "_is_running", lambda process: False)  # as where its number means nothing
    write(path)
    assert len(names(path.parent)) == 2
    writer.communicate()
    assert names(path.parent) == ["a.ckpt", "b.ckpt"]


def test_files_of_others_stay(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, host = path.parent, leftovers._host()  # type: ignore[attr-defined]
    monkeypatch.setattr(leftovers, "_is_running", lambda process: process == 11)
    ours = {f".a.ckpt.{host}.12.01234567.tmp": False, f".a.ckpt.{host}.11.01234567.tmp": True, f".a.b.ckpt.{host}.12.89abcdef.tmp": False}
    theirs = {
        ".a.ckpt.elsewhere.12.01234567.tmp": True,
        f".a.ckpt.{host}.12.tmp": True,
        "notes.tmp": True,
        f"a.{host}.12.01234567.tmp": True,
    }
    for name in (*ours, *theirs, ".a.ckpt.elsewhere.12.76543210.tmp"):
        (folder / name).touch()
    yesterday = time.time() - leftovers.ABANDONED_AFTER - 60
    os.utime(folder / ".a.ckpt.elsewhere.12.76543210.tmp", (yesterday, yesterday))
    write(path)
    assert names(folder) == sorted(["a.ckpt", *(name for name, stays in {**ours, **theirs}.items() if stays)])


def test_a_process_with_the_number_of_a_dead_one_tidies_up(path: Path) -> None:
    """As in a container, where the program has the same number each time."""
    left = path.parent / f".a.ckpt.{leftovers._host()}.{os.getpid()}.01234567.tmp"  # type: ignore[attr-defined]
    left.touch()
    with replaced(path) as file:
        assert not left.exists()
        write(path.with_name("b.ckpt"))
        file.write(b"not taken for a leftover by the other")
    assert names(path.parent) == ["a.ckpt", "b.ckpt"]


def test_a_folder_that_cannot_be_listed_is_no_reason_not_to_save(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(folder: Any) -> Any:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(os, "scandir", refuse)
    write(path)
    assert path.read_bytes() == b"new"


@pytest.mark.parametrize("number", [1, os.getpid(), 10**30, 2**22 + 1], ids=["the first", "this one", "no number", "none"])
def test_who_runs(number: int) -> None:
    assert leftovers._is_running(number) is (number < 2**22)  # type: ignore[attr-defined]
