"""The newest checkpoint that is good: where there may be some, and what is done where one is damaged."""

from collections.abc import Callable, Iterable
from typing import Any

from lx.checkpoints.search import left_by_jobs
from lx.hparams.configurations import pack
from lx.kernel.errors import CheckpointCorruptError, CheckpointKeyError, CheckpointNotFoundError
from lx.rank_zero import rank_zero_info, rank_zero_warn

Read = Callable[[Any], dict[str, Any]]
"""Reads a checkpoint, and raises where it is damaged, gone, or no checkpoint to go on from."""


def newest_first(trainer: Any) -> list[str]:
    """All checkpoints in the folders that this trainer's callbacks, of this run and of earlier ones, and its jobs write to; on every rank.

    A callback lists its own in `find_all`, or in `find_last`. The answer is that of rank 0.
    """
    found = {str(path) for path in left_by_jobs(trainer).values()}
    for callback in trainer.checkpoint_callbacks:
        search = getattr(callback, "find_all", None) or getattr(callback, "find_last", None)
        found |= set(map(str, search(trainer))) if search is not None else set()
    modified = trainer.strategy.require_checkpoint_io().modified
    times = {path: _time(modified, path) for path in found}
    ranked = sorted((path for path in times if times[path]), key=lambda path: (times[path], path), reverse=True)
    return trainer.strategy.broadcast(ranked)  # type: ignore[no-any-return]


def _time(modified: Callable[[str], float], path: str) -> float:
    try:
        return modified(path)
    except FileNotFoundError:  # a link to what is gone, or removed meanwhile
        return 0.0


def read_newest(trainer: Any, read: Read) -> tuple[str | None, dict[str, Any] | None]:
    """The newest checkpoint that is good and is one of this very training, and its content; None for both where there is none.

    One that is damaged is warned of. One that is of another model, or has other hyperparameters, or weights alone, is passed over.
    """
    for path in newest_first(trainer):
        try:
            content = read(path)
        except (CheckpointCorruptError, CheckpointNotFoundError) as error:
            rank_zero_warn(f"ckpt_path='auto': {error} The next newest is looked at.")
        except CheckpointKeyError:  # weights alone
            continue
        else:
            other = difference(trainer.lightning_module, content)
            if not other:
                rank_zero_info(f"ckpt_path='auto': the run goes on from {path!r}.")
                return path, content
            rank_zero_info(f"ckpt_path='auto': {path!r} is passed over: {other}.")
    rank_zero_info("ckpt_path='auto': there is no checkpoint to go on from; the run starts anew.")
    return None, None


def read_or_newest(trainer: Any, path: Any, asked: str, read: Read) -> tuple[Any, dict[str, Any]]:
    """The content of a checkpoint that was found, and not named by its path; where it is damaged, that of the newest good one.

    Raises the error of the first where there is no other.
    """
    try:
        return path, read(path)
    except CheckpointCorruptError as error:
        others = [other for other in newest_first(trainer) if other != str(path)]
        good = _first_good(trainer, others, read)
        if good is None:
            raise
        rank_zero_warn(f"ckpt_path={asked!r}: {error} The newest good one is taken instead, {good[0]!r}.")
        return good


def _first_good(trainer: Any, paths: Iterable[str], read: Read) -> tuple[str, dict[str, Any]] | None:
    for path in paths:
        try:
            content = read(path)
        except (CheckpointCorruptError, CheckpointNotFoundError, CheckpointKeyError):
            continue
        if not difference(trainer.lightning_module, content):
            return path, content
    return None


def difference(module: Any, content: dict[str, Any]) -> str:
    """In which respect a checkpoint is of another training than that of this module, empty if in none that can be seen.

    Layers that the module has not made yet are not looked at.
    """
    saved = content["state_dict"]
    for name, value in module.state_dict().items():
        if name not in saved and module.strict_loading:
            return f"it has no {name}, so that it is of another model"
        if name in saved and getattr(saved[name], "shape", None) != getattr(value, "shape", None):
            return f"its {name} has another shape, so that it is of another model"
    before, now = content.get("hyper_parameters") or {}, pack(module.hparams)[0] if module.hparams else {}
    changed = sorted(str(key) for key in {*before, *now} if not _same(before.get(key), now.get(key)))
    return f"it was written with other hyperparameters ({', '.join(changed)})" if changed else ""


def _same(one: Any, other: Any) -> bool:
    """Whether two hyperparameters are equal; what cannot be compared is taken to be."""
    try:
        return bool(one == other)
    except Exception:
        return True
