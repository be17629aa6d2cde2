"""Checkpoints as files in the format of `torch.save`, local ones or at a URL."""

import os
import shutil
from pathlib import Path
from typing import Any

import torch

from lx.checkpoints.pickled_names import reading
from lx.files.replacing import replaced
from lx.interfaces.checkpoint_io import CheckpointIO
from lx.kernel.errors import CheckpointCorruptError, CheckpointDirectoryError, CheckpointNotFoundError
from lx.urls import local_or_url
from lx_plugin_torch_io import remote
from lx_plugin_torch_io.inspection import begins_well, check_end, check_whole, explained, is_archive
from lx_plugin_torch_io.safety import check_safe
from lx_plugin_torch_io.seal import sealed

MAPPED_FROM = 1 << 30
"""From this size on, in bytes, a file is mapped into memory, where the processes of a node share it, and not read into each."""


class TorchCheckpointIO(CheckpointIO):
    """One local file for each checkpoint, in the format of `torch.save`. The class is open.

    A file is written whole or not at all: to a temporary file beside it, which replaces it once it is on the disk. If anything
    goes wrong before that (no space, no permission, an object that cannot be pickled), the old file is untouched, nothing else is
    left, and the error is raised. A URL, such as `s3://bucket/a.ckpt`, is reached through fsspec, and needs the package of its protocol:
    the whole file is written, or read, in a temporary folder of this machine, and carried there or back.

    A file ends with a digest of itself, in the comment that a zip archive may have, so it is one file, and `torch.load` reads it. With
    `verify`, the whole file is compared with it first, and no changed byte passes; that takes less than a quarter of the time of loading.
    Files of others, which have no digest, are compared with the checksums of their records, which `torch.load` does not do.

    What could be read with `weights_only=False` alone, since reading it would run code of the file, is refused before anything is
    written, with its place in the checkpoint, unless `allow_objects` is True.

    Args:
        verify: Whether a file is compared with its digest or its checksums before it is read.
        allow_objects: Whether whatever can be pickled is written. Reading it still takes `weights_only=False`, said where it is read.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     TorchCheckpointIO().save_checkpoint({"epoch": 3}, folder + "/runs/last.ckpt")
    ...     TorchCheckpointIO().load_checkpoint(folder + "/runs/last.ckpt")
    {'epoch': 3}
    """

    def __init__(self, verify: bool = True, allow_objects: bool = False) -> None:
        self.verify = verify
        self.allow_objects = allow_objects

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Writes a checkpoint; parent directories are created, and a link at `path` is replaced, not followed.

        Raises `TypeError` for any `storage_options`, `CheckpointError` for a value that could not be read safely, `IsADirectoryError` for a
        directory, and what the file system raises; whatever it is, the old file is as it was.
        """
        if storage_options is not None:
            raise TypeError(f"storage_options={storage_options!r}: the checkpoint I/O 'torch_io' has no options; leave it out.")
        self.check_content(checkpoint)
        place = local_or_url(path)
        if isinstance(place, str):
            with remote.uploading(place) as copy:
                _write(checkpoint, copy)
        else:
            _write(checkpoint, place)

    def check_content(self, checkpoint: dict[str, Any]) -> None:
        """Raises `CheckpointError`, with its place, for a value that could not be read safely, unless any object is allowed."""
        if not self.allow_objects:
            check_safe(checkpoint)

    def load_checkpoint(self, path: str | Path, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        """Reads a checkpoint. `weights_only=None` is True, whatever the environment says: tensors and plain values only.

        Raises `CheckpointNotFoundError`, `CheckpointCorruptError` for what is truncated, damaged or no checkpoint, and
        `CheckpointError` for one that holds objects which `weights_only` refuses.
        """
        file = local_or_url(path)
        if isinstance(file, str):
            with remote.downloaded(file) as copy:
                return self.load_checkpoint(copy, map_location, weights_only)
        if not file.exists():
            raise CheckpointNotFoundError(f"there is no checkpoint {str(path)!r}. {_surroundings(file)}")
        if file.is_dir():
            raise CheckpointDirectoryError(
                f"{str(path)!r} is a directory, and the checkpoint I/O 'torch_io' reads files. Name a file in it, or, if it is a checkpoint"
                f" of many files, use the strategy that wrote it. {_surroundings(file / 'any')}"
            )
        (check_whole if self.verify else check_end)(file)
        safely = weights_only is not False  # said to torch, whose own default is another where TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD is set

        def read() -> Any:
            try:
                return torch.load(file, map_location=map_location, weights_only=safely, mmap=_is_worth_mapping(file))
            except Exception as error:  # a damaged pickle can raise anything
                if not self.verify:
                    check_whole(file)
                raise explained(error, file) from error

        return _as_checkpoint(reading(read, file, safely), path)

    def recognises(self, path: str | Path) -> bool:
        """Whether a local file begins as a file of `torch.save` does, of any release of torch."""
        return os.path.isfile(path) and begins_well(Path(path))

    def outline(self, path: str | Path) -> dict[str, Any]:
        """What is in a file, with tensors whose bytes are mapped, and read when they are looked at; checksums are not compared."""
        file = local_or_url(path)
        if isinstance(file, str) or not (file.is_file() and is_archive(file)):
            return self.load_checkpoint(path, map_location="cpu", weights_only=True)
        try:
            checkpoint = torch.load(file, map_location="cpu", weights_only=True, mmap=os.name != "nt")
        except Exception as error:
            check_whole(file)
            raise explained(error, file) from error
        return _as_checkpoint(checkpoint, path)

    def remove_checkpoint(self, path: str | Path) -> None:
        """Removes a file, a link (not what it points to), or a directory with all that is in it; nothing happens if it is not there."""
        target = local_or_url(path)
        if isinstance(target, str):
            remote.remove(target)
        elif target.is_dir() and not target.is_symlink():
            shutil.rmtree(target)
        else:
            target.unlink(missing_ok=True)

    def exists(self, path: str | Path) -> bool:
        """Whether there is a file, a folder or a link, also at a URL."""
        place = local_or_url(path)
        return remote.exists(place) if isinstance(place, str) else super().exists(place)

    def list_folder(self, path: str | Path) -> list[str]:
        """The names of what is in a folder, also at a URL, in alphabetical order; none if there is no such folder."""
        place = local_or_url(path)
        return remote.names_in(place) if isinstance(place, str) else super().list_folder(place)

    def modified(self, path: str | Path) -> float:
        """When a checkpoint was written, also at a URL, in seconds since 1970; raises `FileNotFoundError`."""
        place = local_or_url(path)
        return remote.modified(place) if isinstance(place, str) else super().modified(place)


def _write(checkpoint: dict[str, Any], path: Path) -> None:
    with replaced(path) as file, sealed(file) as archive:
        torch.save(checkpoint, archive)


def _surroundings(path: Path) -> str:
    """What is in the folder where a file was looked for, or that there is no such folder."""
    folder = path.absolute().parent
    if not folder.is_dir():
        return f"There is no folder {str(folder)!r} either."
    names = sorted(entry.name + "/" * entry.is_dir() for entry in folder.iterdir())
    shown = ", ".join(map(repr, names[:10])) + (f" and {len(names) - 10} more" if len(names) > 10 else "")
    return f"The folder {str(folder)!r} holds {shown or 'nothing'}."


def _as_checkpoint(content: Any, path: str | Path) -> dict[str, Any]:
    if not isinstance(content, dict):
        raise CheckpointCorruptError(f"{str(path)!r} is no checkpoint: it holds a {type(content).__name__}, not a dictionary.")
    return content


def _is_worth_mapping(path: Path) -> bool:
    """Whether a file is big enough, in the format that can be mapped, on a system where a mapped file can still be removed."""
    return os.name != "nt" and path.stat().st_size >= MAPPED_FROM and is_archive(path)
