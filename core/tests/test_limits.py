"""The quantities of a Trainer: what is accepted, what is refused, and how fast_dev_run and overfit_batches change them."""

import inspect
import logging
import math
from datetime import timedelta
from typing import Any

import pytest

from lx import Trainer
from lx.arguments.limits import Limits, batch_limit, count, num_batches, read_limits
from lx.arguments.spans import duration
from lx.kernel.errors import MisconfigurationException

BATCHES = ("limit_train_batches", "limit_val_batches", "limit_test_batches", "limit_predict_batches")


def read(**given: Any) -> Limits:
    """`read_limits` with the defaults of a Trainer."""
    defaults = {parameter.name: parameter.default for parameter in inspect.signature(Trainer).parameters.values()}
    return read_limits({**defaults, **given})


def test_defaults() -> None:
    limits = read()
    assert [getattr(limits, name) for name in BATCHES] == [1.0] * 4
    assert all(isinstance(getattr(limits, name), float) for name in BATCHES)
    assert (limits.max_epochs, limits.min_epochs, limits.max_steps, limits.min_steps, limits.max_time) == (None, None, -1, None, None)
    assert (limits.fast_dev_run, limits.overfit_batches) == (0, 0.0)
    assert (limits.val_check_interval, limits.val_check_seconds, limits.check_val_every_n_epoch) == (1.0, None, 1)
    assert (limits.num_sanity_val_steps, limits.log_every_n_steps, limits.accumulate_grad_batches) == (2, 50, 1)


# -- batches -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("given", "read_as"), [(0, 0), (1, 1), (7, 7), (0.0, 0.0), (0.25, 0.25), (1.0, 1.0), (2.0, 2), (10.0, 10)])
@pytest.mark.parametrize("name", BATCHES)
def test_a_limit_is_a_number_or_a_fraction(name: str, given: float, read_as: float) -> None:
    value = getattr(read(**{name: given}), name)
    assert (value, type(value)) == (read_as, type(read_as))


@pytest.mark.parametrize("given", [1.5, -1, -0.5, math.nan, math.inf, -math.inf, True, False, None, [1], 1j])
def test_what_is_no_limit_is_refused_with_its_name(given: Any) -> None:
    with pytest.raises(MisconfigurationException, match=r"limit_test_batches=.*it must be .* from 0\.0 to 1\.0"):
        batch_limit("limit_test_batches", given)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"limit_val_batches": 1}, ["limit_val_batches=1 is one batch; write 1.0 for all."]),
        ({"limit_val_batches": 1.0}, ["limit_val_batches=1.0 is all batches; write 1 for one."]),
        ({"limit_test_batches": 2.0}, ["limit_test_batches=2.0 is read as 2 batches; as a float, it would be a share up to 1.0."]),
        ({"overfit_batches": 1}, ["overfit_batches=1 is one batch; write 1.0 for all."]),
        ({"overfit_batches": 1.0, "limit_train_batches": 1}, ["overfit_batches=1.0 is all batches; write 1 for one."]),
        ({"overfit_batches": 2, "limit_test_batches": 1}, ["limit_test_batches=1 is one batch; write 1.0 for all."]),
        ({"val_check_interval": 1}, ["val_check_interval=1 validates after each batch; write 1.0 for the end of an epoch."]),
        ({"val_check_interval": 1.0}, ["val_check_interval=1.0 validates at the end of an epoch; write 1 for each batch."]),
        ({"val_check_interval": 2.0}, ["val_check_interval=2.0 is read as 2 batches; as a float, it would be a share up to 1.0."]),
        (
            {"limit_train_batches": 1, "val_check_interval": 1.0},
            [
                "limit_train_batches=1 is one batch; write 1.0 for all.",
                "val_check_interval=1.0 validates at the end of an epoch; write 1 for each batch.",
            ],
        ),
        (
            {"fast_dev_run": 1, "limit_train_batches": 1},
            ["fast_dev_run: one epoch of 1 batch(es) in every stage; nothing is logged or saved."],
        ),
        ({}, []),
        ({"limit_train_batches": 0.5, "limit_val_batches": 2, "val_check_interval": 0.5, "overfit_batches": 0}, []),
        ({"limit_train_batches": "1ba", "limit_val_batches": "100%", "val_check_interval": "1ep"}, []),
    ],
)
def test_a_number_that_could_be_meant_otherwise_is_explained_in_a_line(
    given: dict[str, Any], said: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="lx"):
        read(**given)
    assert [record.message for record in caplog.records] == said


@pytest.mark.parametrize(
    ("limit", "available", "left"),
    [
        (3, 10, 3),
        (30, 10, 10),
        (0, 10, 0),
        (3, math.inf, 3),
        (1.0, 10, 10),
        (1.0, math.inf, math.inf),
        (0.0, math.inf, 0),
        (0.5, 10, 5),
        (0.29, 10, 2),
        (0.5, 0, 0),
        (1, 0, 0),
    ],
)
def test_what_a_limit_leaves(limit: float, available: float, left: float) -> None:
    assert num_batches("limit_train_batches", limit, available) == left


def test_a_fraction_of_a_loader_without_a_length_is_refused() -> None:
    with pytest.raises(MisconfigurationException, match=r"limit_train_batches=0\.5 is a fraction, and the loader has no length; give a"):
        num_batches("limit_train_batches", 0.5, math.inf)


def test_a_fraction_below_one_batch_is_refused_with_the_least_that_works() -> None:
    with pytest.raises(MisconfigurationException, match=r"limit_val_batches=0\.1 of 4 batches is less than one batch; give at least 0\.25"):
        num_batches("limit_val_batches", 0.1, 4)
    assert num_batches("limit_val_batches", 0.25, 4) == 1


# -- counts ------------------------------------------------------------------------------------------------------------------

LEAST = {
    "max_epochs": -1,
    "min_epochs": 0,
    "max_steps": -1,
    "min_steps": 0,
    "check_val_every_n_epoch": 1,
    "num_sanity_val_steps": -1,
    "log_every_n_steps": 0,
    "accumulate_grad_batches": 1,
    "reload_dataloaders_every_n_epochs": 0,
}


@pytest.mark.parametrize("name", LEAST)
def test_counts_have_a_least_value(name: str) -> None:
    accepted = getattr(read(**{name: LEAST[name]}), name)
    assert accepted == (math.inf if name == "num_sanity_val_steps" else LEAST[name])
    with pytest.raises(MisconfigurationException, match=rf"{name}={LEAST[name] - 1}: it must be {LEAST[name]} or more"):
        read(**{name: LEAST[name] - 1})


@pytest.mark.parametrize("given", [1.5, True, [1]])
@pytest.mark.parametrize("name", LEAST)
def test_counts_are_integers(name: str, given: Any) -> None:
    with pytest.raises(MisconfigurationException, match=rf"{name}=.*: it must be an integer"):
        read(**{name: given})


@pytest.mark.parametrize("name", ["max_epochs", "min_epochs", "min_steps", "check_val_every_n_epoch"])
def test_counts_that_may_be_none(name: str) -> None:
    assert getattr(read(**{name: None}), name) is None


@pytest.mark.parametrize("given", ["3", "all", "", "3 apples"])
@pytest.mark.parametrize("name", [*LEAST, *BATCHES])
def test_text_for_a_number_has_a_unit(name: str, given: str) -> None:
    with pytest.raises(TypeError, match=rf"{name}='{given}': .*; it takes a number without quotes.* or .*'\)\.$"):
        read(**{name: given})


def test_max_steps_has_no_none_and_says_how_to_have_no_bound() -> None:
    with pytest.raises(TypeError, match=r"max_steps=None: it must be an integer\. Use -1 for no bound"):
        read(max_steps=None)


def test_count_gives_the_value_back() -> None:
    assert count("anything", 3) == 3
    assert count("anything", None, optional=True) is None


# -- durations and intervals ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        ("00:00:00:30", 30),
        ("01:02:03:04", 93784),
        (" 00:00:01:00 ", 60),
        ("100:00:00:00", 8640000),
        (timedelta(minutes=2), 120),
        ({"minutes": 90}, 5400),
        ({"days": 1, "seconds": 1}, 86401),
    ],
)
def test_durations(given: Any, seconds: int) -> None:
    assert duration("max_time", given).total_seconds() == seconds
    limits = read(max_time=given, val_check_interval=given)
    assert limits.max_time == timedelta(seconds=seconds)
    assert limits.val_check_seconds == seconds


def test_durations_too_long_for_a_timedelta_are_no_durations() -> None:
    for given in ("9999999999d", "9999999999:00:00:00", {"days": 10**12}, {"hours": math.nan}):
        with pytest.raises(MisconfigurationException, match=r"max_time=.*(no number with a unit|DD:HH:MM:SS)"):
            read(max_time=given)


MALFORMED = ["1:2:3", "00:24:00:00", "00:00:60:00", "00:00:00:60", "", "an hour", {"hour": 1}, {"hours": "x"}, []]


@pytest.mark.parametrize(
    ("name", "given"), [*(("max_time", given) for given in [*MALFORMED, 5]), *(("val_check_interval", given) for given in MALFORMED)]
)
def test_malformed_durations(name: str, given: Any) -> None:
    with pytest.raises(MisconfigurationException, match=rf"{name}="):
        read(**{name: given})


def test_a_time_between_validations_is_longer_than_nothing() -> None:
    with pytest.raises(MisconfigurationException, match=r"val_check_interval=.*longer than nothing"):
        read(val_check_interval="00:00:00:00")


@pytest.mark.parametrize(("given", "read_as"), [(None, 1.0), (0.25, 0.25), (1.0, 1.0), (1, 1), (100, 100), (4.0, 4)])
def test_intervals(given: Any, read_as: float) -> None:
    interval = read(val_check_interval=given).val_check_interval
    assert (interval, type(interval)) == (read_as, type(read_as))


@pytest.mark.parametrize("given", [1.5, -1, -0.5, True, math.nan, 0])
def test_intervals_out_of_range(given: Any) -> None:
    with pytest.raises(MisconfigurationException, match="val_check_interval="):
        read(val_check_interval=given)


def test_a_fraction_of_an_epoch_cannot_count_across_epochs() -> None:
    with pytest.raises(
        MisconfigurationException, match=r"val_check_interval=0\.5 .* check_val_every_n_epoch=None .* give a number of batches"
    ):
        read(val_check_interval=0.5, check_val_every_n_epoch=None)
    assert read(val_check_interval=3, check_val_every_n_epoch=None).val_check_interval == 3
    assert read(check_val_every_n_epoch=None).val_check_interval == 1.0  # the default is tolerated
    assert read(val_check_interval="00:00:01:00", check_val_every_n_epoch=None).val_check_seconds == 60


# -- units ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "becomes"),
    [
        ({"max_epochs": "10ep"}, {"max_epochs": 10}),
        ({"min_epochs": "2ep"}, {"min_epochs": 2}),
        ({"max_steps": "500st"}, {"max_steps": 500}),
        ({"max_steps": "500ba"}, {"max_steps": 500}),
        ({"max_steps": "500ba", "accumulate_grad_batches": 4}, {"max_steps": 125}),
        ({"max_steps": "500ba", "accumulate_grad_batches": "4ba"}, {"max_steps": 125, "accumulate_grad_batches": 4}),
        ({"min_steps": "100ba", "accumulate_grad_batches": 2}, {"min_steps": 50}),
        ({"max_time": "10ep"}, {"max_epochs": 10, "max_time": None}),
        ({"max_time": "500st"}, {"max_steps": 500, "max_time": None, "max_epochs": None}),
        ({"max_time": "500ba", "accumulate_grad_batches": 2}, {"max_steps": 250, "max_time": None}),
        ({"max_time": "10ep", "max_epochs": 10}, {"max_epochs": 10, "max_time": None}),
        ({"max_time": "10ep", "max_steps": 7}, {"max_epochs": 10, "max_steps": 7}),
        ({"max_time": "1h30min", "max_epochs": 3}, {"max_time": timedelta(minutes=90), "max_epochs": 3}),
        ({"limit_train_batches": "20ba", "limit_val_batches": "25%"}, {"limit_train_batches": 20, "limit_val_batches": 0.25}),
        ({"limit_test_batches": "1ba", "limit_predict_batches": "100%"}, {"limit_test_batches": 1, "limit_predict_batches": 1.0}),
        ({"overfit_batches": "10%"}, {"overfit_batches": 0.1, "limit_train_batches": 0.1, "limit_val_batches": 0.1}),
        ({"fast_dev_run": "3ba"}, {"fast_dev_run": 3, "max_steps": 3, "limit_test_batches": 3}),
        ({"fast_dev_run": "3ba", "max_time": "10ep", "max_steps": "8ba"}, {"max_steps": 3, "max_epochs": 1}),
        ({"val_check_interval": "500ba"}, {"val_check_interval": 500}),
        ({"val_check_interval": "0.5ep"}, {"val_check_interval": 0.5, "check_val_every_n_epoch": 1}),
        ({"val_check_interval": "1ep"}, {"val_check_interval": 1.0, "check_val_every_n_epoch": 1}),
        ({"val_check_interval": "1ep", "check_val_every_n_epoch": 3}, {"val_check_interval": 1.0, "check_val_every_n_epoch": 3}),
        ({"val_check_interval": "2ep"}, {"val_check_interval": 1.0, "check_val_every_n_epoch": 2}),
        ({"val_check_interval": "2ep", "check_val_every_n_epoch": "2ep"}, {"val_check_interval": 1.0, "check_val_every_n_epoch": 2}),
        ({"val_check_interval": "25%"}, {"val_check_interval": 0.25}),
        ({"val_check_interval": "30min"}, {"val_check_interval": timedelta(minutes=30)}),
        ({"check_val_every_n_epoch": "3ep"}, {"check_val_every_n_epoch": 3}),
        ({"num_sanity_val_steps": "4ba"}, {"num_sanity_val_steps": 4}),
        ({"log_every_n_steps": "10st"}, {"log_every_n_steps": 10}),
        ({"log_every_n_steps": "10ba", "accumulate_grad_batches": 5}, {"log_every_n_steps": 2}),
        ({"reload_dataloaders_every_n_epochs": "2ep"}, {"reload_dataloaders_every_n_epochs": 2}),
    ],
)
def test_text_with_a_unit_means_what_a_number_does(given: dict[str, Any], becomes: dict[str, Any]) -> None:
    limits = read(**given)
    for name, value in becomes.items():
        got = getattr(limits, name)
        assert (got, type(got)) == (value, type(value)), name


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            {"val_check_interval": "3st"},
            "val_check_interval='3st': optimizer steps cannot be given here; it takes a number without quotes, batches ('3ba'), "
            "epochs ('0.5ep', '2ep'), a share ('50%') or a time ('90min').",
        ),
        ({"max_time": "10ep", "max_epochs": 5}, "max_time='10ep' means max_epochs=10, and max_epochs=5 is given; give one."),
        ({"max_time": "10st", "max_steps": "5st"}, "max_time='10st' means max_steps=10, and max_steps=5 is given; give one."),
        ({"max_time": "50%"}, "max_time='50%': a share cannot be given here; it takes a time ('90min'), epochs ('10ep'), "),
        (
            {"max_steps": "10ep"},
            "max_steps='10ep': epochs cannot be given here; it takes a number without quotes, optimizer steps ('10st') or",
        ),
        (
            {"max_time": "7ba", "accumulate_grad_batches": 4},
            "max_time='7ba': with accumulate_grad_batches=4, that is no whole number of optimizer steps; give '8ba' or '2st'.",
        ),
        (
            {"max_steps": "8ba", "accumulate_grad_batches": lambda step: 2},
            "max_steps='8ba': with a function as accumulate_grad_batches, batches are no fixed number of optimizer steps; give steps,",
        ),
        (
            {"val_check_interval": "2ep", "check_val_every_n_epoch": 3},
            "val_check_interval='2ep' means check_val_every_n_epoch=2, and check_val_every_n_epoch=3 is given; give one.",
        ),
        ({"val_check_interval": "2ep", "check_val_every_n_epoch": None}, "and check_val_every_n_epoch=None is given; give one."),
        (
            {"val_check_interval": "0.5ep", "check_val_every_n_epoch": None},
            "'0.5ep' is a fraction of an epoch, and check_val_every_n_epoch=None",
        ),
        (
            {"val_check_interval": "1.5ep"},
            "val_check_interval='1.5ep': of more than one epoch, it takes whole ones; give '1ep', or batches.",
        ),
        ({"val_check_interval": "0ep"}, "val_check_interval='0ep': it must be 1 batch or more"),
        ({"val_check_interval": "0%"}, "val_check_interval='0%': it must be 1 batch or more"),
        ({"val_check_interval": "0ba"}, "val_check_interval='0ba': it must be 1 batch or more"),
        ({"val_check_interval": "0s"}, "val_check_interval='0s': a duration must be longer than nothing."),
        ({"limit_val_batches": "120%"}, "limit_val_batches='120%': a share is 100% at the most"),
        ({"limit_val_batches": "1.5ba"}, "limit_val_batches='1.5ba': batches are counted as whole ones"),
        ({"accumulate_grad_batches": "0ba"}, "accumulate_grad_batches='0ba': it must be 1 or more"),
        ({"fast_dev_run": "3ep"}, "fast_dev_run='3ep': it must be True, False or a number of batches, 0 or more, such as 3 or '3ba'."),
    ],
)
def test_a_unit_that_an_argument_cannot_take_is_answered_with_those_that_it_takes(given: dict[str, Any], said: str) -> None:
    with pytest.raises(MisconfigurationException) as caught:
        read(**given)
    assert said in str(caught.value)


# -- what overrules ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("given", "batches"), [(True, 1), (1, 1), (3, 3)])
def test_fast_dev_run_overrules_what_was_given(given: Any, batches: int) -> None:
    limits = read(
        fast_dev_run=given,
        max_epochs=9,
        max_steps=99,
        limit_train_batches=0.5,
        limit_predict_batches=9,
        num_sanity_val_steps=7,
        val_check_interval=0.1,
        check_val_every_n_epoch=5,
    )
    assert [getattr(limits, name) for name in BATCHES] == [batches] * 4
    assert (limits.fast_dev_run, limits.max_steps, limits.max_epochs, limits.num_sanity_val_steps) == (batches, batches, 1, 0)
    assert (limits.val_check_interval, limits.check_val_every_n_epoch) == (1.0, 1)


@pytest.mark.parametrize("given", [False, 0])
def test_no_fast_dev_run(given: Any) -> None:
    assert read(fast_dev_run=given, max_epochs=9).max_epochs == 9


@pytest.mark.parametrize("given", [-1, 1.5, "yes", None])
def test_what_is_no_fast_dev_run(given: Any) -> None:
    with pytest.raises(MisconfigurationException, match=r"fast_dev_run=.*True, False or a number of batches"):
        read(fast_dev_run=given)


@pytest.mark.parametrize(("given", "read_as"), [(2, 2), (0.5, 0.5), (1, 1), (3.0, 3)])
def test_overfitting_limits_training_and_validation(given: float, read_as: float) -> None:
    limits = read(overfit_batches=given, limit_train_batches=9, limit_val_batches=9, limit_test_batches=9)
    assert (limits.overfit_batches, limits.limit_train_batches, limits.limit_val_batches) == (read_as, read_as, read_as)
    assert limits.limit_test_batches == 9


def test_barebones_neither_checks_sanity_nor_flushes() -> None:
    limits = read(barebones=True)
    assert (limits.num_sanity_val_steps, limits.log_every_n_steps) == (0, 0)
