"""Where checkpoints lie, and what is done to them there beside writing: links, removal, the list of the best."""

import json
import os
import shutil
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from lx.files.replacing import replaced, sync_folder
from lx.kernel.errors import MisconfigurationException
from lx.urls import join, local_or_url
from lx_plugin_checkpoint.file_names import settled

YAML_SIGNS = (": ", " #", '"', "'", "\n")


FOLDER = "checkpoints"


def run_folder(trainer: Any) -> str:
    """The folder for the checkpoints of a run: in the first logger's folder of the run, or else in `trainer.default_root_dir`."""
    if not trainer.loggers:
        return settled(join(trainer.default_root_dir, FOLDER))
    logger = trainer.loggers[0]
    version = f"version_{logger.version}" if isinstance(logger.version, int) else logger.version
    return settled(join(_folder_of_versions(trainer), *([str(version)] if version else []), FOLDER))


def folders_of_runs(trainer: Any) -> list[str]:
    """The folders that `run_folder` names for this run and for earlier ones: a logger gives each run a folder of its own."""
    own = run_folder(trainer)
    if not trainer.loggers:
        return [own]
    around = _folder_of_versions(trainer)
    names = trainer.strategy.require_checkpoint_io().list_folder(around)
    return list(dict.fromkeys([own, *(settled(join(around, name, FOLDER)) for name in names)]))


def _folder_of_versions(trainer: Any) -> str:
    logger = trainer.loggers[0]
    return str(join(logger.save_dir or trainer.default_root_dir, *([str(logger.name)] if logger.name else [])))


def is_inside(path: str, folder: str) -> bool:
    """Whether a path lies under a folder; where the path itself is a link, what counts is where the link lies."""
    place, around = local_or_url(path), local_or_url(folder)
    if isinstance(place, str) or isinstance(around, str):
        return str(place).startswith(f"{str(around).rstrip('/')}/")
    return place.absolute().parent.resolve().is_relative_to(around.resolve())


def link(path: str, target: str) -> None:
    """Makes `path` a relative link to `target`, a file or a directory, or a copy of it where links cannot be made.

    What was at `path` is replaced, by a link or a copied file in one step, so that `path` never names nothing; the new entry is on the
    disk before this returns, after which the old target may be removed.
    """
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    made = f"{path}.link"
    if os.path.lexists(made):  # left by a process that was killed
        os.unlink(made)
    try:
        os.symlink(os.path.relpath(target, os.path.dirname(path)), made, target_is_directory=os.path.isdir(target))
    except OSError:
        _copy(Path(target), Path(path))
    else:
        os.replace(made, path)
        sync_folder(Path(path).parent)


def link_when_written(trainer: Any, path: str, target: str) -> None:
    """Has `link` done on rank 0 once the checkpoint I/O has written `target`, which may be later; called on every rank."""
    if trainer.is_global_zero:
        trainer.strategy.require_checkpoint_io().after_writing(path, partial(link, path, target))


def _copy(source: Path, path: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, path)
        return
    with source.open("rb") as content, replaced(path) as file:
        shutil.copyfileobj(content, file, 1 << 20)


def remove(trainer: Any, path: str, folder: str, keep: str) -> None:
    """Removes a checkpoint, called on every rank; not one outside of `folder`, nor `keep`, the one that the run was resumed from."""
    if not path or not is_inside(path, folder) or settled(path) == keep:
        return
    if trainer.is_global_zero and os.path.islink(path):
        # A checkpoint I/O would look at what the link names, and that may be gone.
        trainer.strategy.require_checkpoint_io().after_writing(path, partial(Path(path).unlink, missing_ok=True))
    trainer.strategy.remove_checkpoint(path)


def write_scores(path: str | os.PathLike[str], scores: Mapping[str, Any]) -> None:
    """Writes `path: score` lines, which are YAML; a path that YAML could misread is quoted.

    Raises `MisconfigurationException` for a URL where fsspec is missing.
    """
    lines = [
        f"{json.dumps(name) if any(sign in name for sign in YAML_SIGNS) else name}: {float(score)}\n" for name, score in scores.items()
    ]
    place = local_or_url(path)
    if isinstance(place, Path):
        place.write_text("".join(lines), encoding="utf-8")
        return
    try:
        import fsspec  # type: ignore[import-untyped]  # noqa: PLC0415 -- for URLs alone
    except ImportError:
        raise MisconfigurationException(
            f"{place!r} is a URL, which is reached through fsspec; `pip install fsspec` and the package of its protocol."
        ) from None
    with fsspec.open(place, "w", encoding="utf-8") as file:
        file.writelines(lines)
