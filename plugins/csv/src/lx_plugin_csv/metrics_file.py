"""A CSV file that grows in rows and in columns, and that a killed process leaves whole."""

import csv
import io
import os
import warnings
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any

from lx.run_folder import replace_text

_TAIL = 1 << 20  # bytes at the end of a file in which its last row begins


class MetricsFile:
    """Holds rows back, and writes them on `flush`: appended, or, when a row has a new column, with the rows before by a new file.

    A new file takes the place of the old one at once, so that neither a half-written header nor a loss of earlier rows can be seen. A
    killed process can only leave its last row unfinished, which the next `flush` drops, with a warning. Rows that somebody else wrote
    meanwhile are kept.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.rows: list[dict[str, Any]] = []
        """The rows that are held back."""
        self.columns: list[str] = []
        self._size = 0  # of the file as this object left it; with another size, somebody else wrote

    def flush(self) -> None:
        """Writes the rows that are held back; they stay held back if that fails."""
        if not self.rows:
            return
        size = os.path.getsize(self.path) if os.path.exists(self.path) else 0
        if size != self._size:
            self.columns = self._open(size)
        columns = sorted({*self.columns, *(name for row in self.rows for name in row)})
        if len(columns) > len(self.columns):
            self._rewrite(columns)
        else:
            self._append()
        self._size = os.path.getsize(self.path)
        self.rows = []

    def _open(self, size: int) -> list[str]:
        """The columns of the file that is there, once an unfinished last row is gone."""
        if size == 0:
            return []
        with open(self.path, "r+b") as file:
            file.seek(max(size - _TAIL, 0))
            tail = file.read()
            torn = len(tail) - 1 - tail.rfind(b"\n")
            if torn:
                file.truncate(size - torn)
                warnings.warn(f"the last row of {self.path} was unfinished, and is dropped: {tail[-torn:]!r}.", stacklevel=2)
        with _reading(self.path) as text:
            return next(csv.reader(text), [])

    def _rewrite(self, columns: list[str]) -> None:
        if self.columns:
            with _reading(self.path) as text:
                before = csv.reader(text)
                old = next(before)
                earlier = ([cells.get(name, "") for name in columns] for cells in (dict(zip(old, row, strict=False)) for row in before))
                replace_text(self.path, _lines(chain([columns], earlier, self._cells(columns))), durable=True)
        else:
            os.makedirs(os.path.dirname(self.path), exist_ok=True)
            replace_text(self.path, _lines(chain([columns], self._cells(columns))))
        self.columns = columns

    def _append(self) -> None:
        data = "".join(_lines(self._cells(self.columns))).encode("utf-8", "surrogateescape")
        with open(self.path, "ab", buffering=0) as file:
            end = file.seek(0, os.SEEK_END)
            try:
                written = file.write(data)
                if written != len(data):
                    raise OSError(f"only {written} of {len(data)} bytes could be written to {self.path}")
            except OSError:
                file.truncate(end)  # the rows are held back, and come again
                raise

    def _cells(self, columns: list[str]) -> Iterator[list[Any]]:
        return ([row.get(name, "") for name in columns] for row in self.rows)


def _reading(path: str) -> io.TextIOWrapper:
    return open(path, newline="", encoding="utf-8", errors="surrogateescape")  # bytes of any encoding survive


def _lines(rows: Iterable[list[Any]]) -> Iterator[str]:
    line = io.StringIO()
    writer = csv.writer(line, lineterminator="\n")
    for row in rows:
        writer.writerow(row)
        yield line.getvalue()
        line.seek(0)
        line.truncate()
