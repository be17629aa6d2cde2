"""How a checkpoint gets to and from storage."""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any


class CheckpointIO(ABC):
    """The interface of checkpoint I/O. All paths are those that the user or a callback chose; a directory is allowed."""

    @abstractmethod
    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Writes a checkpoint so that `path` holds the old one or the whole new one, never a part; makes parent directories."""

    @abstractmethod
    def load_checkpoint(self, path: str | Path, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        """Reads a checkpoint.

        Raises `CheckpointNotFoundError` if there is none, and `CheckpointCorruptError` if it is truncated or damaged.
        """

    @abstractmethod
    def remove_checkpoint(self, path: str | Path) -> None:
        """Removes a checkpoint, a directory with all that is in it; nothing happens if it is not there."""

    def teardown(self) -> None:
        """Waits for what is still being written; raises what went wrong there."""
