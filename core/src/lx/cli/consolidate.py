"""`lx consolidate`: makes one file of the folder of shards that a sharded strategy saved."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

SCRIPT = "zero_to_fp32.py"
"""What DeepSpeed puts into each of its folders, and what alone knows their layout."""


def run(arguments: Sequence[str]) -> int:
    """Runs `lx consolidate` with the arguments after this word; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="lx consolidate",
        description="Makes one file, which any strategy reads, of a folder that was saved with torch.distributed.checkpoint. Nothing in the"
        " folder is run.",
    )
    parser.add_argument("folder", type=Path, help="the folder with the shards")
    parser.add_argument(
        "-o", "--output-file", "--output_file", type=Path, help="the file, which must not exist (default: FOLDER.consolidated)"
    )
    options = parser.parse_args(arguments)
    output = options.output_file or options.folder.with_name(options.folder.name + ".consolidated")
    try:
        keys = consolidate(options.folder, output)
    except Exception as error:  # whatever torch makes of a folder that is something else
        print(f"lx consolidate: {error}", file=sys.stderr)
        return 1
    print(f"{output}: {', '.join(keys)}")
    return 0


def consolidate(folder: Path, output: Path) -> list[str]:
    """Writes the file; returns the keys in it.

    Raises `FileNotFoundError` and `NotADirectoryError` for what is no folder, `ValueError` for one without shards, `FileExistsError` for
    an output that is there already.
    """
    check(folder, output)
    from lx.checkpoints import distributed  # noqa: PLC0415 -- `lx plugins`, in the same package, needs no torch
    from lx.module_loading import installed_checkpoint_io, read_checkpoint  # noqa: PLC0415

    content = distributed.load(folder, lambda meta: read_checkpoint(meta, "cpu"))
    installed_checkpoint_io().save_checkpoint(content, output)
    return list(content)


def check(folder: Path, output: Path) -> None:
    """Raises what `consolidate` raises, before torch is imported and anything is read."""
    if not folder.exists():
        raise FileNotFoundError(f"there is no folder {str(folder)!r}.")
    if not folder.is_dir():
        raise NotADirectoryError(f"{str(folder)!r} is a file; give the folder with the shards of a checkpoint.")
    if (folder / SCRIPT).exists():
        raise ValueError(f"{str(folder)!r} has a script of its own that does it: python {folder / SCRIPT} {folder} {output}")
    if not (folder / ".metadata").exists():
        raise ValueError(
            f"{str(folder)!r} holds no shards: a folder that torch.distributed.checkpoint wrote has a file .metadata; give the folder that"
            " a sharded strategy saved."
        )
    if output.exists():
        raise FileExistsError(f"{str(output)!r} exists; remove it, or choose another name with --output-file.")
