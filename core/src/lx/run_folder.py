"""Where a logger that writes files puts a run: `<save_dir>/<name>/version_<N>`."""

import os
import re
from collections.abc import Iterable
from itertools import count
from pathlib import Path
from typing import Any

from lx.kernel.errors import ArgumentTypeError, MisconfigurationException
from lx.urls import require_path

_VERSION = re.compile(r"version_(\d+)")


class RunFolder:
    """The folders of one run of a logger; nothing is made before `make` or `write`.

    `save_dir` (None: the working directory) may hold `~` and environment variables. `name` None or "" drops its level. `version` None
    takes the next free `version_<N>` when it is first asked for; a number N is `version_<N>`; a string is a folder name. Copies, also
    pickled ones, keep the version. Raises `MisconfigurationException` for a remote `save_dir`, for a version that is
    neither, and for what is no path or name.

    >>> RunFolder("logs", name="digits", version=3).log_dir.replace(os.sep, "/")
    'logs/digits/version_3'
    """

    def __init__(
        self,
        save_dir: str | os.PathLike[str] | None = None,
        name: str | None = "lightning_logs",
        version: int | str | None = None,
        sub_dir: str | os.PathLike[str] | None = None,
    ) -> None:
        require_path("save_dir", save_dir)
        require_path("sub_dir", sub_dir)
        if not (name is None or isinstance(name, str)):
            raise ArgumentTypeError(f"name={name!r}: it must be the name of a folder, or None for none.")
        self.save_dir = os.path.expanduser(os.path.expandvars(os.fspath(save_dir or os.curdir)))
        if "://" in self.save_dir:
            raise MisconfigurationException(
                f"save_dir={self.save_dir!r} is no folder of this machine, and this logger writes local files. Pass a local path to the "
                "logger (without one it takes the Trainer's default_root_dir), and copy the folder when the run has ended; or logger=False."
            )
        if not (version is None or (isinstance(version, str) and version) or (type(version) is int and version >= 0)):
            raise MisconfigurationException(
                f"version={version!r} is no version: pass a number from 0 on, the name of a folder, or None for the next free number."
            )
        self.name = name or ""
        self.sub_dir = None if sub_dir is None else os.path.expanduser(os.path.expandvars(os.fspath(sub_dir)))
        self._version = version
        # Judged here, because checkpoints may be in the folder of this very run before its logger writes.
        self.occupied = version is not None and os.path.isdir(self.log_dir) and bool(os.listdir(self.log_dir))
        """True if the version was chosen by the user, and its folder held something before this run."""

    @property
    def version(self) -> int | str:
        """The version, chosen now if none was given."""
        if self._version is None:
            self._version = next_version(self.root_dir)
        return self._version

    @property
    def root_dir(self) -> str:
        """The folder of all versions."""
        return os.path.join(self.save_dir, self.name) if self.name else self.save_dir

    @property
    def log_dir(self) -> str:
        """The folder of this run."""
        folder = os.path.join(self.root_dir, self.version if isinstance(self.version, str) else f"version_{self.version}")
        return os.path.join(folder, self.sub_dir) if self.sub_dir else folder

    def make(self) -> None:
        """Makes the folder of this run, which takes its version."""
        folder = self.log_dir
        try:
            os.mkdir(folder)  # mostly all that is missing, and a third of the calls
        except OSError:
            os.makedirs(folder, exist_ok=True)

    def write(self, file_name: str, text: str, *, keep: bool = False) -> None:
        """Writes a text file of this run, whole or not at all.

        With `keep`, a file that is there and says something else is kept beside it, as `<stem>_<n><suffix>`.
        """
        self.make()
        path = Path(self.log_dir, file_name)
        if keep and path.exists() and path.read_bytes() != text.encode("utf-8", "surrogateescape"):
            aside = (path.with_name(f"{path.stem}_{number}{path.suffix}") for number in count(1))
            path.rename(next(other for other in aside if not other.exists()))
        replace_text(path, [text])

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_version": self.version}  # a copy in another process would choose one of its own


def next_version(root_dir: str | os.PathLike[str]) -> int:
    """One more than the highest N of the folders `version_<N>` in `root_dir`, 0 without any."""
    if not os.path.isdir(root_dir):
        return 0
    taken = [int(found[1]) for entry in Path(root_dir).iterdir() if (found := _VERSION.fullmatch(entry.name))]
    return max(taken, default=-1) + 1


def replace_text(path: str | os.PathLike[str], chunks: Iterable[str], *, durable: bool = False) -> None:
    """Puts a new UTF-8 text in the place of a file: a process that is killed meanwhile leaves the old one.

    With `durable` the new text has reached the disk before the old one goes, which also a power failure cannot undo.
    """
    path = os.fspath(path)
    temporary = f"{path}.tmp"
    with open(temporary, "w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        file.writelines(chunks)
        if durable:
            file.flush()
            os.fsync(file.fileno())
    os.replace(temporary, path)
