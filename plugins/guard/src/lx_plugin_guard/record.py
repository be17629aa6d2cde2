"""What a guard has done, in checkpoints and in a file beside the checkpoint that a run went back to."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lx.files.replacing import replaced
from lx.urls import local_or_url

Place = tuple[int, int]
"""An epoch, and how many of its batches were trained on."""

FILE = "guard.json"


class Record:
    """The actions of a guard, oldest first, and how many batches it has skipped.

    Each action is a mapping of plain values. One that went back has `range`, the first and the last batch of its epoch that are passed
    over from then on, and `back_to`, the place of the checkpoint. A checkpoint older than that cannot hold it, so that the file does.
    """

    def __init__(self) -> None:
        self.actions: list[dict[str, Any]] = []
        self.rewinds: list[dict[str, Any]] = []  # those of the actions that went back
        self.skipped = 0

    def add(self, action: dict[str, Any]) -> None:
        """Notes what was done."""
        self.actions.append(action)
        if action["action"] == "rewind":
            self.rewinds.append(action)

    def passes_over(self, epoch: int, batch_idx: int) -> bool:
        """Whether a batch is in a range that is not trained on any more."""
        ranges = (rewind["range"] for rewind in self.rewinds if rewind["epoch"] == epoch)
        return any(first <= batch_idx <= last for first, last in ranges)

    def lacking_in(self, state: dict[str, Any]) -> list[dict[str, Any]]:
        """Those times of going back that a checkpoint with this state knows nothing of."""
        other = Record()
        other.load_state_dict(state)
        return self.rewinds[len(other.rewinds) :]

    def left_behind(self, state: dict[str, Any], place: Place) -> dict[str, Any] | None:
        """The first time that the run went back behind a checkpoint with this state and place, without having come to it again."""
        return next((rewind for rewind in self.lacking_in(state) if place > tuple(rewind["back_to"])), None)

    def state_dict(self) -> dict[str, Any]:
        """All of it, in plain values."""
        return {"actions": [dict(action) for action in self.actions], "skipped": self.skipped}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from what `state_dict` gave."""
        self.actions, self.rewinds = [], []
        for action in state.get("actions", []):
            self.add(dict(action))
        self.skipped = state.get("skipped", 0)

    def write(self, checkpoint: str) -> None:
        """Writes it beside a checkpoint, on the local file system."""
        for path in _beside(checkpoint):
            text = json.dumps(self.state_dict(), indent=1) + "\n"
            with replaced(path) as file:
                file.write(text.encode())

    def extend_from(self, checkpoint: str) -> None:
        """Takes up what lies beside a checkpoint, if that goes on from what is known."""
        for path in _beside(checkpoint):
            if path.exists():
                other = Record()
                other.load_state_dict(json.loads(path.read_text("utf-8")))
                if other.rewinds[: len(self.rewinds)] == self.rewinds and len(other.rewinds) > len(self.rewinds):
                    self.load_state_dict(other.state_dict())


def forget(folder: str | os.PathLike[str]) -> None:
    """Takes away what an earlier run has left in a folder."""
    for path in _beside(os.path.join(folder, FILE)):
        path.unlink(missing_ok=True)


def _beside(checkpoint: str) -> Iterator[Path]:
    """The file beside a checkpoint; none for one at a URL."""
    place = local_or_url(checkpoint)
    if isinstance(place, Path):
        yield place.parent / FILE
