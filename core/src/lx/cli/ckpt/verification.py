"""`lx ckpt verify`: reads checkpoints whole, and says of each whether it can be used, and if not, why."""

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lx.cli.ckpt.amounts import counted, human_bytes
from lx.kernel.registry import Registry

WEIGHED = ("state_dict", "optimizer_states")
"""The parts in which every number should be finite; a callback may well hold an infinite bound."""


def add_to(actions: Any) -> None:
    """Adds the command to the parser of `lx ckpt`."""
    parser: argparse.ArgumentParser = actions.add_parser(
        "verify",
        help="reads checkpoints whole, and says which can be used",
        description="Reads each checkpoint whole, compares it with its checksums where it has some, and prints OK, or what is wrong. Exits"
        " with 1 if anything is. Of a folder, all checkpoints in it are read, and the newest good one is named.",
    )
    parser.add_argument("paths", metavar="FILE | FOLDER", nargs="+", help="checkpoints, or folders of checkpoints")
    parser.add_argument(
        "--finite", action="store_true", help="also counts NaN and infinity in weights and optimizer states, which are wrong there"
    )
    parser.set_defaults(run=run)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of one checkpoint: `wrong` is empty where nothing is; `told` says what it is."""

    path: Path
    told: str = ""
    wrong: str = ""
    modified: float = 0.0


def run(registry: Registry, options: argparse.Namespace) -> int:
    """Prints a line for each checkpoint; returns 1 if one is bad, or there is none."""
    from lx.checkpoints.formats import Formats  # noqa: PLC0415 -- `lx ckpt --help` needs no torch

    formats, bad = Formats(registry), False
    formats.default()  # if there is none, no file is to blame
    for given in options.paths:
        paths = _checkpoints(formats, given)
        verdicts = _show(formats, [Path(given)] if paths is None else paths, options.finite)
        bad = bad or not verdicts or any(one.wrong for one in verdicts)
        if not verdicts:
            print(f"lx ckpt verify: there is no checkpoint in {given!r}.", file=sys.stderr)
        elif paths is not None:
            _name_newest(verdicts, given)
    return int(bad)


def _checkpoints(formats: Any, given: str) -> list[Path] | None:
    """Those in a folder of checkpoints; None for what is one itself, or is not there."""
    from lx.checkpoints.formats import local  # noqa: PLC0415
    from lx.kernel.errors import CheckpointDirectoryError, CheckpointError  # noqa: PLC0415

    try:
        formats.find(given)
    except CheckpointDirectoryError:
        return list(formats.in_folder(local(given)))
    except CheckpointError:
        pass
    return None


def verify(formats: Any, path: Path, finite: bool = False) -> Verdict:
    """Reads one checkpoint whole; nothing is raised."""
    try:
        found = formats.find(path)
        modified, content = path.stat().st_mtime, found.load()
        return Verdict(path, _told(found, content), "; ".join(_not_finite(content)) if finite else "", modified)
    except Exception as error:  # whatever is in a file that anyone may have written
        return Verdict(path, wrong=" ".join(str(error).split()) or type(error).__name__)


def _told(found: Any, content: dict[str, Any]) -> str:
    from lx.checkpoints.description import kind  # noqa: PLC0415
    from lx.checkpoints.position import in_words, position  # noqa: PLC0415

    place = position(content)
    parts = [kind(content), f"{found.format}, {human_bytes(found.size())}", in_words(place) if place else ""]
    if "global_step" in content:
        parts.append(f"step {content['global_step']}")
    return "; ".join(part for part in parts if part)


def _not_finite(content: dict[str, Any]) -> Iterator[str]:
    """The tensors in which there is NaN or infinity, with how many of each."""
    from lx.checkpoints.contents import leaves, name_of  # noqa: PLC0415

    parts = {key: content[key] for key in WEIGHED if key in content} or content
    for place, value in leaves(parts):
        if nan_or_inf := _count(value):
            yield f"{name_of(place)} holds {' and '.join(nan_or_inf)}"


def _count(value: Any) -> list[str]:
    import torch  # noqa: PLC0415

    if not isinstance(value, torch.Tensor) or not (value.is_floating_point() or value.is_complex()):
        return []
    dense = value.to_dense() if value.layout is not torch.strided else value
    if dense.dtype.itemsize == 1:  # no arithmetic on the formats of 8 bits
        dense = dense.float()
    if dense.sum().isfinite():  # as it is of any tensor that holds neither, unless it overflows
        return []
    nan, inf = int(dense.isnan().sum()), int(dense.isinf().sum())
    return [f"{number:,} {what}" for number, what in ((nan, "NaN"), (inf, "infinite")) if number]


def _show(formats: Any, paths: list[Path], finite: bool) -> list[Verdict]:
    """Verifies checkpoints, and prints a line for each as soon as it was read, which may take a while."""
    width, verdicts = max((len(str(path)) for path in paths), default=0), []
    for path in paths:
        one = verify(formats, path, finite)
        print(f"{'bad' if one.wrong else 'OK ':3}  {path!s:{width}}  {one.wrong or one.told}", flush=True)
        verdicts.append(one)
    return verdicts


def _name_newest(verdicts: list[Verdict], folder: str) -> None:
    good = [one for one in verdicts if not one.wrong]
    summary = f"{counted(len(good), 'good checkpoint')} of {len(verdicts)} in {folder}"
    newest = max(good, key=lambda one: one.modified, default=None)
    print(f"{summary}; the newest good one: {newest.path}" if newest else f"{summary}.")
