"""The learning rates of a run, which are moved together."""

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
        """Has training go on with a rate, and schedulers in proportion: the rates that they start from and aim at are scaled with it."""
        for group, ratio in zip(self._groups, self._ratios, strict=True):
            now = float(group["lr"])
            if now:
                _scale(group, rate * ratio / now, schedulers)
            _assign(group, "lr", rate * ratio)


def _scale(group: dict[str, Any], factor: float, schedulers: list[Any]) -> None:
    for key in ("initial_lr", "max_lr", "min_lr"):
        if key in group:
            _assign(group, key, float(group[key]) * factor)
    for scheduler in schedulers:
        groups = getattr(getattr(scheduler, "optimizer", None), "param_groups", ())
        place = next((place for place, other in enumerate(groups) if other is group), None)
        for rates in (getattr(scheduler, "base_lrs", None), getattr(scheduler, "max_lrs", None)):
            if place is not None and rates is not None:
                rates[place] = rates[place] * factor


def _assign(group: dict[str, Any], key: str, rate: float) -> None:
    if isinstance(group[key], Tensor):
        group[key].fill_(rate)
    else:
        group[key] = rate
