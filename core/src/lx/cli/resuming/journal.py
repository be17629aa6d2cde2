"""The file in which a process that may be killed at any moment writes down what it did, one line for each thing."""

import json
import os
from pathlib import Path
from typing import Any

Entry = dict[str, Any]


class Journal:
    """Appends entries, each with one write of the operating system, which keeps it when the process is killed right after."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def write(self, kind: str, **values: Any) -> None:
        """Appends one entry."""
        os.write(self._file, (json.dumps({"kind": kind, **values}) + "\n").encode())


def read(path: Path) -> list[Entry]:
    """The entries of all processes that wrote to a file, in order; none if there is no file."""
    if not path.exists():
        return []
    lines = path.read_text("utf-8").splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]
