"""Replaces a file by a new one at once, so that a reader, or a machine that fails, finds the old one or the new one whole."""

import contextlib
import errno
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import IO


@contextlib.contextmanager
def replaced(path: Path) -> Iterator[IO[bytes]]:
    """A new file to write to, which takes the place of `path` when the block ends well; if not, everything is as it was.

    Parent directories are created. Raises `IsADirectoryError` for a directory, and what the file system raises.
    """
    if path.is_dir() and not path.is_symlink():
        raise IsADirectoryError(
            errno.EISDIR, "a checkpoint file cannot take the place of a directory; remove it or choose another name", str(path)
        )
    # Beside its target, since a file can be moved at once only within a file system; hidden, and with no suffix that anyone looks for.
    temporary = path.parent / f".{path.name[:40]}.{secrets.token_hex(4)}.tmp"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        error.add_note(f"The checkpoint {str(path)!r} was not written; what was there before is untouched.")
        raise
    _sync_directory(path.parent)


def _sync_directory(directory: Path) -> None:
    """Has the new entry written to the disk, where the system can do that for a directory."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network file systems know no such call
            raise
    finally:
        os.close(descriptor)
