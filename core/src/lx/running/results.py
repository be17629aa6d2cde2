"""The table that validate and test print."""

import shutil
from collections.abc import Iterator, Sequence

from lx.state import TrainerFn

NAMES = 24
"""A column of names gives way to those of values down to this width."""


def verdict_table(fn: TrainerFn, results: Sequence[dict[str, float]], width: int | None = None) -> str:
    """The results of an evaluation as a table: a row for each metric, a column for each loader, empty where it logged none.

    It is as wide as the terminal at the most: loaders that find no place come in a table below, and a long name has a line of its own.

    >>> print(verdict_table(TrainerFn.TESTING, [{"acc": 0.5}]))
    test metric  value
    -----------  -----
    acc            0.5
    """
    width = shutil.get_terminal_size().columns if width is None else width
    names = list(dict.fromkeys(name.partition("/dataloader_idx_")[0] for row in results for name in row))
    columns = [[f"loader {place}" if len(results) > 1 else "value"] for place in range(len(results))]
    for place, (column, row) in enumerate(zip(columns, results, strict=True)):
        column += [_cell(row, name, place) for name in names]
    size = max(len(cell) for column in columns for cell in column)
    first = [f"{fn} metric", *names]
    most = max(NAMES, width - (size + 2) * len(columns))
    room = max(len(name) for name in first if len(name) <= most)
    together = max(1, (width - room) // (size + 2))
    blocks = (columns[start : start + together] for start in range(0, len(columns), together))
    return "\n\n".join("\n".join(_block(first, block, room, size if len(columns) > 1 else 0)) for block in blocks)


def _block(first: list[str], columns: list[list[str]], room: int, size: int) -> Iterator[str]:
    """The lines of a table of some of the loaders, those without a row left out."""
    widths = [size or max(map(len, column)) for column in columns]
    for place, (name, *cells) in enumerate(zip(first, *columns, strict=True)):
        if not any(cells):
            continue
        if len(name) > room:
            yield name
            name = ""
        values = (cell.rjust(width) for cell, width in zip(cells, widths, strict=True))
        yield "  ".join([name.ljust(room), *values]).rstrip()
        if place == 0:
            yield "  ".join("-" * width for width in (room, *widths))


def _cell(row: dict[str, float], name: str, index: int) -> str:
    value = row.get(name, row.get(f"{name}/dataloader_idx_{index}"))
    return "" if value is None else f"{value:.6g}"
