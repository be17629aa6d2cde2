"""How much to run: the arguments of the Trainer that count batches, steps, epochs or time, read and checked."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from lx.kernel.errors import MisconfigurationException
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
    accumulate_grad_batches: int
    reload_dataloaders_every_n_epochs: int

    @property
    def val_check_seconds(self) -> float | None:
        """The interval of time-based validation in seconds, None where validation is by batches."""
        return self.val_check_interval.total_seconds() if isinstance(self.val_check_interval, timedelta) else None


def read_limits(
    *, fast_dev_run: int | bool, overfit_batches: int | float, barebones: bool, max_epochs: Any, min_epochs: Any, max_steps: Any, min_steps: Any,
    max_time: Any, batches: Mapping[str, int | float | None], val_check_interval: Any, check_val_every_n_epoch: Any, num_sanity_val_steps: Any,
    log_every_n_steps: Any, accumulate_grad_batches: Any, reload_dataloaders_every_n_epochs: Any,
) -> Limits:
    """Checks every quantity and returns them as they will be used; raises `MisconfigurationException`, or `TypeError`."""
    dev_run = _fast_dev_run(fast_dev_run)
    if dev_run:
        batches = dict.fromkeys(batches, dev_run)
        max_steps, max_epochs, num_sanity_val_steps, val_check_interval, check_val_every_n_epoch = dev_run, 1, 0, 1.0, 1
        rank_zero_info(f"fast_dev_run: one epoch of {dev_run} batch(es) in every stage; nothing is logged or saved.")
    overfit = batch_limit("overfit_batches", overfit_batches)
    if overfit:
        batches = {**batches, "limit_train_batches": overfit, "limit_val_batches": overfit}
    limits = {name: batch_limit(name, 1.0 if value is None else value) for name, value in batches.items()}
    count("max_epochs", max_epochs, least=-1, optional=True)
    count("min_epochs", min_epochs, optional=True)
    count("max_steps", max_steps, least=-1)
    count("min_steps", min_steps, optional=True)
    sanity = 2 if num_sanity_val_steps is None else num_sanity_val_steps
    count("num_sanity_val_steps", sanity, least=-1)
    every_n_epoch = count("check_val_every_n_epoch", check_val_every_n_epoch, least=1, optional=True)
    return Limits(
        max_epochs, min_epochs, max_steps, min_steps, None if max_time is None else duration("max_time", max_time),
        limits["limit_train_batches"], limits["limit_val_batches"], limits["limit_test_batches"], limits["limit_predict_batches"],
        dev_run, overfit, _interval(val_check_interval, every_n_epoch), every_n_epoch,
        0 if barebones else math.inf if sanity == -1 else sanity,
        0 if barebones else count("log_every_n_steps", 50 if log_every_n_steps is None else log_every_n_steps),
        count("accumulate_grad_batches", accumulate_grad_batches, least=1),
        count("reload_dataloaders_every_n_epochs", reload_dataloaders_every_n_epochs),
    )


def count(name: str, value: Any, least: int = 0, optional: bool = False) -> Any:
    """The value if it is an integer of at least `least` (or None, where that is allowed)."""
    if value is None and optional:
        return None
    if value is None or isinstance(value, bool) or not isinstance(value, int):
        wanted = "an integer or None" if optional else "an integer"
        hint = " Use -1 for no bound." if least == -1 else ""
        raise (TypeError if value is None else MisconfigurationException)(f"{name}={value!r}: it must be {wanted}.{hint}")
    if value < least:
        raise MisconfigurationException(f"{name}={value!r}: it must be {least} or more{' (-1: no bound)' if least == -1 else ''}.")
    return value


def _fast_dev_run(value: int | bool) -> int:
    if value is True:
        return 1
    if not isinstance(value, int) or value < 0:
        raise MisconfigurationException(f"fast_dev_run={value!r}: it must be True, False or a number of batches, 0 or more.")
    return int(value)


def batch_limit(name: str, value: Any) -> int | float:
    """A number of batches (an int) or a fraction of them (a float in [0, 1]); whole floats above 1 are numbers.

    >>> batch_limit("limit_val_batches", 2.0), batch_limit("limit_val_batches", 0.5)
    (2, 0.5)
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
        raise MisconfigurationException(f"{name}={value!r}: it must be a number of batches (int) or a fraction (float from 0.0 to 1.0).")
    if value < 0 or (value > 1 and value != int(value)):
        raise MisconfigurationException(f"{name}={value!r}: it must be an int of 0 or more, or a float from 0.0 to 1.0.")
    if value == 1 and name != "overfit_batches" and isinstance(value, int):
        rank_zero_info(f"{name}=1 is one batch; write 1.0 for all of them.")
    return int(value) if value > 1 else value


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
        raise MisconfigurationException(f"{name}={limit!r} is a fraction, and the loader has no length; give a number of batches (an int) or 1.0.")
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
    if isinstance(value, str):
        match = re.fullmatch(r"(\d+):(\d\d):(\d\d):(\d\d)", value.strip())
        if match and int(match[2]) < 24 and int(match[3]) < 60 and int(match[4]) < 60:
            days, hours, minutes, seconds = map(int, match.groups())
            return timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)
    elif isinstance(value, Mapping):
        try:
            return timedelta(**value)
        except TypeError:
            pass
    elif isinstance(value, timedelta):
        return value
    raise MisconfigurationException(
        f"{name}={value!r}: a duration is a string 'DD:HH:MM:SS' (such as '00:01:30:00'), a timedelta, or a mapping such as {{'minutes': 90}}."
    )


def _interval(value: Any, every_n_epoch: int | None) -> int | float | timedelta:
    if value is None:
        return 1.0
    if isinstance(value, str | Mapping | timedelta):
        interval = duration("val_check_interval", value)
        if interval.total_seconds() <= 0:
            raise MisconfigurationException(f"val_check_interval={value!r}: a duration must be longer than nothing.")
        return interval
    checked = batch_limit("val_check_interval", value)
    if every_n_epoch is None and isinstance(checked, float) and checked != 1.0:
        raise MisconfigurationException(
            f"val_check_interval={value!r} is a fraction of an epoch, and check_val_every_n_epoch=None counts across epochs; give a number of batches."
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
