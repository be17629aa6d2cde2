"""`lx upgrade-checkpoint`: rewrites files of older releases of Lightning in the layout of today."""

import argparse
import itertools
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def run(arguments: Sequence[str]) -> int:
    """Runs `lx upgrade-checkpoint` with the arguments after these words; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="lx upgrade-checkpoint",
        description="Rewrites checkpoints of older releases of Lightning in the layout of today, and keeps each original as a .bak beside"
        " it. It is not needed for reading them: that is done wherever one is loaded.",
    )
    parser.add_argument("path", type=Path, help="a checkpoint, or a folder, in which all are upgraded, also those in folders in it")
    parser.add_argument("-e", "--extension", default=".ckpt", help="how checkpoints in a folder end (default: %(default)s)")
    parser.add_argument("--map-to-cpu", action="store_true", help="moves all tensors to the CPU, for files of devices that are not here")
    parser.add_argument("--trust", action="store_true", help="reads files with any objects in them, which can run any code")
    options = parser.parse_args(arguments)
    if not options.path.exists():
        return _fail(f"there is no file or folder {str(options.path)!r}.")
    files = [options.path] if options.path.is_file() else sorted(_found(options.path, options.extension))
    if not files:
        return _fail(f"there is no file *{options.extension} in {str(options.path)!r}; --extension says how they end.")
    return max(_tell(path, "cpu" if options.map_to_cpu else None, not options.trust) for path in files)


def _found(folder: Path, extension: str) -> list[Path]:
    return [path for path in folder.rglob(f"*{extension}") if path.is_file() and not path.is_symlink()]


def _fail(said: str) -> int:
    print(f"lx upgrade-checkpoint: {said}", file=sys.stderr)
    return 1


def _tell(path: Path, map_location: Any, safely: bool) -> int:
    """Upgrades one file and says so; what cannot be upgraded stays as it is, and those after it get their turn."""
    try:
        print(f"{path}: {upgrade(path, map_location, safely)}")
    except Exception as error:  # whatever is in a file that anyone may have written
        missing = "deserialize" in str(error) and map_location is None
        said = str(error) if str(path) in str(error) else f"{path}: {error}"
        return _fail(f"{said}{' --map-to-cpu may help.' if missing else ''}")
    return 0


def upgrade(path: Path, map_location: Any = None, safely: bool = True) -> str:
    """Rewrites one file, if it is older than the layout of today; says what was done."""
    from lx.checkpoints.migration import VERSION, migrate, written_by  # noqa: PLC0415 -- `lx plugins`, in the same package, needs no torch
    from lx.checkpoints.pickled_names import reading  # noqa: PLC0415
    from lx.module_loading import installed_checkpoint_io  # noqa: PLC0415

    io = installed_checkpoint_io() if safely else installed_checkpoint_io(allow_objects=True)  # what is trusted is written again
    content = reading(lambda: io.load_checkpoint(path, map_location=map_location, weights_only=safely), path, safely)
    if written_by(content) is None:
        raise ValueError("it does not say which release wrote it, so it is no checkpoint of a Trainer.")
    before = content[VERSION]
    if migrate(content, path)[VERSION] == before:
        return f"is up to date ({before})"
    backup = _back_up(path)
    try:
        io.save_checkpoint(content, path)
    except BaseException:  # the file is as it was
        backup.unlink()
        raise
    return f"upgraded from {before}; the original is {backup.name}"


def _back_up(path: Path) -> Path:
    """Copies a file to the first name with .bak that is free: what is there already may be the only copy of something else."""
    names = (path.with_suffix(f".bak{number or ''}") for number in itertools.count())
    backup = next(name for name in names if not name.exists())
    shutil.copy2(path, backup)
    return backup
