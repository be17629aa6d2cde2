"""How much to run: the arguments of the Trainer that count batches, steps, epochs or time, read and checked."""

import math
import numbers
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from datetime import timedelta
from typing import Any

from lx.kernel.errors import ArgumentTypeError, MisconfigurationException
from lx.rank_zero import rank_zero_info, rank_zero_warn


@dataclass(slots=True)
class Limits:
    """What the Trainer was told about quantities, after `fast_dev_run`, `overfit_batches` and `barebones` had their say."""

    max_epochs: int | None
    min_epochs: int | None
    max_steps: int
    min_steps: int | None
    max_time: timedelta | None
    limit_train_batches: int | float
    limit_val_batches: int | float
    limit_test_batches: int | float
    limit_predict_batches: int | float
    fast_dev_run: int
    overfit_batches: int | float
    val_check_interval: int | float | timedelta
    check_val_every_n_epoch: int | None
    num_sanity_val_steps: int | float
    log_every_n_steps: int
    accumulate_grad_batches: int | Callable[[int], int]
    reload_dataloaders_every_n_epochs: int

    def window_size(self, step: int) -> int:
        """The number of batches in the accumulation window that begins after `step` optimizer steps."""
        batches = self.accumulate_grad_batches
        return count("accumulate_grad_batches(step)", batches(step), least=1) if callable(batches) else batches

    @property
    def val_check_seconds(self) -> float | None:
        """The interval of time-based validation in seconds, None where validation is by batches."""
        return self.val_check_interval.total_seconds() if isinstance(self.val_check_interval, timedelta) else None


BATCH_LIMITS = ("limit_train_batches", "limit_val_batches", "limit_test_batches", "limit_predict_batches")


def read_limits(given: Mapping[str, Any]) -> Limits:
    """Checks the quantities among `given`, the Trainer's arguments by name, and returns them as they will be used.

    Raises `MisconfigurationException`, which is a `TypeError`, too, for what is no number where one is needed.
    """
    barebones = given["barebones"]
    if given["max_steps"] is None:
        raise ArgumentTypeError("max_steps=None: it must be an integer. Use -1 for no bound.")
    told = {
        **{quantity.name: given[quantity.name] for quantity in fields(Limits)},
        "fast_dev_run": _fast_dev_run(given["fast_dev_run"]),
        "overfit_batches": batch_limit("overfit_batches", given["overfit_batches"]),
    }
    told = _as_development_run(told) if told["fast_dev_run"] else told
    if told["overfit_batches"]:
        told.update(limit_train_batches=told["overfit_batches"], limit_val_batches=told["overfit_batches"])
    for name, least, optional in (("max_epochs", -1, True), ("min_epochs", 0, True), ("max_steps", -1, False), ("min_steps", 0, True)):
        told[name] = count(name, told[name], least, optional)
    for name in BATCH_LIMITS:
        told[name] = batch_limit(name, 1.0 if told[name] is None else told[name])
    told["max_time"] = None if told["max_time"] is None else duration("max_time", told["max_time"])
    told["check_val_every_n_epoch"] = count("check_val_every_n_epoch", told["check_val_every_n_epoch"], least=1, optional=True)
    told["val_check_interval"] = _interval(told["val_check_interval"], told["check_val_every_n_epoch"])
    sanity = count("num_sanity_val_steps", 2 if told["num_sanity_val_steps"] is None else told["num_sanity_val_steps"], least=-1)
    told["num_sanity_val_steps"] = 0 if barebones else math.inf if sanity == -1 else sanity
    every = count("log_every_n_steps", 50 if told["log_every_n_steps"] is None else told["log_every_n_steps"])
    told["log_every_n_steps"] = 0 if barebones else every
    if not callable(told["accumulate_grad_batches"]):
        told["accumulate_grad_batches"] = count("accumulate_grad_batches", told["accumulate_grad_batches"], least=1)
    reload = "reload_dataloaders_every_n_epochs"
    told[reload] = count(reload, told[reload])
    return Limits(**told)


def _as_development_run(told: dict[str, Any]) -> dict[str, Any]:
    batches = told["fast_dev_run"]
    rank_zero_info(f"fast_dev_run: one epoch of {batches} batch(es) in every stage; nothing is logged or saved.")
    told = {**told, **dict.fromkeys(BATCH_LIMITS, batches), "max_steps": batches, "max_epochs": 1}
    return {**told, "num_sanity_val_steps": 0, "val_check_interval": 1.0, "check_val_every_n_epoch": 1}


def is_integer(value: object) -> bool:
    """Whether a value is an integer, of Python or of NumPy, and not True or False."""
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def is_number(value: object) -> bool:
    """Whether a value is an integer or a float, of Python or of NumPy, and not True or False."""
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def count(name: str, value: Any, least: int = 0, optional: bool = False) -> Any:
    """The value as an int if it is an integer, of Python or of NumPy, of at least `least`; None, where that is allowed."""
    if value is None and optional:
        return None
    if not is_integer(value):
        wanted = "an integer or None" if optional else "an integer"
        hint = " Use -1 for no bound." if least == -1 else ""
        raise ArgumentTypeError(f"{name}={value!r}: it must be {wanted}.{_as_integer(name, value)}{hint}")
    if value < least:
        raise MisconfigurationException(f"{name}={value!r}: it must be {least} or more{' (-1: no bound)' if least == -1 else ''}.")
    return int(value)


def _as_integer(name: str, value: Any) -> str:
    """How a number that was written otherwise is written as an integer."""
    if isinstance(value, float) and value.is_integer():
        return f" Write {name}={int(value)}."
    if isinstance(value, str) and re.fullmatch(r"-?[0-9]+", value.strip()):
        return f" Write {name}={int(value)}, without quotes."
    if isinstance(value, Mapping) and name == "accumulate_grad_batches":
        return " For a number that changes pass a function from the number of steps taken to it."
    return ""


def _fast_dev_run(value: int | bool) -> int:
    if value is True:
        return 1
    counts = value is False or is_integer(value)
    if not counts or value < 0:
        kind = MisconfigurationException if counts else ArgumentTypeError
        raise kind(f"fast_dev_run={value!r}: it must be True, False or a number of batches, 0 or more.")
    return int(value)


def batch_limit(name: str, value: Any) -> int | float:
    """A number of batches (an int) or a fraction of them (a float in [0, 1]); whole floats above 1 are numbers.

    >>> batch_limit("limit_val_batches", 2.0), batch_limit("limit_val_batches", 0.5)
    (2, 0.5)
    """
    if not is_number(value):
        raise ArgumentTypeError(f"{name}={value!r}: it must be a number of batches (int) or a fraction (float from 0.0 to 1.0).")
    if not math.isfinite(value):
        raise MisconfigurationException(f"{name}={value!r}: it must be a number of batches (int) or a fraction (float from 0.0 to 1.0).")
    if value < 0 or (value > 1 and value != int(value)):
        raise MisconfigurationException(f"{name}={value!r}: it must be an int of 0 or more, or a float from 0.0 to 1.0.")
    if value == 1 and name != "overfit_batches" and is_integer(value):
        rank_zero_info(f"{name}=1 is one batch; write 1.0 for all of them.")
    return int(value) if value > 1 or is_integer(value) else float(value)


def num_batches(name: str, limit: int | float, available: int | float) -> int | float:
    """How many of a loader's `available` batches (`inf` where it has no length) a limit leaves.

    >>> num_batches("limit_train_batches", 0.25, 10)
    2
    """
    if isinstance(limit, int):
        return min(limit, available)
    if limit in (0.0, 1.0) or available == 0:
        return available if limit else 0
    if available == math.inf:
        raise MisconfigurationException(
            f"{name}={limit!r} is a fraction, and the loader has no length; give a number of batches (an int) or 1.0."
        )
    share = int(available * limit)
    if share == 0:
        raise MisconfigurationException(
            f"{name}={limit!r} of {available} batches is less than one batch; give at least {1 / available:.3g}, or a number of batches."
        )
    return share


def duration(name: str, value: Any) -> timedelta:
    """A length of time from a timedelta, its keyword arguments, or `"DD:HH:MM:SS"`.

    >>> duration("max_time", "00:01:30:00") == duration("max_time", {"minutes": 90})
    True
    """
    if isinstance(value, timedelta):
        return _not_negative(name, value)
    if isinstance(value, str):
        match = re.fullmatch(r"(\d+):(\d\d):(\d\d):(\d\d)", value.strip())
        if match and int(match[2]) < 24 and int(match[3]) < 60 and int(match[4]) < 60:
            days, hours, minutes, seconds = map(int, match.groups())
            return timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)
    elif isinstance(value, Mapping):
        try:
            return _not_negative(name, timedelta(**value))
        except TypeError:
            pass
    raise (MisconfigurationException if isinstance(value, str) else ArgumentTypeError)(
        f"{name}={value!r}: a duration is a string 'DD:HH:MM:SS' (such as '00:01:30:00'), a timedelta, or a mapping such as {{'minutes':"
        " 90}."
    )


def _not_negative(name: str, value: timedelta) -> timedelta:
    if value < timedelta(0):
        raise MisconfigurationException(f"{name}={value!r}: it must not be negative.")
    return value


def _interval(value: Any, every_n_epoch: int | None) -> int | float | timedelta:
    if value is None:
        return 1.0
    if isinstance(value, str | Mapping | timedelta):
        interval = duration("val_check_interval", value)
        if interval.total_seconds() <= 0:
            raise MisconfigurationException(f"val_check_interval={value!r}: a duration must be longer than nothing.")
        return interval
    checked = batch_limit("val_check_interval", value)
    if checked == 0 and isinstance(checked, int):
        raise MisconfigurationException("val_check_interval=0: it must be 1 batch or more; limit_val_batches=0 turns validation off.")
    if every_n_epoch is None and isinstance(checked, float) and checked != 1.0:
        raise MisconfigurationException(
            f"val_check_interval={value!r} is a fraction of an epoch, and check_val_every_n_epoch=None counts across epochs; give a number"
            " of batches."
        )
    return checked


def epoch_bounds(limits: Limits, has_timer: bool) -> tuple[int, int]:
    """`(max_epochs, min_epochs)` as fit uses them; unbounded is -1. Warns where nothing bounds the run."""
    least = limits.min_epochs if limits.min_epochs is not None else int(limits.min_steps is not None)
    if limits.max_epochs is not None:
        return limits.max_epochs, least
    if limits.max_steps == -1 and not has_timer:
        rank_zero_warn("max_epochs was not given, and nothing else bounds the run: it ends after 1000 epochs. max_epochs=-1 never ends.")
        return 1000, least
    return -1, least


NOT_BAREBONES = (
    "enable_checkpointing",
    "logger",
    "enable_progress_bar",
    "log_every_n_steps",
    "enable_model_summary",
    "num_sanity_val_steps",
    "fast_dev_run",
    "detect_anomaly",
    "profiler",
)
"""The arguments of a Trainer that `barebones=True` turns off."""


def refuse_with_barebones(given: Mapping[str, Any]) -> None:
    """Raises `ValueError` for one of the Trainer's arguments that asks for what `barebones=True` turns off."""
    for name in NOT_BAREBONES:
        if given[name]:
            raise ValueError(f"Trainer(barebones=True, {name}={given[name]!r}): barebones turns it off; leave one of the two out.")
