"""How a checkpoint gets to and from storage."""

import os
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lx.kernel.errors import MisconfigurationException
from lx.urls import local_or_url


class CheckpointIO(ABC):
    """The interface of checkpoint I/O. All paths are those that the user or a callback chose; a directory is allowed.

    One that reaches URLs, or keeps checkpoints elsewhere, overrides `exists`, `list_folder` and `modified` as well; as they are, they look
    at local files, and refuse URLs with a `MisconfigurationException`. One that wraps another hands all on, `recognises` and `outline` too.
    """

    @abstractmethod
    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Writes a checkpoint so that `path` holds the old one or the whole new one, never a part; makes parent directories."""

    def check_content(self, checkpoint: dict[str, Any]) -> None:
        """Raises `CheckpointError`, with its place, for a value that `save_checkpoint` would refuse to write.

        A run that saves checkpoints asks before it trains, with what is known by then: `hyper_parameters`. Called on every rank.
        """

    @abstractmethod
    def load_checkpoint(self, path: str | Path, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        """Reads a checkpoint.

        Raises `CheckpointNotFoundError` if there is none, and `CheckpointCorruptError` if it is truncated or damaged.
        """

    @abstractmethod
    def remove_checkpoint(self, path: str | Path) -> None:
        """Removes a checkpoint, a directory with all that is in it; nothing happens if it is not there."""

    def recognises(self, path: str | Path) -> bool:
        """Whether what lies at a local path begins as what this one writes; for programs that are given any file, on one process.

        Nothing is unpickled, and nothing behind the beginning is checked. False, too, where nothing is.
        """
        return False

    def outline(self, path: str | Path) -> dict[str, Any]:
        """What `load_checkpoint` gives, to be looked at: tensors may be on the meta device, their bytes neither read nor checked.

        Nothing in it can have run code. An I/O whose files say first what is in them overrides it. Raises what `load_checkpoint` raises.
        """
        return self.load_checkpoint(path, map_location="cpu", weights_only=True)

    def exists(self, path: str | Path) -> bool:
        """Whether there is a file, a folder or a link, even one that leads nowhere; called on any rank."""
        return os.path.lexists(self._local(path))

    def list_folder(self, path: str | Path) -> list[str]:
        """The names of what is in a folder, in alphabetical order; none if there is no such folder. Called on any rank."""
        folder = self._local(path)
        return sorted(os.listdir(folder)) if folder.is_dir() else []

    def modified(self, path: str | Path) -> float:
        """When a checkpoint was written, in seconds since 1970; of a link, what it leads to. Raises `FileNotFoundError`."""
        return self._local(path).stat().st_mtime

    def _local(self, path: str | Path) -> Path:
        place = local_or_url(path)
        if isinstance(place, str):
            raise MisconfigurationException(
                f"{place!r} is a URL, and the checkpoint I/O {type(self).__name__} does not reach URLs; give a local folder, or choose"
                " another checkpoint I/O, such as Trainer(plugins='torch_io')."
            )
        return place

    def after_writing(self, path: str | Path, do: Callable[[], object]) -> None:
        """Does something at a path, such as making a link, when all that was handed over so far is written; not if that failed.

        Here that is at once; an I/O that writes in the background does it there, in its turn.
        """
        do()

    def teardown(self) -> None:
        """Waits for what is still being written; raises what went wrong there."""
