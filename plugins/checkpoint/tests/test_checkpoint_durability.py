"""An old checkpoint is removed when the new one is there, whole, whatever is kept and under which names."""

from pathlib import Path
from typing import Any

import pytest

from lx import Trainer
from lx.interfaces.checkpoint_io import CheckpointIO
from lx.kernel import default_manager
from lx.testing import TinyDataModule, TinyModule
from lx_plugin_checkpoint.callback import ModelCheckpoint


class Watched(CheckpointIO):
    """Files of the default I/O; before one is removed, the newest has to be readable, and no link may need the one that goes."""

    def __init__(self, fails_from: int | None = None) -> None:
        self.files = default_manager().registry.checkpoint_io.build("torch_io")
        self.steps: list[int] = []
        self.removed: list[Path] = []
        self.fails_from = fails_from

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        if self.fails_from is not None and len(self.steps) >= self.fails_from:
            raise OSError(28, "No space left on device", str(path))
        self.files.save_checkpoint(checkpoint, path)
        self.steps.append(checkpoint["global_step"])

    def load_checkpoint(self, path: str | Path, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        return self.files.load_checkpoint(path, map_location, weights_only)

    def remove_checkpoint(self, path: str | Path) -> None:
        self.removed.append(Path(path))
        self.files.remove_checkpoint(path)
        assert newest(Path(path).parent, self) == self.steps[-1]


def newest(folder: Path, checkpoint_io: CheckpointIO) -> int:
    """The step of the newest checkpoint; raises for any that cannot be read, such as a link that leads nowhere."""
    return max(int(checkpoint_io.load_checkpoint(path)["global_step"]) for path in folder.iterdir())


def fit(folder: Path, watched: Watched, **settings: Any) -> None:
    callback = ModelCheckpoint(dirpath=folder, every_n_train_steps=1, **settings)
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    Trainer(accelerator="cpu", max_epochs=2, callbacks=callback, plugins=watched, **quiet).fit(TinyModule(), TinyDataModule())


KEEPING: list[dict[str, Any]] = [
    {},
    {"save_last": True},
    {"save_last": "link"},
    {"filename": "always"},
    {"filename": "always", "save_last": "link"},
    {"save_top_k": 0, "save_last": True},
    {"monitor": "train_loss", "save_top_k": 2, "save_last": "link"},
    {"monitor": "train_loss", "save_top_k": 1, "save_last": True},
]


@pytest.mark.parametrize("keeping", KEEPING, ids=str)
def test_the_new_is_there_before_the_old_goes(keeping: dict[str, Any], tmp_path: Path) -> None:
    watched = Watched()
    fit(tmp_path, watched, **keeping)
    assert watched.removed or keeping.get("filename") == "always" or keeping.get("save_top_k") == 0
    assert newest(tmp_path, watched) == watched.steps[-1]


@pytest.mark.parametrize("keeping", KEEPING, ids=str)
def test_where_the_new_cannot_be_written_the_old_stays(keeping: dict[str, Any], tmp_path: Path) -> None:
    for fails_from in (1, 2, 3):
        watched = Watched(fails_from)
        with pytest.raises(OSError, match="No space left on device"):
            fit(tmp_path / str(fails_from), watched, **keeping)
        assert newest(tmp_path / str(fails_from), watched) == watched.steps[-1]
