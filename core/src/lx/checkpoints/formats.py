"""Which of the installed checkpoint I/Os reads what somebody found at a path, and how it is read without running anything in it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from lx.checkpoints import distributed
from lx.checkpoints.protocol import read
from lx.interfaces.checkpoint_io import CheckpointIO
from lx.kernel.errors import (
    CheckpointCorruptError,
    CheckpointDirectoryError,
    CheckpointError,
    CheckpointNotFoundError,
    NotInstalledError,
)
from lx.kernel.registry import Entry, Registry
from lx.urls import local_or_url

DISTRIBUTED = "distributed"
"""The format of folders of torch.distributed.checkpoint, which belongs to no checkpoint I/O."""

SUFFIXES = (".ckpt", ".pt", ".pth", ".bin")
"""How files are named that the default checkpoint I/O writes, or others in its format."""


Read = Callable[[Path], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Found:
    """A checkpoint at a path, its format, which is the name of a checkpoint I/O or `distributed`, and what reads it."""

    path: Path
    format: str
    outlines: Read
    loads: Read

    def outline(self) -> dict[str, Any]:
        """The content in the layout of today; tensors may be unread, and on the meta device. Raises what the I/O raises."""
        return read(lambda path, **_: self.outlines(path), self.path, "cpu", True)  # type: ignore[no-any-return]

    def load(self) -> dict[str, Any]:
        """The content in the layout of today, verified, its tensors on the CPU. Raises what the I/O raises."""
        return read(lambda path, **_: self.loads(path), self.path, "cpu", True)  # type: ignore[no-any-return]

    def size(self) -> int:
        """The bytes of the file, or of all files in the folder."""
        files = self.path.rglob("*") if self.path.is_dir() else [self.path]
        return sum(file.stat().st_size for file in files if file.is_file())


class Formats:
    """The checkpoint I/Os of a registry, asked in turn: the default one first."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def find(self, given: str | Path) -> Found:
        """What lies at a path.

        Raises `CheckpointNotFoundError`, `CheckpointDirectoryError` for a folder that is none, `CheckpointCorruptError` for a file that no
        format begins like, `NotInstalledError` for one whose plugin is not installed, and `CheckpointError` for a URL.
        """
        path = local(given)
        if not path.exists():
            raise CheckpointNotFoundError(f"there is no file or folder {str(given)!r}.")
        recognising = self.recognising(path)
        if recognising is not None:
            name, io = recognising
            return Found(path, name, io.outline, _loading(io))
        if path.is_dir():
            if distributed.is_sharded(path):
                beside = _loading(self.default()[1])
                return Found(path, DISTRIBUTED, partial(distributed.outline, read=beside), partial(distributed.load, read=beside))
            raise CheckpointDirectoryError(
                f"{str(given)!r} is a folder, and no checkpoint: one that torch.distributed.checkpoint wrote holds a file"
                f" {distributed.INDEX}. Give a checkpoint in it."
            )
        self.for_suffix(path.suffix)  # raises for one whose plugin is not installed
        raise CheckpointCorruptError(f"{str(given)!r} {self._why_unknown(path)}.")

    def recognising(self, path: Path) -> tuple[str, CheckpointIO] | None:
        """The checkpoint I/O that knows what is at a path by how that begins, and its name; None if none does."""
        return next(((name, io) for name, io in self._ios() if io.recognises(path)), None)

    def default(self, **arguments: Any) -> tuple[str, CheckpointIO]:
        """The one that is used where none is chosen, made with `arguments`, and its name; raises `NotInstalledError` if there is none."""
        entries = self._kind().standing_for("default")
        if not entries:
            raise NotInstalledError("no checkpoint I/O is installed; `pip install lx-standard` brings one.")
        return entries[0].name, self._build(entries[0], **arguments)

    def for_suffix(self, suffix: str) -> tuple[str, CheckpointIO] | None:
        """The checkpoint I/O that stands for a suffix, which is its role, and its name; None if there is none.

        Raises `NotInstalledError` for one that could be installed.
        """
        if suffix in SUFFIXES:
            return self.default()
        entries = self._kind().standing_for(suffix)
        if entries:
            return entries[0].name, self._build(entries[0])
        missing = self._registry.diagnosis.missing("checkpoint_io", suffix)
        if missing is not None:
            raise missing
        return None

    def named(self, name: str) -> tuple[str, CheckpointIO]:
        """The checkpoint I/O of a name; raises like `KindRegistry.find`."""
        return self._kind().find(name).name, self._kind().build(name)

    def is_of_weights(self, name: str) -> bool:
        """Whether a checkpoint I/O stands for a suffix, by which other programs know files of weights, too."""
        return any(role.startswith(".") for role in self._kind().find(name).roles)

    def names(self) -> list[str]:
        """The names of the checkpoint I/Os, and `distributed`."""
        return [*self._kind().names(), DISTRIBUTED]

    def in_folder(self, folder: Path) -> Iterator[Path]:
        """The checkpoints in a folder and in those in it, in alphabetical order; hidden files and folders are passed over.

        What is named as a checkpoint is one, and so is what a checkpoint I/O recognises.
        """
        ios = [io for _, io in self._ios()]
        for path in sorted(folder.iterdir()):
            if path.name.startswith("."):
                continue
            if self._is_named_so(path) or any(one.recognises(path) for one in ios) or distributed.is_sharded(path):
                yield path
            elif path.is_dir() and not path.is_symlink():
                yield from self.in_folder(path)

    def _is_named_so(self, path: Path) -> bool:
        if not (path.is_file() or (path.is_symlink() and not path.exists())):  # a link that leads nowhere is a bad checkpoint
            return False
        return path.suffix == SUFFIXES[0] or (path.suffix not in ("", *SUFFIXES) and bool(self._kind().standing_for(path.suffix)))

    def _why_unknown(self, path: Path) -> str:
        if not path.stat().st_size:
            return "is no checkpoint: it is empty"
        known = " or ".join(name for name, _ in self._ios()) or "any checkpoint I/O"
        return f"is no checkpoint, or damaged: it does not begin as a file of {known} does"

    def _ios(self) -> Iterator[tuple[str, CheckpointIO]]:
        """Those that can be made: one that is broken, or lacks a library or an argument, must not keep others from their files."""
        entries = sorted(self._kind().entries(), key=lambda entry: -entry.roles.get("default", 0))
        for entry in entries:
            try:
                yield entry.name, self._build(entry)
            except Exception:  # whatever its constructor raises
                continue

    def _build(self, entry: Entry, **arguments: Any) -> CheckpointIO:
        return self._kind().build(f"{entry.name}@{entry.provider}", **arguments)  # type: ignore[no-any-return]

    def _kind(self) -> Any:
        return self._registry.checkpoint_io


def _loading(io: CheckpointIO) -> Read:
    return partial(io.load_checkpoint, map_location="cpu", weights_only=True)


def local(given: str | Path) -> Path:
    """The local path; raises `CheckpointError` for a URL."""
    place = local_or_url(given)
    if isinstance(place, str):
        raise CheckpointError(f"{place!r} is a URL, and what is looked at here are local files; copy it to this machine first.")
    return place
