"""Temporary files beside the ones that they will replace: who writes one is in its name, so that those of dead processes can go."""

import contextlib
import os
import re
import secrets
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

NAME = re.compile(r"\..*\.(?P<host>[\w-]*)\.(?P<process>\d+)\.[0-9a-f]{8}\.tmp", re.DOTALL)
"""Hidden, and with no suffix that anyone looks for."""

ABANDONED_AFTER = 24 * 60 * 60
"""After how many seconds without a write a file of another machine is taken for one that nobody writes any more."""

_mine: set[str] = set()


@contextlib.contextmanager
def temporary_file(path: Path) -> Iterator[tuple[IO[bytes], Path]]:
    """A new file beside `path`, since a file can be moved at once only within a file system; it is removed if the block fails.

    While it is written it is locked, which tells a process in another container, whose numbers mean nothing here, that it is alive.
    """
    temporary = path.parent / f".{path.name[:40]}.{_host()}.{os.getpid()}.{secrets.token_hex(4)}.tmp"
    _mine.add(temporary.name)
    try:
        with temporary.open("xb") as file:
            _lock(file)
            yield file, temporary
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    finally:
        _mine.discard(temporary.name)


def remove_leftovers(folder: Path) -> None:
    """Removes the temporary files in a folder whose process is gone; of those of other machines, the ones that are older than a day."""
    with contextlib.suppress(OSError):  # what cannot be tidied up is no reason not to save
        for entry in os.scandir(folder):
            found = NAME.fullmatch(entry.name)
            if found and _is_abandoned(Path(entry.path), found["host"], int(found["process"])):
                os.unlink(entry.path)


def _is_abandoned(path: Path, host: str, process: int) -> bool:
    if sys.platform == "win32" or host != _host():
        return time.time() - path.stat().st_mtime > ABANDONED_AFTER
    if path.name in _mine or (process != os.getpid() and _is_running(process)):
        return False
    with path.open("rb") as file:
        return _lock(file)


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # somebody else's
        return True
    return True


def _lock(file: IO[bytes]) -> bool:
    """Locks a file until it is closed; False if another process has locked it. True, too, where files cannot be locked."""
    if sys.platform != "win32":
        import fcntl  # noqa: PLC0415 -- Windows has none

        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:
            return True
    return True


def _host() -> str:
    return re.sub(r"[^\w-]", "_", socket.gethostname())
