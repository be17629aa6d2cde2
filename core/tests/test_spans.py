"""Text with a unit: what each form means, and what is said about any other."""

import inspect
from datetime import timedelta
from typing import Any

import pytest

from lx import Trainer
from lx.arguments.spans import PARTS_OF_EPOCHS, TAKES, Span, Unit, duration, offer, parse_span, read_span
from lx.kernel.errors import MisconfigurationException

MEANINGS = [
    ("10ep", 10, Unit.EPOCHS),
    (" 10 EP ", 10, Unit.EPOCHS),
    ("0ep", 0, Unit.EPOCHS),
    ("0.5ep", 0.5, Unit.EPOCHS),
    (".5ep", 0.5, Unit.EPOCHS),
    ("2.0ep", 2, Unit.EPOCHS),
    ("500ba", 500, Unit.BATCHES),
    ("200st", 200, Unit.STEPS),
    ("25%", 0.25, Unit.SHARE),
    ("12.5 %", 0.125, Unit.SHARE),
    ("100%", 1.0, Unit.SHARE),
    ("0%", 0.0, Unit.SHARE),
    ("30s", timedelta(seconds=30), Unit.TIME),
    ("0.5s", timedelta(milliseconds=500), Unit.TIME),
    ("90min", timedelta(minutes=90), Unit.TIME),
    ("1.5h", timedelta(minutes=90), Unit.TIME),
    ("1h30min", timedelta(minutes=90), Unit.TIME),
    ("2d", timedelta(days=2), Unit.TIME),
    ("1d 2h 3min 4s", timedelta(days=1, hours=2, minutes=3, seconds=4), Unit.TIME),
    ("1d4s", timedelta(days=1, seconds=4), Unit.TIME),
    ("01:02:03:04", timedelta(days=1, hours=2, minutes=3, seconds=4), Unit.TIME),
    ("100:00:00:00", timedelta(days=100), Unit.TIME),
]

MEANINGLESS = [
    "",
    " ",
    "ep",
    "%",
    "10",
    "-1",
    "-1ep",
    "1e3ep",
    "1,5h",
    "1h1h",
    "30s1min",
    "1:30",
    "00:24:00:00",
    "00:00:60:00",
    "9999999999d",
]


@pytest.mark.parametrize(("text", "amount", "unit"), MEANINGS)
def test_what_a_text_means(text: str, amount: Any, unit: Unit) -> None:
    span = parse_span(text)
    assert span == Span(amount, unit)
    assert type(span.amount) is type(amount)


@pytest.mark.parametrize("text", MEANINGLESS)
def test_what_means_nothing(text: str) -> None:
    assert parse_span(text) is None
    with pytest.raises(MisconfigurationException, match=r"every='.*': .*; it takes a number without quotes or epochs \('10ep'\)\.$"):
        read_span("every", text, [Unit.EPOCHS])


@pytest.mark.parametrize(
    ("text", "takes", "said"),
    [
        ("3", [Unit.EPOCHS], "every='3': 3 has no unit; it takes a number without quotes or epochs ('10ep')."),
        ("3", [Unit.TIME], "every='3': 3 has no unit; it takes a duration: '90min', '1h30min', '00:01:30:00' for DD:HH:MM:SS, a timedelta"),
        (
            "3 epochs",
            [Unit.EPOCHS, Unit.STEPS],
            "every='3 epochs': write '3ep'; it takes a number without quotes, epochs ('10ep') or optimizer",
        ),
        ("2 hours 5m", [Unit.TIME], "every='2 hours 5m': write '2h 5min'; it takes"),
        ("5m", [Unit.STEPS], "every='5m': a time cannot be given here; it takes a number without quotes or optimizer steps ('200st')."),
        ("3ba", [Unit.STEPS], "every='3ba': batches cannot be given here; it takes a number without quotes or optimizer steps ('3st')."),
        ("1.5ep", [Unit.EPOCHS], "every='1.5ep': epochs are counted as whole ones; it takes"),
        ("0.5ba", [Unit.BATCHES], "every='0.5ba': batches are counted as whole ones; it takes"),
        ("101%", [Unit.SHARE], "every='101%': a share is 100% at the most; it takes"),
        ("1:30", [Unit.TIME], "every='1:30': DD:HH:MM:SS has hours below 24, minutes and seconds below 60, with two digits each; it takes"),
    ],
)
def test_what_is_said_of_text_that_cannot_be_used(text: str, takes: list[Unit], said: str) -> None:
    with pytest.raises(MisconfigurationException) as caught:
        read_span("every", text, takes)
    assert str(caught.value).startswith(said)


def test_text_where_a_number_was_needed_is_a_type_error_and_a_wrong_unit_a_wrong_value() -> None:
    with pytest.raises(TypeError):
        read_span("every", "three", [Unit.EPOCHS])
    for text, takes in (("3ba", [Unit.EPOCHS]), ("often", [Unit.TIME])):
        with pytest.raises(MisconfigurationException) as caught:
            read_span("every", text, takes)
        assert not isinstance(caught.value, TypeError)


def test_each_argument_that_takes_units_is_one_of_a_trainer_and_takes_what_it_offers() -> None:
    assert set(TAKES) <= set(inspect.signature(Trainer).parameters)
    assert set(PARTS_OF_EPOCHS) <= set(TAKES)
    for name, takes in TAKES.items():
        assert len(set(takes)) == len(takes)
        for written in offer(name, takes).split("'")[1::2]:
            assert read_span(name, written, takes).unit in takes


@pytest.mark.parametrize("given", ["90min", "1.5h", "00:01:30:00", {"hours": 1, "minutes": 30}, timedelta(minutes=90)])
def test_ways_to_write_a_duration(given: Any) -> None:
    assert duration("every", given) == timedelta(minutes=90)


@pytest.mark.parametrize("given", [90, None, ["90min"], {"minute": 90}, {"minutes": "x"}, {"days": 10**12}])
def test_what_is_no_duration(given: Any) -> None:
    with pytest.raises(TypeError, match=r"^every=.*: a duration is '90min', '1h30min', .* such as \{'minutes': 90\}\.$"):
        duration("every", given)


@pytest.mark.parametrize("given", [timedelta(seconds=-1), {"minutes": -5}])
def test_a_duration_is_not_negative(given: Any) -> None:
    with pytest.raises(MisconfigurationException, match=r"every=.*: it must not be negative"):
        duration("every", given)
