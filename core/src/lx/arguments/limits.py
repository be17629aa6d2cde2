"""How much to run: the arguments of the Trainer that count batches, steps, epochs or time, read and checked."""

import math
import numbers
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from datetime import timedelta
from typing import Any

from lx.arguments.spans import TAKES, Unit, duration, parse_span, read_span
from lx.kernel.errors import ArgumentTypeError, ArgumentValueError, MisconfigurationException
from lx.rank_zero import rank_zero_info


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
    micro_batch_size: int | str | None

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
    told = {quantity.name: given[quantity.name] for quantity in fields(Limits)}
    told["accumulate_grad_batches"] = read_accumulation(told["accumulate_grad_batches"])
    _read_bounds(told)
    _read_validation(told)
    _read_counts(told, given["barebones"])
    told["fast_dev_run"] = _fast_dev_run(told["fast_dev_run"])
    told["overfit_batches"] = batch_limit("overfit_batches", told["overfit_batches"])
    if told["fast_dev_run"]:
        return Limits(**_as_development_run(told))
    for name in BATCH_LIMITS:
        told[name] = 1.0 if told[name] is None else batch_limit(name, told[name])
    if told["overfit_batches"]:
        told.update(limit_train_batches=told["overfit_batches"], limit_val_batches=told["overfit_batches"])
    _say_how_it_was_read(told, given)
    return Limits(**told)


def change(limits: Limits, name: str, value: Any) -> None:
    """Sets one of the limits of batches, of when to validate or of how often to log, checked as in the constructor of a Trainer."""
    told = {quantity.name: getattr(limits, quantity.name) for quantity in fields(Limits)}
    told["num_sanity_val_steps"] = -1 if limits.num_sanity_val_steps == math.inf else limits.num_sanity_val_steps
    told[name] = value
    if name in BATCH_LIMITS:
        told[name] = 1.0 if value is None else batch_limit(name, value)
    _read_validation(told)
    _read_counts(told, barebones=False)
    for quantity in fields(Limits):
        setattr(limits, quantity.name, told[quantity.name])


def _as_development_run(told: dict[str, Any]) -> dict[str, Any]:
    batches = told["fast_dev_run"]
    rank_zero_info(f"fast_dev_run: one epoch of {batches} batch(es) in every stage; nothing is logged or saved.")
    told = {**told, **dict.fromkeys(BATCH_LIMITS, batches), "max_steps": batches, "max_epochs": 1}
    if told["overfit_batches"]:
        told.update(limit_train_batches=told["overfit_batches"], limit_val_batches=told["overfit_batches"])
    return {**told, "num_sanity_val_steps": 0, "val_check_interval": 1.0, "check_val_every_n_epoch": 1}


def _read_bounds(told: dict[str, Any]) -> None:
    """The bounds of a run; `max_time` in epochs, steps or batches becomes the bound that it means."""
    window = told["accumulate_grad_batches"]
    for name, least, optional in (("max_steps", -1, False), ("min_steps", 0, True)):
        told[name] = count(name, as_steps(name, told[name], window), least, optional)
    for name, least in (("max_epochs", -1), ("min_epochs", 0)):
        told[name] = count(name, told[name], least, optional=True)
    time = told["max_time"]
    if isinstance(time, str):
        span = read_span("max_time", time, TAKES["max_time"])
        if span.unit is not Unit.TIME:
            epochs = span.unit is Unit.EPOCHS
            bound, amount = ("max_epochs", span.amount) if epochs else ("max_steps", as_steps("max_time", time, window))
            if told[bound] not in (None, amount, -1):
                raise MisconfigurationException(
                    f"max_time={time!r} means {bound}={amount}, and {bound}={told[bound]!r} is given; give one."
                )
            told.update({bound: amount, "max_time": None})
            return
    told["max_time"] = None if time is None else duration("max_time", time)


def _read_validation(told: dict[str, Any]) -> None:
    """When to validate; several epochs as an interval become `check_val_every_n_epoch`."""
    told["check_val_every_n_epoch"] = every = count("check_val_every_n_epoch", told["check_val_every_n_epoch"], least=1, optional=True)
    interval = told["val_check_interval"]
    if isinstance(interval, str):
        span = read_span("val_check_interval", interval, TAKES["val_check_interval"])
        if span.unit is Unit.EPOCHS and span.amount > 1:
            epochs = span.amount
            if not is_integer(epochs):
                raise MisconfigurationException(
                    f"val_check_interval={interval!r}: of more than one epoch, it takes whole ones; give '{int(epochs)}ep', or batches."
                )
            if every not in (1, epochs):
                raise MisconfigurationException(
                    f"val_check_interval={interval!r} means check_val_every_n_epoch={epochs}, and check_val_every_n_epoch={every!r} is"
                    " given; give one."
                )
            told["check_val_every_n_epoch"] = epochs
    told["val_check_interval"] = _interval(interval, told["check_val_every_n_epoch"])


def _read_counts(told: dict[str, Any], barebones: bool) -> None:
    sanity = count("num_sanity_val_steps", 2 if told["num_sanity_val_steps"] is None else told["num_sanity_val_steps"], least=-1)
    told["num_sanity_val_steps"] = 0 if barebones else math.inf if sanity == -1 else sanity
    every = 50 if told["log_every_n_steps"] is None else told["log_every_n_steps"]
    every = count("log_every_n_steps", as_steps("log_every_n_steps", every, told["accumulate_grad_batches"]))
    told["log_every_n_steps"] = 0 if barebones else every
    reload = "reload_dataloaders_every_n_epochs"
    told[reload] = count(reload, told[reload])
    if told["micro_batch_size"] != "auto":
        told["micro_batch_size"] = _micro_batch_size(told["micro_batch_size"])


def _micro_batch_size(value: Any) -> int | None:
    if isinstance(value, str):
        raise MisconfigurationException(f"micro_batch_size={value!r}: it must be 'auto', a number of samples (int) or None.")
    return count("micro_batch_size", value, least=1, optional=True)  # type: ignore[no-any-return]


def _say_how_it_was_read(told: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    """One line for each number that another reader, or its writer, may have meant otherwise: 1, 1.0, and whole floats above them."""
    overfits = bool(told["overfit_batches"])
    overruled = ("limit_train_batches", "limit_val_batches") if overfits else ("overfit_batches",)
    for name in (*BATCH_LIMITS, "overfit_batches", "val_check_interval"):
        value = given[name]
        if name in overruled or not is_number(value) or value < 1 or (is_integer(value) and value != 1):
            continue
        if value > 1:
            rank_zero_info(f"{name}={value!r} is read as {told[name]} batches; as a float, it would be a share up to 1.0.")
        elif name == "val_check_interval":
            after = (
                ("after each batch", "1.0 for the end of an epoch") if is_integer(value) else ("at the end of an epoch", "1 for each batch")
            )
            rank_zero_info(f"{name}={value!r} validates {after[0]}; write {after[1]}.")
        else:
            rank_zero_info(
                f"{name}={value!r} is {'one batch; write 1.0 for all' if is_integer(value) else 'all batches; write 1 for one'}."
            )


def is_integer(value: object) -> bool:
    """Whether a value is an integer, of Python or of NumPy, and not True or False."""
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def is_number(value: object) -> bool:
    """Whether a value is an integer or a float, of Python or of NumPy, and not True or False."""
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def count(name: str, value: Any, least: int = 0, optional: bool = False, unit: Unit | None = None) -> Any:
    """The value as an int if it is an integer, of Python or of NumPy, of at least `least`; None, where that is allowed.

    Text is read in `unit`, or, for an argument of a Trainer, in the units that it takes.

    >>> count("max_epochs", "10ep"), count("patience", "3ep", unit=Unit.EPOCHS)
    (10, 3)
    """
    if value is None and optional:
        return None
    takes = (unit,) if unit is not None else TAKES.get(name, ())
    counted = read_span(name, value, takes).amount if isinstance(value, str) and takes else value
    if not is_integer(counted):
        wanted = "an integer or None" if optional else "an integer"
        hint = " Use -1 for no bound." if least == -1 else ""
        raise ArgumentTypeError(f"{name}={value!r}: it must be {wanted}.{_as_integer(name, value)}{hint}")
    if counted < least:
        raise MisconfigurationException(f"{name}={value!r}: it must be {least} or more{' (-1: no bound)' if least == -1 else ''}.")
    return int(counted)


def _as_integer(name: str, value: Any) -> str:
    """How a number that was written otherwise is written as an integer."""
    if isinstance(value, float) and value.is_integer():
        return f" Write {name}={int(value)}."
    if isinstance(value, Mapping) and name == "accumulate_grad_batches":
        return " For a number that changes pass a function from the number of steps taken to it."
    return ""


def as_steps(name: str, value: Any, window: int | Callable[[int], int]) -> Any:
    """Text as a number of optimizer steps of `window` batches each; anything else as it is.

    Raises `MisconfigurationException` for batches that are no whole number of steps.

    >>> as_steps("max_steps", "500ba", 2), as_steps("max_steps", "500st", 2)
    (250, 500)
    """
    if not isinstance(value, str):
        return value
    span = read_span(name, value, TAKES[name])
    if span.unit is not Unit.BATCHES:
        return span.amount
    if callable(window):
        raise MisconfigurationException(
            f"{name}={value!r}: with a function as accumulate_grad_batches, batches are no fixed number of optimizer steps; give steps,"
            " such as '200st'."
        )
    steps, left = divmod(span.amount, window)
    if left:
        raise MisconfigurationException(
            f"{name}={value!r}: with accumulate_grad_batches={window}, that is no whole number of optimizer steps; give"
            f" '{(steps + 1) * window}ba' or '{steps + 1}st'."
        )
    return steps


def read_accumulation(batches: Any) -> int | Callable[[int], int]:
    """The batches of an optimizer step: a number, `"4ba"`, or a function, as it is, from the number of steps taken to a number.

    Raises `MisconfigurationException` for anything else.
    """
    return batches if callable(batches) else count("accumulate_grad_batches", batches, least=1)  # type: ignore[no-any-return]


def _fast_dev_run(value: int | bool | str) -> int:
    if value is True:
        return 1
    span = parse_span(value) if isinstance(value, str) else None
    batches: Any = span.amount if span is not None and span.unit in TAKES["fast_dev_run"] else value
    counts = batches is False or is_integer(batches)
    if not counts or batches < 0:
        kind = MisconfigurationException if counts else ArgumentTypeError
        raise kind(f"fast_dev_run={value!r}: it must be True, False or a number of batches, 0 or more, such as 3 or '3ba'.")
    return int(batches)


def batch_limit(name: str, value: Any) -> int | float:
    """A number of batches (an int, `"20ba"`) or a fraction of them (a float in [0, 1], `"25%"`); whole floats above 1 are numbers.

    >>> batch_limit("limit_val_batches", 2.0), batch_limit("limit_val_batches", 0.5), batch_limit("limit_val_batches", "25%")
    (2, 0.5, 0.25)
    """
    if isinstance(value, str):
        return read_span(name, value, TAKES[name]).amount  # type: ignore[no-any-return]
    if not is_number(value):
        raise ArgumentTypeError(f"{name}={value!r}: it must be a number of batches (int) or a fraction (float from 0.0 to 1.0).")
    if not math.isfinite(value):
        raise MisconfigurationException(f"{name}={value!r}: it must be a number of batches (int) or a fraction (float from 0.0 to 1.0).")
    if value < 0 or (value > 1 and value != int(value)):
        raise MisconfigurationException(f"{name}={value!r}: it must be an int of 0 or more, or a float from 0.0 to 1.0.")
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


def _interval(value: Any, every_n_epoch: int | None) -> int | float | timedelta:
    if value is None:
        return 1.0
    span = read_span("val_check_interval", value, TAKES["val_check_interval"]) if isinstance(value, str) else None
    if isinstance(value, Mapping | timedelta) or (span is not None and span.unit is Unit.TIME):
        interval = duration("val_check_interval", value)
        if interval <= timedelta(0):
            raise MisconfigurationException(f"val_check_interval={value!r}: a duration must be longer than nothing.")
        return interval
    if span is not None and span.unit is Unit.EPOCHS:
        checked: int | float = float(min(span.amount, 1))  # more than one is the matter of check_val_every_n_epoch
    else:
        checked = batch_limit("val_check_interval", value)
    if checked == 0 and (isinstance(checked, int) or span is not None):
        raise MisconfigurationException(
            f"val_check_interval={value!r}: it must be 1 batch or more; limit_val_batches=0 turns validation off."
        )
    if every_n_epoch is None and isinstance(checked, float) and checked != 1.0:
        raise MisconfigurationException(
            f"val_check_interval={value!r} is a fraction of an epoch, and check_val_every_n_epoch=None counts across epochs; give a number"
            " of batches."
        )
    return checked


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
            raise ArgumentValueError(f"Trainer(barebones=True, {name}={given[name]!r}): barebones turns it off; leave one of the two out.")
