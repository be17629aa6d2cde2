"""The checkpoint that a run loads: found, read, and checked."""

from collections.abc import Callable
from functools import partial
from typing import Any

from lx.checkpoints import protocol
from lx.checkpoints.newest import difference, newest_first, read_newest, read_or_newest
from lx.checkpoints.search import AUTO, KEYWORDS, CheckpointSearch
from lx.kernel.errors import CheckpointError
from lx.state import TrainerFn


def read_checkpoint(run: Any) -> dict[str, Any] | None:
    """What is in the checkpoint that a run was asked to load, None for none; called on every rank, before anything is done.

    Of one that was not named by its path, the newest good one takes the place where it is damaged.
    """
    trainer, asked, fitting = run.trainer, run.asked_ckpt_path, run.fn is TrainerFn.FITTING
    read = partial(read_to_load, run)
    path = trainer.resume.choose(asked, CheckpointSearch(trainer, run.fn, run.given_model).find)
    content = None
    if path == AUTO:
        path, content = read_newest(trainer, read)
    elif path is not None:
        found = asked is None or asked in KEYWORDS
        path, content = read_or_newest(trainer, path, asked, read) if found else (path, read(path))
    trainer.resume.path = path
    if content is None:
        return None
    if fitting:
        protocol.check_epochs(content, path, trainer.fit_loop.max_epochs)
    for logger in trainer.loggers:
        logger.resumes = fitting
    return content


def read_to_load(run: Any, path: Any) -> dict[str, Any]:
    """What is in a checkpoint that a run is to load; raises a `CheckpointError` for one that is damaged, or is not enough for it."""
    content = protocol.read(run.trainer.strategy.load_checkpoint, path, protocol.on_host, run.weights_only)
    return protocol.check(content, path, run.fn is TrainerFn.FITTING)


def newest_that(run: Any, fits: Callable[[str, dict[str, Any]], bool]) -> tuple[str, dict[str, Any]] | None:
    """The newest checkpoint of a run that is good and of which `fits` says, by its path and its content, that it will do; None for none.

    On every rank. Where the run was not resumed, those that were there before it are not of it.
    """
    trainer, strategy = run.trainer, run.trainer.strategy
    candidates = newest_first(trainer)
    if trainer.ckpt_path is None:
        candidates = strategy.broadcast([path for path in candidates if strategy.require_checkpoint_io().modified(path) >= run.since])
    for path in candidates:
        try:
            content = read_to_load(run, path)
            will_do = not difference(trainer.lightning_module, content) and fits(path, content)
        except CheckpointError:
            will_do = False
        if strategy.reduce_boolean_decision(will_do):
            return path, content
    return None
