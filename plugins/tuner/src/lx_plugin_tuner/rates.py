"""The learning rates of a run, which are moved together."""

import math
from typing import Any

from torch import Tensor

from lx.kernel.errors import MisconfigurationException


class Rates:
    """The learning rates of all parameter groups of all optimizers, as one: what is set is the leading one, and each keeps its ratio to it.

    The leading rate is `held`, the one that the model holds, if a group has it, else the largest. Raises `MisconfigurationException` for
    a run without an optimizer, or with one without a learning rate.
    """

    def __init__(self, optimizers: list[Any], held: Any) -> None:
        if not optimizers:
            raise MisconfigurationException("there is no learning rate to find: configure_optimizers returned no optimizer.")
        self._groups = [group for optimizer in optimizers for group in optimizer.param_groups]
        for group in self._groups:
            if not isinstance(group.get("lr"), float | int | Tensor):
                raise MisconfigurationException(
                    f"there is no learning rate to find: an optimizer has lr={group.get('lr')!r} in one of its parameter groups."
                )
        initial = [float(group.get("initial_lr", group["lr"])) for group in self._groups]  # a warm-up may have lowered the other
        leading = held if held in initial else max(initial)
        self._ratios = [rate / leading if leading else 1.0 for rate in initial]

    def set(self, rate: float) -> None:
        """Gives every group its rate."""
        for group, ratio in zip(self._groups, self._ratios, strict=True):
            _assign(group, "lr", rate * ratio)

    def adopt(self, rate: float, schedulers: list[Any]) -> None:
        """Has training go on with a rate, and schedulers from there: what they multiply is scaled with it."""
        for group, ratio in zip(self._groups, self._ratios, strict=True):
            factor = rate * ratio / float(group["lr"]) if float(group["lr"]) else math.nan
            for scheduler in schedulers:
                groups = getattr(getattr(scheduler, "optimizer", None), "param_groups", ())
                bases = getattr(scheduler, "base_lrs", None)
                for place, other in enumerate(groups):
                    if other is group and bases is not None and math.isfinite(factor):
                        bases[place] = bases[place] * factor
            if "initial_lr" in group and math.isfinite(factor):
                _assign(group, "initial_lr", float(group["initial_lr"]) * factor)
            _assign(group, "lr", rate * ratio)


def _assign(group: dict[str, Any], key: str, rate: float) -> None:
    if isinstance(group[key], Tensor):
        group[key].fill_(rate)
    else:
        group[key] = rate
