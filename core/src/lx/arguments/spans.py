"""Text with a unit: `"10ep"`, `"500ba"`, `"200st"`, `"25%"`, `"1h30min"`; pure, so that a plugin reads its arguments as a Trainer does."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from typing import Any

from lx.kernel.errors import ArgumentTypeError, MisconfigurationException


class Unit(Enum):
    """What a span is counted in; the value is how it is written."""

    EPOCHS = "ep"
    BATCHES = "ba"
    STEPS = "st"
    SHARE = "%"
    TIME = "min"


WORDS = {
    Unit.EPOCHS: "epochs",
    Unit.BATCHES: "batches",
    Unit.STEPS: "optimizer steps",
    Unit.SHARE: "a share",
    Unit.TIME: "a time",
}

EXAMPLES = {Unit.EPOCHS: "'10ep'", Unit.BATCHES: "'500ba'", Unit.STEPS: "'200st'", Unit.SHARE: "'50%'", Unit.TIME: "'90min'"}

TIMES = "'90min', '1h30min', '00:01:30:00' for DD:HH:MM:SS, a timedelta, or a mapping such as {'minutes': 90}"
"""Every way to write a duration."""

TAKES: Mapping[str, tuple[Unit, ...]] = {
    "max_epochs": (Unit.EPOCHS,),
    "min_epochs": (Unit.EPOCHS,),
    "max_steps": (Unit.STEPS, Unit.BATCHES),
    "min_steps": (Unit.STEPS, Unit.BATCHES),
    "max_time": (Unit.TIME, Unit.EPOCHS, Unit.STEPS, Unit.BATCHES),
    "limit_train_batches": (Unit.BATCHES, Unit.SHARE),
    "limit_val_batches": (Unit.BATCHES, Unit.SHARE),
    "limit_test_batches": (Unit.BATCHES, Unit.SHARE),
    "limit_predict_batches": (Unit.BATCHES, Unit.SHARE),
    "overfit_batches": (Unit.BATCHES, Unit.SHARE),
    "fast_dev_run": (Unit.BATCHES,),
    "val_check_interval": (Unit.BATCHES, Unit.EPOCHS, Unit.SHARE, Unit.TIME),
    "check_val_every_n_epoch": (Unit.EPOCHS,),
    "num_sanity_val_steps": (Unit.BATCHES,),
    "log_every_n_steps": (Unit.STEPS, Unit.BATCHES),
    "accumulate_grad_batches": (Unit.BATCHES,),
    "reload_dataloaders_every_n_epochs": (Unit.EPOCHS,),
}
"""The units that each argument of a Trainer takes, beside plain numbers."""

PARTS_OF_EPOCHS = ("val_check_interval",)
"""The arguments that take a part of an epoch; elsewhere epochs are whole, as batches and steps are everywhere."""

_NUMBER = r"(?:[0-9]+(?:\.[0-9]+)?|\.[0-9]+)"
_COUNT = re.compile(rf"({_NUMBER})\s*(ep|ba|st|%)")
_TIME = re.compile(rf"(?:({_NUMBER})\s*d)?\s*(?:({_NUMBER})\s*h)?\s*(?:({_NUMBER})\s*min)?\s*(?:({_NUMBER})\s*s)?")
_CLOCK = re.compile(r"([0-9]+):([01][0-9]|2[0-3]):([0-5][0-9]):([0-5][0-9])")
_LONG_UNIT = re.compile(rf"({_NUMBER})\s*([a-z]+)")

_MEANT = {
    **dict.fromkeys(("epoch", "epochs", "e"), "ep"),
    **dict.fromkeys(("batch", "batches", "b"), "ba"),
    **dict.fromkeys(("step", "steps"), "st"),
    **dict.fromkeys(("percent", "pct"), "%"),
    **dict.fromkeys(("day", "days"), "d"),
    **dict.fromkeys(("hour", "hours", "hr", "hrs"), "h"),
    **dict.fromkeys(("m", "mins", "minute", "minutes"), "min"),
    **dict.fromkeys(("sec", "secs", "second", "seconds"), "s"),
}


@dataclass(frozen=True, slots=True)
class Span:
    """An amount with its unit: an int, a float for a part of an epoch and for a share (0.0 to 1.0), a timedelta for a time."""

    amount: Any
    unit: Unit


def parse_span(text: str) -> Span | None:
    """What a text with a unit means, None for a text that is none.

    Durations are days, hours, minutes and seconds in this order, each of which may be left out, or `"DD:HH:MM:SS"`.

    >>> parse_span("25%"), parse_span("10ep").amount, parse_span("1h30min").amount == parse_span("00:01:30:00").amount
    (Span(amount=0.25, unit=<Unit.SHARE: '%'>), 10, True)
    """
    text = text.strip().lower()
    if match := _COUNT.fullmatch(text):
        unit = Unit(match[2])
        if unit is Unit.SHARE:
            return Span(float(match[1]) / 100, unit)
        return Span(int(match[1]) if match[1].isdecimal() else _whole_if_so(float(match[1])), unit)
    match = _CLOCK.fullmatch(text) or _TIME.fullmatch(text)
    if match is None or not any(match.groups()):
        return None
    days, hours, minutes, seconds = (float(part or 0) for part in match.groups())
    try:
        return Span(timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds), Unit.TIME)
    except OverflowError:
        return None


def read_span(name: str, text: str, takes: Sequence[Unit]) -> Span:
    """The span that a text means, in one of the units that an argument takes.

    Raises `MisconfigurationException` for any other text, saying what the argument takes.

    >>> read_span("patience", "3ep", [Unit.EPOCHS]).amount
    3
    >>> read_span("patience", "3 epochs", [Unit.EPOCHS])
    Traceback (most recent call last):
    lx.kernel.errors.ArgumentTypeError: patience='3 epochs': write '3ep'; it takes a number without quotes or epochs ('10ep').
    """
    span = parse_span(text)
    problem = _why_no_span(name, text, takes) if span is None else _why_not_here(name, span, takes)
    if problem:
        # Where times are taken text always was; elsewhere it stands for a number.
        kind = ArgumentTypeError if span is None and Unit.TIME not in takes else MisconfigurationException
        raise kind(f"{name}={text!r}: {problem}; it takes {offer(name, takes, span)}.")
    assert span is not None
    return span


def duration(name: str, value: Any) -> timedelta:
    """A length of time from text such as `"90min"` or `"DD:HH:MM:SS"`, a timedelta, or its keyword arguments.

    Raises `MisconfigurationException` for anything else, and for less than no time.

    >>> duration("max_time", "1.5h") == duration("max_time", "00:01:30:00") == duration("max_time", {"minutes": 90})
    True
    """
    if isinstance(value, str):
        read: timedelta = read_span(name, value, (Unit.TIME,)).amount
        return read
    if isinstance(value, Mapping):
        try:
            read = timedelta(**value)
        except (TypeError, ValueError, OverflowError):
            raise ArgumentTypeError(f"{name}={value!r}: a duration is {TIMES}.") from None
    elif isinstance(value, timedelta):
        read = value
    else:
        raise ArgumentTypeError(f"{name}={value!r}: a duration is {TIMES}.")
    if read < timedelta(0):
        raise MisconfigurationException(f"{name}={value!r}: it must not be negative.")
    return read


def offer(name: str, takes: Sequence[Unit], instead: Span | None = None) -> str:
    """What an argument takes, in words, with the amount of what it does not take where that makes an example.

    >>> offer("limit_val_batches", TAKES["limit_val_batches"])
    "a number without quotes, batches ('500ba') or a share ('50%')"
    """
    if tuple(takes) == (Unit.TIME,):
        return f"a duration: {TIMES}"
    number = instead.amount if instead is not None and isinstance(instead.amount, int) else None
    examples = {unit: f"'{number}{unit.value}'" for unit in (Unit.BATCHES, Unit.STEPS, Unit.EPOCHS)} if number is not None else {}
    if name in PARTS_OF_EPOCHS:
        examples[Unit.EPOCHS] = "'0.5ep', '2ep'"
    listed = [f"{WORDS[unit]} ({examples.get(unit, EXAMPLES[unit])})" for unit in takes]
    if takes[0] is not Unit.TIME:  # a number of what a time stands for would be anybody's guess
        listed.insert(0, "a number without quotes")
    return f"{', '.join(listed[:-1])} or {listed[-1]}"


def _whole_if_so(number: float) -> int | float:
    return int(number) if number.is_integer() else number


def _why_no_span(name: str, text: str, takes: Sequence[Unit]) -> str:
    """What is wrong with a text that is no span, and how to write what it seems to say."""
    written = text.strip().lower()
    if re.fullmatch(rf"[-+]?{_NUMBER}", written):
        return f"{written} has no unit"
    if ":" in written:
        return "DD:HH:MM:SS has hours below 24, minutes and seconds below 60, with two digits each"
    meant = _LONG_UNIT.sub(lambda match: match[1] + _MEANT.get(match[2], match[2]), written)
    span = parse_span(meant)
    if span is None:
        return "that is no number with a unit"
    return _why_not_here(name, span, takes) or f"write {meant!r}"


def _why_not_here(name: str, span: Span, takes: Sequence[Unit]) -> str:
    """Why an argument does not take a span, empty if it does."""
    if span.unit not in takes:
        return f"{WORDS[span.unit]} cannot be given here"
    if span.unit is Unit.SHARE and span.amount > 1:
        return "a share is 100% at the most"
    parts = span.unit in (Unit.SHARE, Unit.TIME) or (span.unit is Unit.EPOCHS and name in PARTS_OF_EPOCHS)
    return "" if parts or isinstance(span.amount, int) else f"{WORDS[span.unit]} are counted as whole ones"
