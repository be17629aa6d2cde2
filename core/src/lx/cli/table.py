"""Text in columns, for terminals of any width and for pipes."""

import shutil
import sys
import textwrap
from collections.abc import Collection, Sequence

GAP = "  "


def output_width() -> int | None:
    """The width of the terminal that standard output goes to; None where it goes elsewhere, and lines may be as long as they are."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def columns(rows: Sequence[Sequence[str]], width: int | None = None, indent: str = "", right: Collection[int] = ()) -> str:
    """Rows as lines of aligned columns; the last column is wrapped so that no line is longer than `width` characters.

    It stays at least 12 characters wide, so a very narrow terminal breaks lines itself. The columns in `right`, of which the last cannot be
    one, end at the same place, as numbers should.

    >>> print(columns([("slug", "components"), ("csv", "logger: csv, and more")], width=18))
    slug  components
    csv   logger: csv,
          and more
    """
    flat = [[" ".join(cell.split()) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*(row[:-1] for row in flat), strict=True)]
    left = len(indent) + sum(widths) + len(GAP) * len(widths)
    room = max(width - left, 12) if width is not None else None
    lines = []
    for row in flat:
        cells = [cell.rjust(size) if at in right else cell.ljust(size) for at, (cell, size) in enumerate(zip(row, widths, strict=False))]
        head = indent + "".join(cell + GAP for cell in cells)
        first, *further = textwrap.wrap(row[-1], room, break_on_hyphens=False) if room and row[-1] else [row[-1]]
        lines += [(head + first).rstrip(), *(" " * left + line for line in further)]
    return "\n".join(lines)


def paragraph(text: str, width: int | None, indent: str = "") -> str:
    """A text with its lines joined, and broken anew to a width."""
    joined = " ".join(text.split())
    return indent + joined if width is None else textwrap.fill(joined, width, initial_indent=indent, subsequent_indent=indent)
