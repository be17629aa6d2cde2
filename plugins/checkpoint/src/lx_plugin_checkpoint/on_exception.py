"""OnExceptionCheckpoint: one file that exists only after a run has failed."""

import os
from typing import Any

from lx.interfaces import Checkpoint
from lx.kernel.errors import ArgumentTypeError, ArgumentValueError
from lx.urls import join, require_path
from lx_plugin_checkpoint.file_names import settled


class OnExceptionCheckpoint(Checkpoint):
    """Saves a checkpoint when `fit` fails or is interrupted, and removes it when a later `fit` comes to its end.

    `fit` resumes from the file by itself if it is there, as with `ckpt_path="last"`. It is written on every rank's exception, so with
    several processes all of them must fail, as they do on an interrupt. An exception before the first batch writes nothing, and so
    leaves the file of an earlier failure as it is.

    Args:
        dirpath: A folder, or a URL that the checkpoint I/O reaches, such as `s3://bucket/runs`.
        filename: The name of the file in it, without `.ckpt`.

    Raises:
        ValueError: for an empty `filename`.

    >>> OnExceptionCheckpoint("/tmp", "rescued").ckpt_path.endswith("rescued.ckpt")
    True
    """

    FILE_EXTENSION = ".ckpt"
    resumes_automatically = True
    """`fit` without a `ckpt_path` goes on from what `find_last` finds."""

    def __init__(self, dirpath: str | os.PathLike[str], filename: str = "on_exception") -> None:
        if not filename:
            raise ArgumentValueError("filename='': OnExceptionCheckpoint needs a name for its file, such as 'on_exception'.")
        require_path("dirpath", dirpath, or_none=False)
        if not isinstance(filename, str):
            raise ArgumentTypeError(f"filename={filename!r}: it must be text, the name of the file without its extension.")
        self.dirpath = settled(dirpath)
        self.filename = filename
        self._training = False
        self._failed = False
        self._rescued = False

    @property
    def ckpt_path(self) -> str:
        """The file."""
        return join(self.dirpath, self.filename + self.FILE_EXTENSION)

    def find_last(self, trainer: Any) -> set[str]:
        """The file, if it is there; `ckpt_path="last"` takes the newest of what the checkpoint callbacks find."""
        return {self.ckpt_path} if trainer.strategy.require_checkpoint_io().exists(self.ckpt_path) else set()

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Begins a run, of which nothing has failed yet."""
        self._training = self._failed = self._rescued = False

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """From here on there is something to save."""
        self._training = not trainer.fast_dev_run

    def rescue(self, trainer: Any) -> str:
        """Saves, when a signal ends the run."""
        if not self._training:
            return ""
        trainer.save_checkpoint(self.ckpt_path)
        self._rescued = True
        return self.ckpt_path

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """Saves, if that has not been done."""
        self._failed = True
        if self._training and not self._rescued:
            trainer.save_checkpoint(self.ckpt_path)

    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Removes the file after a `fit` that has come to its end."""
        if stage == "fit" and not self._failed and not trainer.fast_dev_run:
            trainer.strategy.remove_checkpoint(self.ckpt_path)
        self._training = False
