"""The verdict: whether each sample was seen exactly once in each epoch, over all restarts and processes."""

import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from lx_plugin_data_ledger.ledger import Ledger, Row, Run, read
from lx_plugin_data_ledger.notation import shown


@dataclass(frozen=True, slots=True)
class Account:
    """One pass over one loader, by all processes.

    `cycle` counts from 0 where a shorter loader starts again within an epoch. `missing` are samples that should have been seen and were
    not, `repeated` how often those were that should have been once, and `strange` what is not in the data set. A pass that is not
    `finished` may have samples still to come.
    """

    epoch: int
    loader: int
    cycle: int
    samples: int
    once: int
    missing: tuple[Any, ...]
    repeated: dict[Any, int]
    strange: tuple[Any, ...]
    finished: bool
    ok: bool
    verdict: str


@dataclass(frozen=True, slots=True)
class Report:
    """What `verify` found: `str(report)` has the verdict of each epoch, a line each."""

    restarts: int
    accounts: tuple[Account, ...]
    problems: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether all is as it should be."""
        return bool(self.accounts) and not self.problems and all(account.ok for account in self.accounts)

    def __str__(self) -> str:
        lines = [*(account.verdict for account in self.accounts), *self.problems]
        return "\n".join(lines) if lines else "no batch was trained on"


def verify(path: str | os.PathLike[str] | Ledger, run: str | None = None) -> Report:
    """Counts how often each sample was seen in each epoch, over all restarts and processes.

    What the loaders are to draw was noted by the callback: part of an epoch with `limit_train_batches` or `drop_last`, some samples twice
    where the shares of processes are made equal, any number of times where the sampler draws with replacement.

    Args:
        path: The folder of the ledger, the `default_root_dir` that it lies in, or what `read` returned.
        run: The run that the account ends with, as for `read`.

    Raises:
        MisconfigurationException: where there is no ledger, or no such run.
    """
    ledger = path if isinstance(path, Ledger) else read(path, run)
    tallies: dict[tuple[int, int, int], Tally] = {}
    epochs: dict[int, Epoch] = {}
    for part in ledger.runs:
        for rank in range(part.world_size):
            for row in part.rows(rank):
                _count(row, part, rank, epochs, tallies)
    last = max(epochs, default=0)
    accounts = [
        tally.judge(Pass(epochs[epoch], epoch, loader, cycle), epoch == last) for (epoch, loader, cycle), tally in sorted(tallies.items())
    ]
    problems = [problem for part in ledger.runs for problem in part.problems]
    start = ledger.runs[0].start
    if start > (0, 0):
        cause = f": it went on from the run {ledger.missing}, which is not in this folder" if ledger.missing else ""
        problems.append(f"the account begins with epoch {start[0]}, batch {start[1]}{cause}")
    return Report(ledger.restarts, tuple(accounts), tuple(problems))


@dataclass(slots=True)
class Epoch:
    """How far an epoch has come, and what it should come to."""

    declared: dict[str, Any] = field(default_factory=dict)
    world_size: int = 1
    runs: set[str] = field(default_factory=set)
    reached: Counter[int] = field(default_factory=Counter)  # by rank, the batches of the epoch
    skipped: Counter[int] = field(default_factory=Counter)  # by loader

    def reached_by_all(self) -> int:
        """So many batches all processes have come to."""
        return min(self.reached[rank] for rank in range(self.world_size))


def _count(row: Row, run: Run, rank: int, epochs: dict[int, Epoch], tallies: dict[tuple[int, int, int], "Tally"]) -> None:
    epoch = epochs.setdefault(row.epoch, Epoch())
    epoch.declared, epoch.world_size = row.declared, run.world_size
    epoch.runs.add(run.name)
    epoch.reached[rank] = max(epoch.reached[rank], row.batch + 1)
    for place, indices in enumerate(row.indices):
        if indices is not None:
            loader = row.declared["loaders"][place]
            cycle = row.batch // max(loader["batches"], 1) if row.declared["mode"] == "max_size_cycle" else 0
            key = (row.epoch, place, cycle)
            if key not in tallies:
                tallies[key] = Tally(loader["samples"])
            tallies[key].add(indices)
            epoch.skipped[place] += len(indices) * row.skipped


class Pass:
    """One pass over one loader: what was to be drawn in it, as far as the callback knew."""

    def __init__(self, of: Epoch, epoch: int, loader: int, cycle: int) -> None:
        self.of, self.epoch, self.loader, self.cycle = of, epoch, loader, cycle
        told = of.declared["loaders"][loader]
        self.samples: int | None = told["samples"]
        self.replacement = bool(told.get("replacement"))
        self._size, self._share, self._limited = told["batch_size"], told["share"], bool(told.get("limited"))
        self._length, self._begin = told["batches"], cycle * told["batches"]
        self._rows = min(self._length, of.declared["batches"] - self._begin)
        self.finished = of.reached_by_all() - self._begin >= self._rows

    @property
    def draws(self) -> int | None:
        """How many indices all processes together were to draw; None where only the loader itself knows."""
        if self._size is not None:
            return int(min(self._rows * self._size, self._share) * self.of.world_size)
        return self.samples if self._rows == self._length and not self._limited else None

    @property
    def spare(self) -> int:
        """So many indices of a whole pass make the shares of the processes equal, and are of samples that were drawn before."""
        return 0 if None in (self._share, self.samples) else max(self._share * self.of.world_size - self.samples, 0)

    @property
    def name(self) -> str:
        """Which it is, for a line."""
        several = len(self.of.declared["loaders"]) > 1
        again = several and self.of.declared["mode"] == "max_size_cycle" and self.of.declared["batches"] > self._length
        return f"epoch {self.epoch}{f', loader {self.loader}' * several}{f', pass {self.cycle + 1}' * again}"

    def circumstances(self, may_go_on: bool) -> str:
        """What else is to be said in the line: how far the epoch came, skipped samples, restarts."""
        parts = []
        if not self.finished:
            told = f"{self.of.reached_by_all():,} of {self.of.declared['batches']:,} batches"
            parts.append(f"after {told}" if may_go_on else f"the epoch ended after {told}")
        if self.of.skipped[self.loader]:
            parts.append(f"{self.of.skipped[self.loader]:,} of them skipped by the step")
        restarts = len(self.of.runs) - 1
        if restarts:
            parts.append(f"{restarts} restart{'s' * (restarts > 1)}")
        return "".join(f", {part}" for part in parts)


class Tally:
    """How often each sample was seen in a pass."""

    def __init__(self, samples: int | None) -> None:
        self._numbered = bytearray(samples or 0)
        self._others: Counter[Any] = Counter()  # names, what is not in the data set, and what was seen too often for a byte

    def add(self, indices: list[Any]) -> None:
        """Counts the samples of a batch."""
        counts, size = self._numbered, len(self._numbered)
        for index in indices:
            if type(index) is int and 0 <= index < size and counts[index] < 255:
                counts[index] += 1
            else:
                self._others[tuple(index) if isinstance(index, list) else index] += 1

    def judge(self, of: Pass, is_last: bool) -> Account:
        """Whether this is what was to be drawn."""
        seen, strange = self._by_sample(of.samples)
        often = {sample: times for sample, times in seen.items() if times > 1}
        drawn, distinct = sum(seen.values()), len(seen)
        samples = distinct if of.samples is None else of.samples
        draws = drawn if of.draws is None else of.draws
        if of.finished:
            right = distinct == min(draws, samples) and drawn == draws
        else:
            right = drawn - distinct <= of.spare
        ok = not strange and (right or of.replacement)
        lacks = of.finished and not ok and distinct < min(draws, samples) and not any(isinstance(sample, str | tuple) for sample in seen)
        missing = tuple(sample for sample in range(samples) if sample not in seen) if lacks else ()
        once = distinct - len(often)
        if of.replacement:
            said = f"{drawn:,} draws of {samples:,} samples, with replacement"
        else:
            said = f"{once:,} of {samples:,} samples exactly once"
            if ok and often:
                said += f" and {len(often):,} more often, to make the shares of {of.of.world_size} processes equal"
            elif ok and of.finished and draws < samples:
                said += f", as the loader draws {draws:,}"
        wrong = {} if ok else often
        said += _told("never", missing) + _told("more than once", wrong) + _told("that the data set does not have", strange)
        verdict = f"{of.name}: {said}{of.circumstances(is_last)}"
        ended = of.finished or is_last
        return Account(of.epoch, of.loader, of.cycle, samples, once, missing, wrong, strange, of.finished, ok and ended, verdict)

    def _by_sample(self, samples: int | None) -> tuple[dict[Any, int], tuple[Any, ...]]:
        """How often each was seen, and what is no sample."""
        seen = {sample: times for sample, times in enumerate(self._numbered) if times}
        strange = []
        for sample, times in self._others.items():
            if isinstance(sample, int) and samples is not None and not 0 <= sample < samples:
                strange.append(sample)
            else:
                seen[sample] = seen.get(sample, 0) + times
        return seen, tuple(strange)


def _told(what: str, samples: Iterable[Any]) -> str:
    found = sorted(samples, key=lambda sample: (type(sample).__name__, sample))
    return f", {len(found):,} {what} ({shown(found)})" if found else ""
