"""Which checkpoint a run loads."""

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lx.kernel.errors import ArgumentTypeError, MisconfigurationException
from lx.rank_zero import rank_zero_warn
from lx.state import TrainerFn
from lx.urls import join, local_or_url

AUTO = "auto"
KEYWORDS = (AUTO, "best", "last", "hpc")
"""What `ckpt_path` may say in the place of a path."""


class ResumePath:
    """The path that the current or the last call loads; one that the user assigned holds for all later calls, too."""

    def __init__(self) -> None:
        self.path: Any = None
        self._assigned = False

    def assign(self, path: Any) -> None:
        """What the user says holds until the user says otherwise; None lets go."""
        self.path, self._assigned = path, bool(path)

    def choose(self, asked: Any, find: Callable[[Any], Any]) -> Any:
        """The path for one call, which may have been asked for one; `find` says what that means."""
        if self._assigned and asked is None:
            return self.path
        if self._assigned:
            rank_zero_warn(f"ckpt_path={asked!r} was passed, and trainer.ckpt_path={str(self.path)!r} assigned: what was passed counts.")
        self.path, self._assigned = None, False
        self.path = find(asked)
        return self.path


class CheckpointSearch:
    """What `ckpt_path` means: a path, `"auto"`, `"best"`, `"last"`, `"hpc"`, or what an entry point takes without one."""

    def __init__(self, trainer: Any, fn: TrainerFn, given_model: bool) -> None:
        self._trainer, self._fn, self._given_model = trainer, fn, given_model

    def find(self, asked: Any) -> Any:
        """The path of the checkpoint to load, None for none.

        Raises `ValueError` if `"best"`, `"hpc"` or the last fit has none, or for an empty path, `ArgumentTypeError` for what is no path.
        """
        if asked is None:
            return self._default()
        if isinstance(asked, bool) or not isinstance(asked, str | os.PathLike):
            raise ArgumentTypeError(f"ckpt_path={asked!r}: it must be a path, 'auto', 'best', 'last', 'hpc' or None.")
        if isinstance(asked, str) and re.fullmatch("registry(:.*)?", asked, re.IGNORECASE):
            raise MisconfigurationException(
                f"ckpt_path={asked!r}: lx has no model registry; download the checkpoint with the client of the registry, and pass the path"
                f" of the file (a file of that name is './{asked}')."
            )
        if not os.fspath(asked):
            raise ValueError(
                f"trainer.{self._fn}(ckpt_path={asked!r}): the path is empty, as best_model_path of a callback is while nothing has been"
                " saved; give the path of a checkpoint, or None for none."
            )
        keywords = {"auto": self._auto, "best": self._best, "last": self._last, "hpc": self._hpc}
        return keywords[asked]() if asked in keywords else asked

    def _default(self) -> Any:
        if self._fn is TrainerFn.FITTING:
            environment = self._trainer.strategy.cluster_environment
            if environment is not None and environment.requeues and (left := left_by_jobs(self._trainer)):
                return left[max(left)]
            resumes = any(getattr(callback, "resumes_automatically", False) for callback in self._trainer.checkpoint_callbacks)
            return self._last(quiet=True) if resumes else None
        if self._given_model:
            return None
        if not self._trainer.checkpoint_callbacks:
            raise ValueError(
                f"trainer.{self._fn}() without a model evaluates the best checkpoint, and no callback writes checkpoints; pass the model."
            )
        rank_zero_warn(f"trainer.{self._fn}(ckpt_path=None) was called without a model: the best checkpoint of the last fit is evaluated.")
        return self._best()

    def _auto(self) -> str:
        """That it is to be the newest good one, which only whoever reads them knows."""
        if self._fn is not TrainerFn.FITTING:
            raise ValueError(f"trainer.{self._fn}(ckpt_path='auto'): only fit goes on by itself; give a path, 'best' or 'last'.")
        return AUTO

    def _best(self) -> Any:
        callbacks = self._trainer.checkpoint_callbacks
        callbacks = [one for one in callbacks if getattr(one, "best_model_path", "")] or callbacks  # one may keep the last only
        if self._trainer.fast_dev_run:
            raise ValueError("ckpt_path='best': fast_dev_run saves no checkpoint, so there is no best one.")
        if not callbacks:
            raise ValueError(
                "ckpt_path='best': no callback writes checkpoints, so there is no best one; add 'model_checkpoint' to callbacks."
            )
        if len(callbacks) > 1:
            rank_zero_warn(f"ckpt_path='best': {len(callbacks)} callbacks have one; the first decides, {type(callbacks[0]).__name__}.")
        path = getattr(callbacks[0], "best_model_path", "")
        if not path:
            raise ValueError("ckpt_path='best': no checkpoint has been saved yet, so there is no best one; call fit first.")
        return path

    def _last(self, quiet: bool = False) -> Any:
        found: set[str] = set()
        for callback in self._trainer.checkpoint_callbacks:
            search = getattr(callback, "find_last", None)
            found |= set(search(self._trainer)) if search is not None else set()
        if not found:
            if not quiet:
                rank_zero_warn("ckpt_path='last': there is no last checkpoint yet; the run starts from scratch.")
            return None
        modified = self._trainer.strategy.require_checkpoint_io().modified
        return max(found, key=modified) if len(found) > 1 else found.pop()

    def _hpc(self) -> Path | str:
        """The newest of the checkpoints that a job wrote before it was queued again."""
        left = left_by_jobs(self._trainer)
        if not left:
            raise ValueError(
                f"ckpt_path='hpc': there is no file hpc_ckpt_<number>.ckpt in {str(self._trainer.default_root_dir)!r} (default_root_dir);"
                " give the path of a checkpoint."
            )
        return left[max(left)]


def left_by_jobs(trainer: Any) -> dict[int, Path | str]:
    """The checkpoints that jobs wrote to `default_root_dir` before they were queued again, by their numbers: `hpc_ckpt_<number>.ckpt`.

    Names that only resemble that, such as hpc_ckpt_old_3.ckpt, are somebody else's.
    """
    folder = trainer.default_root_dir
    names = trainer.strategy.require_checkpoint_io().list_folder(folder)
    numbers = {int(match[1]): name for name in names if (match := re.fullmatch(r"hpc_ckpt_(\d+)\.ckpt", name))}
    return {number: local_or_url(join(folder, name)) for number, name in numbers.items()}
