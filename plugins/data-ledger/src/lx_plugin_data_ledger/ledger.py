"""What the callback wrote, read back: the batches that count, over all restarts and processes."""

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lx.kernel.errors import MisconfigurationException
from lx_plugin_data_ledger.notation import read_back

FOLDER = "data_ledger"
RUN = re.compile(r"(\d{4,})-[0-9a-f]{8}")
"""The name of the folder of a run: its number, and what tells it from the runs of other folders."""
END = (1 << 62, 0)


@dataclass(frozen=True, slots=True)
class Entry:
    """The samples that one process took from one loader for one batch.

    `step` is the optimizer step that they went into, as `trainer.global_step` is after it, and the last one where a batch takes several;
    `first_step` is the first. Both are None for a batch that went into none: the step skipped it, or its window was given up.
    """

    epoch: int
    batch: int
    step: int | None
    first_step: int | None
    skipped: bool
    run: str
    rank: int
    loader: int
    indices: list[Any]


@dataclass(slots=True)
class Row:
    """A line of a batch; `declared` says what the loaders are."""

    epoch: int
    batch: int
    steps: tuple[int, int] | None
    skipped: bool
    indices: list[Any]
    declared: dict[str, Any]


@dataclass(slots=True)
class Run:
    """One run, and the part of it that counts: from `start` up to before `end`, where the next one goes on, both (epoch, batch)."""

    folder: Path
    header: dict[str, Any]
    end: tuple[int, int] = END
    problems: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The name of its folder."""
        return self.folder.name

    @property
    def start(self) -> tuple[int, int]:
        """Its first batch, as (epoch, batch)."""
        epoch, batch = self.header["from"]
        return epoch, batch

    @property
    def world_size(self) -> int:
        """The number of its processes."""
        return int(self.header["world_size"])

    def rows(self, rank: int) -> Iterator[Row]:
        """The batches of one process that count, in order; what cannot be read is noted in `problems`."""
        path, declared = self.folder / f"rank-{rank}.jsonl", dict[str, Any]()
        held: list[Row] = []  # until it is clear that their step came
        if not path.is_file():
            self._note(f"{path} is missing: nobody knows what process {rank} took in the run {self.name}")
            return
        for line in _lines(path, self._note):
            if "indices" in line:
                steps = _steps(line["step"])
                if held and steps is not None and steps != held[-1].steps:
                    yield from held
                    held = []
                row = Row(line["epoch"], line["batch"], steps, steps is None, [*map(_indices, line["indices"])], declared)
                if (row.epoch, row.batch) < self.end:
                    held.append(row)
            elif "loaders" in line:
                declared = line
            elif "ends_with_step" in line:
                for row in held:  # a window that was given up has no step
                    if row.steps is not None and row.steps[1] > line["ends_with_step"]:
                        row.steps = None
                yield from held
                held = []
        yield from held

    def _note(self, problem: str) -> None:
        if problem not in self.problems:
            self.problems.append(problem)


class Ledger:
    """The account of a training: `runs`, of which each goes on from a checkpoint of the one before.

    What a run did after the checkpoint that the next one goes on from was done again, and is left out.
    """

    def __init__(self, runs: list[Run], missing: str | None = None) -> None:
        self.runs = runs
        self.missing = missing
        """The run that the first of them went on from, if it is not there."""

    @property
    def restarts(self) -> int:
        """How often it was gone on with."""
        return len(self.runs) - 1

    def entries(self) -> Iterator[Entry]:
        """All that counts, run by run, and in it process by process."""
        for run in self.runs:
            for rank in range(run.world_size):
                for row in run.rows(rank):
                    first, last = row.steps or (None, None)
                    for loader, indices in enumerate(row.indices):
                        if indices is not None:
                            yield Entry(row.epoch, row.batch, last, first, row.skipped, run.name, rank, loader, indices)

    def of_sample(self, index: Any, loader: int = 0) -> list[Entry]:
        """Where a sample was taken."""
        return [entry for entry in self.entries() if entry.loader == loader and index in entry.indices]

    def of_step(self, step: int) -> list[Entry]:
        """What went into an optimizer step, which is named by `trainer.global_step` after it."""
        return [entry for entry in self.entries() if entry.first_step is not None and entry.first_step <= step <= (entry.step or 0)]


def read(path: str | os.PathLike[str], run: str | None = None) -> Ledger:
    """Reads what the callback `data_ledger` wrote.

    Args:
        path: Its folder, or the `default_root_dir` that it lies in.
        run: The run that the account ends with, by the name of its folder or its number; the newest, if it is not given.

    Raises:
        MisconfigurationException: where there is no ledger, or no such run.
    """
    folder = Path(path)
    folder = folder / FOLDER if (folder / FOLDER).is_dir() else folder
    runs = _find(folder)
    if not runs:
        raise MisconfigurationException(
            f"there is no data ledger in {os.fspath(path)!r}; pass the folder that the callback data_ledger wrote to, or the"
            " default_root_dir of its Trainer."
        )
    chosen = _choose(runs, run)
    lineage, missing = [chosen], chosen.header["after"]
    while missing in runs:
        before = runs[missing]
        before.end = lineage[0].start
        lineage.insert(0, before)
        missing = before.header["after"]
    return Ledger(lineage, missing)


def _find(folder: Path) -> dict[str, Run]:
    """The runs of a folder by name, in their order; without those that were killed before they had begun."""
    named = [path for path in folder.iterdir() if RUN.fullmatch(path.name)] if folder.is_dir() else []
    runs = {}
    for path in sorted(named, key=lambda path: (int(path.name.split("-")[0]), path.name)):
        for file in sorted(path.glob("rank-*.jsonl")):
            header = next(_lines(file), None)
            if header is not None:
                runs[path.name] = Run(path, header)
                break
    return runs


def _choose(runs: dict[str, Run], asked: str | None) -> Run:
    if asked is None:
        return list(runs.values())[-1]
    found = [run for name, run in runs.items() if asked == name or (asked.isdigit() and int(asked) == int(name.split("-")[0]))]
    if len(found) != 1:
        raise MisconfigurationException(f"run={asked!r}: there are {', '.join(runs)}.")
    return found[0]


def _lines(path: Path, note: Any = lambda problem: None) -> Iterator[dict[str, Any]]:
    """The lines of a file; a last one that a killed process did not write to its end is left out."""
    with path.open(encoding="utf-8", errors="replace") as file:
        for number, line in enumerate(file, 1):
            if not line.endswith("\n"):
                return
            try:
                read = json.loads(line)
            except ValueError:
                read = None
            if isinstance(read, dict):
                yield read
            else:
                note(f"{path}, line {number} cannot be read: {line[:40].rstrip()!r}")


def _steps(written: Any) -> tuple[int, int] | None:
    if isinstance(written, list):
        return written[0], written[1]
    return None if written is None else (written, written)


def _indices(written: Any) -> list[Any] | None:
    return None if written is None else read_back(written)
