"""`lx ckpt diff`: where two checkpoints differ, the largest difference first."""

import argparse
from typing import Any

from lx.cli.ckpt.amounts import counted
from lx.cli.ckpt.inspection import LONGEST, shape
from lx.cli.table import columns, output_width
from lx.kernel.registry import Registry

SHOWN = 40


def add_to(actions: Any) -> None:
    """Adds the command to the parser of `lx ckpt`."""
    parser: argparse.ArgumentParser = actions.add_parser(
        "diff",
        help="says where two checkpoints differ",
        description="Says where two checkpoints differ, of the same format or not: keys, shapes, dtypes and values, the largest difference"
        " first. Exits with 0 if they are equal, 1 if they differ, and 2 if one cannot be read.",
    )
    parser.add_argument("first", metavar="A", help="a checkpoint")
    parser.add_argument("second", metavar="B", help="another one")
    parser.add_argument(
        "--tolerance",
        type=_tolerance,
        default=0.0,
        metavar="T",
        help="numbers a and b count as equal if they differ by at most T, or T times the larger of the two (default: 0)",
    )
    parser.add_argument("--all", action="store_true", help=f"lists all differences, not only the {SHOWN} largest")
    parser.set_defaults(run=run)


def _tolerance(text: str) -> float:
    number = float(text)
    if not 0 <= number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is no number from 0 on")
    return number


def run(registry: Registry, options: argparse.Namespace) -> int:
    """Prints the differences; returns 1 if there are any. Raises what reading the two raises."""
    from lx.checkpoints.description import are_weights, under_state_dict  # noqa: PLC0415 -- `lx ckpt --help` needs no torch
    from lx.checkpoints.differences import compare  # noqa: PLC0415
    from lx.checkpoints.formats import Formats  # noqa: PLC0415

    formats = Formats(registry)
    first, second = formats.find(options.first), formats.find(options.second)
    one, other = first.load(), second.load()
    if are_weights(one) != are_weights(other):
        one, other = under_state_dict(one), under_state_dict(other)
    found = compare(one, other, options.tolerance)
    sections = [
        _only(found.only_first, f"only in {options.first}"),
        _only(found.only_second, f"only in {options.second}"),
        _tensors(found.tensors, options.all),
        _values(found.values),
    ]
    within = f" within {options.tolerance:g}" if options.tolerance else ""
    equal = f"equal{within}: {counted(found.equal_tensors, 'tensor')}, {counted(found.equal_values, 'other value')}"
    print("\n\n".join(section for section in (*sections, equal) if section))
    return int(found.differs)


def _only(names: list[tuple[str, str]], title: str) -> str:
    return f"{title}\n{columns(names, output_width(), indent='  ')}" if names else ""


def _tensors(differences: list[Any], everything: bool) -> str:
    rows = []
    for one in differences if everything else differences[:SHOWN]:
        kind = one.first_kind if one.first_kind == one.second_kind else f"{one.first_kind} -> {one.second_kind}"
        same = one.first_shape == one.second_shape
        sizes = shape(one.first_shape) if same else f"{shape(one.first_shape)} -> {shape(one.second_shape)}"
        values = (f"{one.absolute:.3g}", f"{one.relative:.3g}", f"{one.different:,}") if same else ("-", "-", "-")
        rows.append((*values, kind, sizes, one.name))
    if not rows:
        return ""
    table = columns([("MAX ABS", "MAX REL", "NUMBERS", "DTYPE", "SHAPE", "TENSOR"), *rows], output_width(), indent="  ", right=(0, 1, 2))
    left = len(differences) - len(rows)
    return f"tensors that differ\n{table}" + (f"\n  and {left:,} with smaller differences, which --all lists" if left else "")


def _values(differences: list[tuple[str, Any, Any]]) -> str:
    rows = [(name, f"{_short(first)} -> {_short(second)}") for name, first, second in differences]
    return f"values that differ\n{columns(rows, output_width(), indent='  ')}" if rows else ""


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 4]} ..."
