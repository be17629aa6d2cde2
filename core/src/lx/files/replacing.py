"""Replaces a file by a new one at once, so that a reader, or a machine that fails, finds the old one or the new one whole."""

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from lx.files.leftovers import remove_leftovers, temporary_file


@contextlib.contextmanager
def replaced(path: Path) -> Iterator[IO[bytes]]:
    """A new file to write to, which takes the place of `path` when the block ends well; if not, everything is as it was.

    The new file is on the disk before it takes that place, and its place is, when the block has ended: only then may others be removed.
    Parent directories are created, and temporary files that killed processes left in the folder are removed. Raises
    `IsADirectoryError` for a directory, and what the file system raises, with the path.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with replaced(Path(folder, "runs", "notes.txt")) as file:
    ...         _ = file.write(b"all of it")
    ...     Path(folder, "runs", "notes.txt").read_bytes()
    b'all of it'
    """
    if path.is_dir() and not path.is_symlink():
        raise IsADirectoryError(
            errno.EISDIR, "a checkpoint file cannot take the place of a directory; remove it or choose another name", str(path)
        )
    try:
        _make_folder(path.parent)
        remove_leftovers(path.parent)
        with temporary_file(path) as (file, temporary):
            yield file
            file.flush()
            os.fsync(file.fileno())
            file.close()
            temporary.replace(path)
    except BaseException as error:
        if isinstance(error, OSError) and error.errno is not None and error.filename is None:
            error.filename = str(path)  # "No space left on device", and not where
        error.add_note(f"The checkpoint {str(path)!r} was not written; what was there before is untouched.")
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Has the entries of a folder written to the disk, where the system can do that: new names, and those that were replaced."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except PermissionError:  # a folder in which one may write, and not look around
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network file systems know no such call
            raise
    finally:
        os.close(descriptor)


def _make_folder(folder: Path) -> None:
    """Makes a folder, and those above it, and has each written to the disk as an entry of the one above."""
    if folder.is_dir():
        return
    above = folder.absolute().parent
    _make_folder(above)
    folder.mkdir(exist_ok=True)
    sync_folder(above)
