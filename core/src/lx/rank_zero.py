"""Functions that act on one process only, known from the environment before any process group exists."""

import functools
import logging
import os
import sys
import warnings
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")
log = logging.getLogger("lx")


class LastResort(logging.Handler):
    """Writes what lx has to say to standard error, in a program that has set up no logging; in any other that decides where it goes."""

    def emit(self, record: logging.LogRecord) -> None:
        """Writes a line, unless somebody else handles it."""
        if not logging.getLogger().handlers and log.handlers == [self]:
            print(self.format(record), file=sys.stderr)


log.addHandler(LastResort())
if log.level == logging.NOTSET:
    log.setLevel(logging.INFO)


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


class LightningDeprecationWarning(DeprecationWarning):
    """A warning about what will be gone in a later version."""


def disable_possible_user_warnings(module: str = "") -> None:
    """Ignores every `PossibleUserWarning` from now on, or those of modules whose names a regular expression matches at their beginning.

    The environment variable `POSSIBLE_USER_WARNINGS=off` (or 0), set before lx is imported, does it for all.
    """
    warnings.filterwarnings("ignore", module=module, category=PossibleUserWarning)


if os.environ.get("POSSIBLE_USER_WARNINGS", "").lower() in ("0", "off"):
    disable_possible_user_warnings()


def rank_zero_info(message: object, *args: Any, **kwargs: Any) -> None:
    """Logs on rank 0, at level INFO, to the logger `lx`; what follows the message is as in `logging.Logger.info`."""
    if rank_zero_only.rank == 0:
        log.info(message, *args, **{"stacklevel": 2, **kwargs})


def rank_zero_debug(message: object, *args: Any, **kwargs: Any) -> None:
    """Logs on rank 0, at level DEBUG, to the logger `lx`; what follows the message is as in `logging.Logger.debug`."""
    if rank_zero_only.rank == 0:
        log.debug(message, *args, **{"stacklevel": 2, **kwargs})


def rank_zero_warn(message: str | Warning, category: type[Warning] = UserWarning, stacklevel: int = 3) -> None:
    """Warns on rank 0; as the place stands the caller of the function that calls this, or one `stacklevel` frames away."""
    if rank_zero_only.rank == 0:
        warnings.warn(message, category=category, stacklevel=stacklevel)


def rank_zero_deprecation(message: str | Warning, category: type[Warning] = LightningDeprecationWarning, stacklevel: int = 3) -> None:
    """Warns on rank 0 that something will be gone; Python shows such warnings to the code that runs as `__main__`, and to tests."""
    if rank_zero_only.rank == 0:
        warnings.warn(message, category=category, stacklevel=stacklevel)


def rank_prefixed_message(message: str, rank: int | None) -> str:
    """A message that says which rank it is from, if it is from one.

    >>> rank_prefixed_message("ready", 3), rank_prefixed_message("ready", None)
    ('[rank: 3] ready', 'ready')
    """
    return message if rank is None else f"[rank: {rank}] {message}"
