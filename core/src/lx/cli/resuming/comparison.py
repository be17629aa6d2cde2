"""What is different between a run that was killed and gone on with, and one that nobody killed."""

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from lx.cli.resuming.journal import Entry

OF_BATCH = {"samples": "the samples of the batch", "loss": "the loss", "lr": "the learning rate", "weights": "the weights"}
"""What an entry of a batch holds, causes ahead of effects."""
OF_END = {"optimizers": "the optimizer state", "schedulers": "the scheduler state", "weights": "the weights"}
Place = tuple[float, float]
"""A fit and the number of a batch in it, over all epochs."""


@dataclass(slots=True)
class Difference:
    """The first place at which two runs differ; `what` are sentences, `names` the logged values among them."""

    place: Place
    where: str
    what: list[str] = field(default_factory=list)
    names: set[str] = field(default_factory=set)
    only_values: bool = True

    def __str__(self) -> str:
        return f"{self.where}: {'; '.join(self.what)}"


@dataclass(slots=True)
class Kill:
    """A kill: where, after which optimizer step, and where the next process began to train, None if it was killed before that."""

    point: str
    step: int
    start: Entry | None = None

    def __str__(self) -> str:
        where = f"{self.point}, after step {self.step}"
        if self.start is None:
            return f"{where}; the next process was killed before it trained"
        if self.start["checkpoint"] is None:
            return f"{where}; began anew, there being no checkpoint yet"
        return f"{where}; went on from step {self.start['step']}, {self.start['checkpoint']}"


class Reading:
    """The journal of a run, by what it is about."""

    def __init__(self, entries: Iterable[Entry]) -> None:
        self.starts: list[Entry] = []
        self.batches: dict[Place, list[Entry]] = {}
        self.values: dict[tuple[int, str, int | None, str], list[str]] = {}
        self._newest: Entry | None = None
        self.ends: dict[int, Entry] = {}
        self.events: dict[str, int] = {}
        self.kills: list[Kill] = []
        for entry in entries:
            self._take(entry)

    def _take(self, entry: Entry) -> None:
        kind = entry["kind"]
        if kind == "start":
            self._begin(entry)
        elif kind == "batch":
            self._newest = entry
            self.batches.setdefault((entry["fit"], entry["number"]), []).append(entry)
        elif kind == "log":
            for name, value in entry["values"].items():
                self.values.setdefault((entry["fit"], entry["logger"], entry["step"], name), []).append(value)
        elif kind == "end":
            self.ends[entry["fit"]] = entry
        elif kind == "events":
            self.events = entry["counts"]
        elif kind == "killed":
            self.kills.append(Kill(entry["point"], self._newest["step"] if self._newest else 0))

    def _begin(self, entry: Entry) -> None:
        entry["first"] = not self.kills
        self.starts.append(entry)
        for kill in self.kills[-1:]:
            kill.start = entry

    @property
    def size(self) -> str:
        """How long it was, in words."""
        steps = sum(end["step"] for end in self.ends.values())
        epochs = sum(end["epoch"] for end in self.ends.values())
        return f"{count(steps, 'step')}, {count(epochs, 'epoch')}"

    def place_of(self, fit: int, step: int | None) -> Place:
        """The batch after which values were logged at a step: the last of its window; the end of the fit if there is none."""
        axes = [(entries[0]["axis"], place) for place, entries in self.batches.items() if place[0] == fit]
        if step is None or not axes or max(axes)[0] < step:
            return (fit, math.inf)
        return max((place for axis, place in axes if axis == step), default=None) or min(place for axis, place in axes if axis > step)


def count(number: int, noun: str) -> str:
    """A number and a noun.

    >>> count(1, "step"), count(2, "step")
    ('1 step', '2 steps')
    """
    return f"{number} {noun}{'' if number == 1 else 's'}"


def first_difference(whole: Reading, other: Reading, ignored: Collection[str] = ()) -> Difference | None:
    """The first place at which a run differs from the whole one; None where there is none.

    What a run did twice, before it was killed and again, must have been the same both times, unless the whole one did it twice, too. Values
    that were logged are compared by logger, step and name, those in `ignored` not at all.
    """
    found: dict[Place, Difference] = {}
    _compare_batches(whole, other, found)
    _compare_values(whole, other, ignored, found)
    if not found:
        _compare_ends(whole, other, ignored, found)
    return found[min(found)] if found else None


def _at(found: dict[Place, Difference], whole: Reading, other: Reading, place: Place) -> Difference:
    """The difference at a place, which is described the first time."""
    if place not in found:
        entries = whole.batches.get(place) or other.batches.get(place)
        where = "the end"
        if entries:
            entry = entries[0]
            where = f"step {entry['step']} (epoch {entry['epoch']}, batch {entry['batch_idx']})"
        found[place] = Difference(place, where)
    return found[place]


def _compare_batches(whole: Reading, other: Reading, found: dict[Place, Difference]) -> None:
    for place in sorted({*whole.batches, *other.batches}):
        mine, theirs = whole.batches.get(place), other.batches.get(place)
        if mine is None or theirs is None:
            _differ(_at(found, whole, other, place), "it was trained on once more" if mine is None else "it was not trained on")
            return
        odd = {key: _odd([entry[key] for entry in mine], [entry[key] for entry in theirs]) for key in OF_BATCH}
        if any(odd.values()):
            difference = _at(found, whole, other, place)
            for key, what in OF_BATCH.items():
                if odd[key]:
                    _differ(difference, _described(what, mine[-1][key], odd[key][0]))
            return


def _odd(mine: list[Any], theirs: list[Any]) -> list[Any]:
    """What was found at a batch and should not have been; a run that goes back by itself may come to one with other weights."""
    return [value for value in theirs if value not in mine] or [value for value in theirs[-1:] if value != mine[-1]]


def _compare_values(whole: Reading, other: Reading, ignored: Collection[str], found: dict[Place, Difference]) -> None:
    for key in {**whole.values, **other.values}:
        fit, _, step, name = key
        mine, theirs = whole.values.get(key, []), other.values.get(key, [])
        if name in ignored or (mine and theirs and theirs[-1] == mine[-1] and set(theirs) <= set(mine)):
            continue
        difference = _at(found, whole, other, whole.place_of(fit, step))
        told = f"{name!r}, logged at step {step}"
        if not theirs:
            difference.what.append(f"{told}, was not logged")
        elif not mine:
            difference.what.append(f"{told}, was logged in addition, as {theirs[-1]}")
        else:
            odd = next((value for value in theirs if value not in mine), theirs[-1])
            difference.what.append(f"{told}, was {odd} instead of {mine[-1]}")
        difference.names.add(name)


def _compare_ends(whole: Reading, other: Reading, ignored: Collection[str], found: dict[Place, Difference]) -> None:
    for fit, mine in whole.ends.items():
        theirs = other.ends.get(fit)
        difference = Difference((fit, math.inf), "the end, all batches being the same")
        if theirs is None:
            _differ(difference, "fit did not come to its end")
        else:
            for key, what in OF_END.items():
                if mine[key] != theirs[key]:
                    _differ(difference, what + _named(mine[key], theirs[key]))
            for key, what in (("callbacks", "the state of the callback"), ("metrics", "the metric")):
                for name in sorted(_unequal(mine[key], theirs[key]) - set(ignored)):
                    _differ(difference, f"{what} {name!r}" + _values(mine[key], theirs[key], name) * (key == "metrics"), key == "metrics")
                    difference.names |= {name} if key == "metrics" else set()
        if difference.what:
            found[difference.place] = difference
            return


def _differ(difference: Difference, what: str, only_value: bool = False) -> None:
    difference.what.append(what)
    difference.only_values = difference.only_values and only_value


def _described(what: str, expected: Any, found: Any) -> str:
    """Numbers are shown, digests are not."""
    if "samples" in what or "weights" in what:
        return what
    shown = [", ".join(value) if isinstance(value, list) else value for value in (found, expected)]
    return f"{what}, {shown[0]} instead of {shown[1]}"


def _unequal(one: Mapping[str, Any], other: Mapping[str, Any]) -> set[str]:
    return {name for name in {**one, **other} if one.get(name) != other.get(name)}


def _values(expected: Mapping[str, Any], found: Mapping[str, Any], name: str) -> str:
    return f", {found.get(name, 'nothing')} instead of {expected.get(name, 'nothing')}"


def _named(one: Any, other: Any) -> str:
    """The names of the weights that differ, a few of them."""
    if not isinstance(one, dict):
        return ""
    names = sorted(_unequal(one, other))
    return f" ({', '.join(names[:3])}{f' and {len(names) - 3} more' if len(names) > 3 else ''})"
