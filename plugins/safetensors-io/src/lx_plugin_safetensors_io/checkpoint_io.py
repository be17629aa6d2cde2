"""Checkpoints as files of safetensors, in which nothing is pickled."""

import os
import shutil
from pathlib import Path
from typing import Any

import torch

from lx.files.replacing import replaced
from lx.interfaces.checkpoint_io import CheckpointIO
from lx.kernel.errors import CheckpointCorruptError, CheckpointDirectoryError, CheckpointNotFoundError, MisconfigurationException
from lx.urls import local_or_url
from lx_plugin_safetensors_io import file as files
from lx_plugin_safetensors_io.structure import decoded, encoded
from lx_plugin_safetensors_io.tensors import Restorer, locating

MAPPED_FROM = 1 << 30
"""From this size on, in bytes, a file is mapped into memory, where the processes of a node share it, and not read into each."""


class SafetensorsCheckpointIO(CheckpointIO):
    """One local file for each checkpoint: tensors in the format of safetensors, everything else as JSON in its header. The class is open.

    Neither reading nor writing uses pickle, so no file can run code. Nested dictionaries with any keys, lists, tuples, sets, numbers, text,
    bytes, paths, dtypes, devices, hyperparameters and tensors of every dtype come back as they were; tied weights share their memory again.
    What would not, such as an object of a class of your own, is refused when it is saved, with its place in the checkpoint and what to
    store instead.

    A file is written whole or not at all, as `torch_io` does it, and carries checksums of all its bytes, which are compared as it is read.
    `verify=False` leaves out those of the tensors.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     SafetensorsCheckpointIO().save_checkpoint({"epoch": 3}, folder + "/runs/last.ckpt")
    ...     SafetensorsCheckpointIO().load_checkpoint(folder + "/runs/last.ckpt")
    {'epoch': 3}
    """

    def __init__(self, verify: bool = True) -> None:
        self.verify = verify

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Writes a checkpoint; parent directories are created, and a link at `path` is replaced, not followed.

        Raises `CheckpointError` for a value that would not come back as it is, `TypeError` for any `storage_options`,
        `IsADirectoryError` for a directory, `MisconfigurationException` for a URL, and what the file system raises.
        """
        if storage_options is not None:
            raise TypeError(f"storage_options={storage_options!r}: the checkpoint I/O 'safetensors_io' has no options; leave it out.")
        place = _local(path)
        structure, table = encoded(checkpoint)
        with replaced(place) as file:
            files.write(file, structure, table)

    def check_content(self, checkpoint: dict[str, Any]) -> None:
        """Raises `CheckpointError` for a value that would not come back as it is."""
        encoded(checkpoint)

    def load_checkpoint(self, path: str | Path, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        """Reads a checkpoint. `weights_only` changes nothing: no file can hold more than values.

        Raises `CheckpointNotFoundError`, `CheckpointCorruptError` for what is truncated, damaged or no checkpoint, and
        `CheckpointError` for a file of `torch.save`.
        """
        place = self._existing(path)
        with place.open("rb") as file:
            header = files.read_header(file, place)
            if os.name != "nt" and header.size >= MAPPED_FROM:  # Windows does not remove a file that is mapped
                storages = files.map_tensors(place, header, self.verify)
            else:
                storages = files.read_tensors(file, place, header, self.verify)
        return _made(place, header, Restorer(header.entries, storages.__getitem__, locating(map_location)))

    def recognises(self, path: str | Path) -> bool:
        """Whether a local file begins as those that this one writes."""
        return os.path.isfile(path) and files.begins_well(path)

    def outline(self, path: str | Path) -> dict[str, Any]:
        """What is in a file, with tensors on the meta device; their bytes are not read."""
        place = self._existing(path)
        with place.open("rb") as file:
            header = files.read_header(file, place)

        def unread(name: str) -> torch.UntypedStorage:
            return torch.UntypedStorage(header.entries[name].end - header.entries[name].begin, device="meta")

        return _made(place, header, Restorer(header.entries, unread, lambda storage, location: storage))

    def remove_checkpoint(self, path: str | Path) -> None:
        """Removes a file, a link (not what it points to), or a directory with all that is in it; nothing happens if it is not there."""
        target = _local(path)
        if target.is_dir() and not target.is_symlink():
            shutil.rmtree(target)
        else:
            target.unlink(missing_ok=True)

    def _existing(self, path: str | Path) -> Path:
        place = _local(path)
        if not place.exists():
            raise CheckpointNotFoundError(f"there is no checkpoint {str(path)!r}.")
        if place.is_dir():
            raise CheckpointDirectoryError(
                f"{str(path)!r} is a directory, and the checkpoint I/O 'safetensors_io' reads files. Name a file in it, or, if it is a"
                " checkpoint of many files, use the strategy that wrote it."
            )
        return place


def _local(path: str | Path) -> Path:
    place = local_or_url(path)
    if isinstance(place, str):
        raise MisconfigurationException(
            f"{place!r} is a URL, and the checkpoint I/O 'safetensors_io' does not reach URLs; give a local folder, or use"
            " Trainer(plugins='torch_io')."
        )
    return place


def _made(path: Path, header: files.Header, tensors: Restorer) -> dict[str, Any]:
    """The checkpoint that a header describes."""
    try:
        checkpoint = decoded(header.structure, tensors)
    except (AttributeError, IndexError, KeyError, RecursionError, TypeError, ValueError) as error:
        raise files.corrupt(path, f"its header makes no sense ({type(error).__name__}: {error})") from error
    except Exception as error:
        error.add_note(f"This happened while the checkpoint {str(path)!r} was read.")
        raise
    if not isinstance(checkpoint, dict):
        raise CheckpointCorruptError(f"{str(path)!r} is no checkpoint: it holds a {type(checkpoint).__name__}, not a dictionary.")
    return checkpoint
