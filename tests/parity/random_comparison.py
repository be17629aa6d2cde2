"""How the two outcomes of a draw are compared, and which of the listed differences account for what is not equal."""

import math
from pathlib import Path
from typing import Any

from random_differences import DIFFERENCES, ROUNDED
from random_draws import Draw
from random_runs import Outcome, Run
from sides import World

UNCOMPARED = ("message",)


class Comparison:
    """One draw, run with both libraries; `under` are the ids of the differences that it falls under, None if they do not explain it."""

    def __init__(self, draw: Draw, folder: Path) -> None:
        self.draw, self.folder = draw, folder
        self.mine = Run(draw, World("lx", folder)).run()
        self._theirs: dict[frozenset[str], Outcome] = {}
        self.differing = differing(self.mine, self.theirs(()))
        self.under: list[str] | None = self._explain() if self.differing else []

    @property
    def refused(self) -> bool:
        """Whether both libraries refuse it."""
        return bool(self.mine["fit refused"] and self.theirs(())["fit refused"])

    def theirs(self, ids: Any) -> Outcome:
        """What Lightning does, made to do what lx does in these regards."""
        patching = frozenset(name for name in ids if DIFFERENCES[name].patch is not None)
        if patching not in self._theirs:
            patches = tuple(patch for name in DIFFERENCES if name in patching and (patch := DIFFERENCES[name].patch) is not None)
            self._theirs[patching] = Run(self.draw, World("lightning", self.folder), patches).run()
        return self._theirs[patching]

    def explain(self) -> str:
        """What is not equal, a few lines of each."""
        lines = [f"{name}:\n  lx        {_short(one)}\n  Lightning {_short(other)}" for name, (one, other) in self.differing.items()]
        for side, outcome in (("lx", self.mine), ("Lightning", self.theirs(()))):
            lines += [f"{side}, {name}: {value}" for name, value in outcome.items() if name.endswith(" message")]
        return "\n".join(lines)

    def _explain(self) -> list[str] | None:
        """The fewest differences with which the outcomes are equal, as far as leaving out one at a time finds them."""
        shown = [name for name, difference in DIFFERENCES.items() if difference.shows(self.draw)]
        # What one does to Lightning may be in the way of what another one says.
        tried = [shown, *([other for other in shown if other != name] for name in shown), *([name] for name in shown)]
        ids = next((ids for ids in tried if not self.left(ids)), None)
        if ids is None:
            self.differing = self.left(shown)
            return None
        for name in list(ids):
            without = [other for other in ids if other != name]
            if without and not self.left(without):
                ids = without
        return ids

    def left(self, ids: list[str]) -> dict[str, tuple[Any, Any]]:
        """What is not equal even with these differences."""
        theirs = self.theirs(ids)
        found = [DIFFERENCES[name] for name in ids]
        for difference in found:
            if difference.as_in_lx is not None:
                theirs = difference.as_in_lx(self.draw, self.mine, theirs)
        mine = self.mine
        for difference in found:
            if difference.cut is not None:
                mine, theirs = (difference.cut(self.draw, outcome) for outcome in (mine, theirs))
        differs = differing(mine, theirs, max([difference.tolerance for difference in found], default=0.0))
        return {name: values for name, values in differs.items() if not any(difference.leaves_out(name) for difference in found)}


def differing(mine: Outcome, theirs: Outcome, tolerance: float = 0.0) -> dict[str, tuple[Any, Any]]:
    """The names of what is not equal, with both values; `tolerance`, relative, is for what has to be equal otherwise."""
    found = {}
    for name in sorted(mine.keys() | theirs.keys()):
        what = name.rpartition(" ")[2]
        one, other = mine.get(name), theirs.get(name)
        if what in UNCOMPARED:
            continue
        if what == "family":
            equal = one is None or other is None or bool(set(one) & set(other))
        else:
            equal = alike(one, other, max(tolerance, ROUNDED.get(what, 0.0)))
        if not equal:
            found[name] = (one, other)
    return found


def alike(one: Any, other: Any, tolerance: float) -> bool:
    """Whether nested values are equal, numbers within them up to a relative tolerance."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(alike(value, other[name], tolerance) for name, value in one.items())
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(alike(*pair, tolerance) for pair in zip(one, other, strict=True))
    if isinstance(one, float) and isinstance(other, float):
        near = math.isclose(one, other, rel_tol=tolerance, abs_tol=tolerance / 10) if tolerance else one == other
        return near or (math.isnan(one) and math.isnan(other))
    return bool(one == other)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 600 else f"{text[:600]} ..."
