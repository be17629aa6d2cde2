"""Functions that act on one process only, known from the environment before any process group exists."""

import functools
import logging
import os
import warnings
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")
log = logging.getLogger("lx")


def environment_rank() -> int:
    """The rank that the environment gives this process, 0 if it gives none."""
    for name in ("RANK", "SLURM_PROCID", "LOCAL_RANK", "JSM_NAMESPACE_RANK"):
        value = os.environ.get(name, "")
        if value.isdigit():
            return int(value)
    return 0


class RankZeroOnly:
    """Decorator: the function runs on rank 0, and returns `default` elsewhere. `rank_zero_only.rank` is this process's rank.

    >>> @rank_zero_only
    ... def write():
    ...     return "written"
    >>> write()
    'written'
    """

    def __init__(self) -> None:
        self.rank = environment_rank()

    def __call__(self, function: Callable[..., T], default: Any = None) -> Callable[..., T | Any]:
        """Wraps a function."""

        @functools.wraps(function)
        def on_rank_zero(*args: Any, **kwargs: Any) -> T | Any:
            return function(*args, **kwargs) if self.rank == 0 else default

        return on_rank_zero


rank_zero_only = RankZeroOnly()


class PossibleUserWarning(UserWarning):
    """A warning about something that is probably, not certainly, a mistake."""


def rank_zero_info(message: str) -> None:
    """Logs on rank 0, at level INFO, to the logger `lx`."""
    if rank_zero_only.rank == 0:
        log.info(message)


def rank_zero_debug(message: str) -> None:
    """Logs on rank 0, at level DEBUG, to the logger `lx`."""
    if rank_zero_only.rank == 0:
        log.debug(message)


def rank_zero_warn(message: str, category: type[Warning] = UserWarning, stacklevel: int = 3) -> None:
    """Warns on rank 0."""
    if rank_zero_only.rank == 0:
        warnings.warn(message, category=category, stacklevel=stacklevel)
