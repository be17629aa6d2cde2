"""`lx ckpt convert`: writes a checkpoint anew, in another format."""

import argparse
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lx.cli.ckpt.amounts import human_bytes
from lx.kernel.registry import Registry

Write = Callable[[dict[str, Any], Path], None]

DROPPED = ("callbacks", "optimizer_states", "lr_schedulers")
"""What a checkpoint that is written with `save_weights_only=True` lacks."""


def add_to(actions: Any) -> None:
    """Adds the command to the parser of `lx ckpt`."""
    parser: argparse.ArgumentParser = actions.add_parser(
        "convert",
        help="writes a checkpoint anew, in another format",
        description="Writes a checkpoint anew, in another format. SRC is read whole and verified; an older one is brought up to date. DST"
        " is there whole afterwards, or not at all.",
    )
    parser.add_argument("source", metavar="SRC", help="a checkpoint")
    parser.add_argument("target", metavar="DST", help="the file, or the folder of a distributed one, which must not exist")
    parser.add_argument("--to", metavar="FORMAT", help="a checkpoint I/O, or distributed (default: what the suffix of DST stands for)")
    parser.add_argument("--weights-only", action="store_true", help="leaves out all that serves to go on with training")
    parser.add_argument("--force", action="store_true", help="replaces DST if it exists")
    parser.set_defaults(run=run)


def run(registry: Registry, options: argparse.Namespace) -> int:
    """Converts a checkpoint, and says what was written; raises what reading and writing raise."""
    from lx.checkpoints.description import kind, under_state_dict  # noqa: PLC0415 -- `lx ckpt --help` needs no torch
    from lx.checkpoints.formats import DISTRIBUTED, Formats, local  # noqa: PLC0415

    formats = Formats(registry)
    target = local(options.target)
    if os.path.lexists(target) and not options.force:
        raise FileExistsError(f"{options.target!r} exists; choose another name, or replace it with --force.")
    name, write = _writer(formats, options.to, target)
    content = under_state_dict(formats.find(options.source).load())
    if options.weights_only:
        content = weights_of(content, options.source, bare=name != DISTRIBUTED and formats.is_of_weights(name))
    _put(content, target, write)
    files = target.rglob("*") if target.is_dir() else [target]
    print(f"{options.target}: {kind(content)}; {name}, {human_bytes(sum(file.stat().st_size for file in files))}")
    return 0


def _writer(formats: Any, asked: str | None, target: Path) -> tuple[str, Write]:
    """The name of the format, and what writes it."""
    from lx.checkpoints import distributed  # noqa: PLC0415
    from lx.checkpoints.formats import DISTRIBUTED  # noqa: PLC0415
    from lx.kernel.errors import MisconfigurationException  # noqa: PLC0415

    if asked == DISTRIBUTED:
        _, beside = formats.default()
        return DISTRIBUTED, lambda content, path: distributed.save(content, path, beside.save_checkpoint)
    found = formats.named(asked) if asked is not None else formats.for_suffix(target.suffix)
    if found is None:
        raise MisconfigurationException(
            f"the suffix of {target.name!r} stands for no format; say which with --to, one of {', '.join(formats.names())}."
        )
    name, io = found

    def write(content: dict[str, Any], path: Path) -> None:
        io.save_checkpoint(content, path)
        io.teardown()  # one that writes in the background is waited for

    return name, write


def weights_of(content: dict[str, Any], source: str, bare: bool) -> dict[str, Any]:
    """What is left of a checkpoint without all that serves to go on with training, as `save_weights_only=True` writes it.

    Hyperparameters stay, with which `load_from_checkpoint` makes the module; not if `bare`, for programs that look for weights alone, each
    with memory of its own. Raises `CheckpointKeyError` for a content without weights.
    """
    from lx.checkpoints.contents import apart  # noqa: PLC0415
    from lx.checkpoints.description import is_precision  # noqa: PLC0415
    from lx.kernel.errors import CheckpointKeyError  # noqa: PLC0415

    if "state_dict" not in content:
        raise CheckpointKeyError(f"{source!r} holds no 'state_dict', so there are no weights to be written alone.")
    if bare:
        return {"state_dict": apart(content["state_dict"])}
    kept = {key: value for key, value in content.items() if key not in DROPPED and not is_precision(key, value)}
    if "fit_loop" in kept.get("loops", {}):
        kept["loops"] = {**kept["loops"], "fit_loop": {**kept["loops"]["fit_loop"], "state_dict": {}}}
    return kept


def _put(content: dict[str, Any], target: Path, write: Write) -> None:
    """Has the content written beside its place, and moved there once it is whole; what was there before is removed only then."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".converting-") as scratch:
        made, replaced = Path(scratch) / target.name, Path(scratch) / "replaced"
        write(content, made)
        if not (target.is_dir() or made.is_dir()):
            made.replace(target)
            return
        if os.path.lexists(target):  # no folder takes the place of something else at once
            target.rename(replaced)
        try:
            made.rename(target)
        except BaseException:
            if os.path.lexists(replaced):
                replaced.rename(target)
            raise
