"""When a checkpoint is due."""

from datetime import timedelta
from types import SimpleNamespace

import pytest

from lx.kernel.errors import MisconfigurationException
from lx_plugin_checkpoint.triggers import (
    MOST_BATCHES_UNASKED,
    Countdown,
    Triggers,
    epoch_is_due,
    is_idle,
    no_value,
    read_triggers,
    saves_at_epoch_end,
    waits_for_value,
)


class Clock:
    """Time that passes when it is told to."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


class Ranks:
    """A strategy whose rank 0 says what it is asked to broadcast, or, on other ranks, what rank 0 said."""

    def __init__(self, world_size, heard=None):
        self.world_size = world_size
        self.sent = []
        self.heard = heard

    def broadcast(self, said):
        self.sent.append(said)
        return said if self.heard is None else self.heard[len(self.sent) - 1]


@pytest.mark.parametrize(
    ("arguments", "triggers"),
    [
        ((None, None, None), Triggers(0, 1, None)),
        ((5, None, None), Triggers(5, 0, None)),
        ((None, None, 0), Triggers(0, 0, None)),
        ((5, None, 0), Triggers(5, 0, None)),
        ((0, None, 0), Triggers(0, 0, None)),
        ((None, timedelta(minutes=5), None), Triggers(0, 0, timedelta(minutes=5))),
        ((None, {"minutes": 5}, 0), Triggers(0, 0, timedelta(minutes=5))),
        ((None, "00:00:05:00", None), Triggers(0, 0, timedelta(minutes=5))),
        ((None, timedelta(0), None), Triggers(0, 0, timedelta(0))),
        (("100st", None, None), Triggers(100, 0, None)),
        ((None, None, "2ep"), Triggers(0, 2, None)),
        ((None, "30min", None), Triggers(0, 0, timedelta(minutes=30))),
    ],
)
def test_triggers_are_read(arguments, triggers):
    assert read_triggers(*arguments) == triggers
    assert triggers.per_batch is (triggers.every_n_epochs == 0 and triggers != Triggers(0, 0, None))


@pytest.mark.parametrize(
    "arguments",
    [(1, None, 1), (1, timedelta(1), None), (None, timedelta(1), 1), (-1, None, None), (None, None, -1), (None, timedelta(-1), None)],
)
def test_triggers_that_exclude_each_other_or_make_no_sense_are_refused(arguments):
    with pytest.raises(MisconfigurationException, match=r"every_n_|train_time_interval"):
        read_triggers(*arguments)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("100ba", None, None), "every_n_train_steps='100ba': batches cannot be given here; it takes a number without quotes or optimizer"),
        (("100", None, None), "every_n_train_steps='100': 100 has no unit"),
        ((None, None, "1h"), "every_n_epochs='1h': a time cannot be given here; it takes a number without quotes or epochs"),
        ((None, "10ep", None), "train_time_interval='10ep': epochs cannot be given here; it takes a duration"),
        ((None, 10, None), "train_time_interval=10: a duration is '90min'"),
    ],
)
def test_a_trigger_in_another_unit_is_answered_with_what_it_takes(arguments, said):
    with pytest.raises(MisconfigurationException) as caught:
        read_triggers(*arguments)
    assert str(caught.value).startswith(said)


def test_one_process_looks_at_its_clock_and_asks_nobody():
    clock, ranks = Clock(), Ranks(1)
    countdown = Countdown(timedelta(seconds=10), clock)
    answers = []
    for clock.now in (4.0, 9.0, 10.0, 12.0, 19.0, 20.0):
        answers.append(countdown.due(ranks))
    assert answers == [False, False, True, False, False, True]
    assert ranks.sent == []


def test_ranks_agree_more_often_the_nearer_the_time_is():
    clock, ranks = Clock(), Ranks(2)
    countdown = Countdown(timedelta(seconds=60), clock)
    due = []
    for batch in range(1, 121):
        clock.now = batch * 0.5
        if countdown.due(ranks):
            due.append(clock.now)
    assert due == [60.0]
    assert len(ranks.sent) < 20
    assert max(skip for _, skip in ranks.sent) <= MOST_BATCHES_UNASKED


def test_the_other_ranks_follow_rank_zero_whatever_their_clock_says():
    clock, follower = Clock(), Ranks(2, heard=[(False, 2), (True, 0), (False, 0)])
    countdown = Countdown(timedelta(seconds=1), clock)
    answers = []
    for clock.now in (100.0, 200.0, 300.0, 300.1, 400.0):
        answers.append(countdown.due(follower))
    assert answers == [False, False, False, True, False]


def trainer(**settings):
    known = {
        "fast_dev_run": 0,
        "sanity_checking": False,
        "state": SimpleNamespace(fn="fit"),
        "global_step": 4,
        "current_epoch": 0,
        "enable_validation": True,
        "val_check_interval": 1.0,
        "check_val_every_n_epoch": 1,
        "val_check_batch": 4,
        "is_last_batch": False,
        "callback_metrics": {"val_loss": 1.0},
    }
    return SimpleNamespace(**{**known, **settings})


@pytest.mark.parametrize(
    ("settings", "forced", "expected"),
    [
        ({}, None, True),
        ({}, False, False),
        ({"val_check_interval": 0.5}, None, False),
        ({"val_check_interval": 0.5}, True, True),
        ({"val_check_interval": 4}, None, False),
        ({"val_check_interval": timedelta(minutes=1)}, None, False),
        ({"check_val_every_n_epoch": 2}, None, False),
        ({"check_val_every_n_epoch": None}, None, False),
        ({"check_val_every_n_epoch": 2, "enable_validation": False}, None, True),
        ({"val_check_interval": 0.5, "enable_validation": False}, None, True),
    ],
)
def test_the_place_of_epoch_checkpoints(settings, forced, expected):
    assert saves_at_epoch_end(trainer(**settings), forced) is expected


@pytest.mark.parametrize(
    ("settings", "monitor", "batch_idx", "expected"),
    [
        ({}, None, 3, False),
        ({}, "step", 3, False),
        ({}, "other", 0, True),
        ({}, "val_loss", 0, False),
        ({}, "val_loss", 3, True),
        ({"val_check_batch": 2}, "val_loss", 1, True),
        ({"val_check_batch": float("inf"), "is_last_batch": True}, "val_loss", 6, True),
        ({"val_check_batch": float("inf")}, "val_loss", 6, False),
        ({"check_val_every_n_epoch": 2}, "val_loss", 3, False),
        ({"check_val_every_n_epoch": 2, "current_epoch": 1}, "val_loss", 3, True),
        ({"enable_validation": False}, "val_loss", 3, False),
        ({"val_check_interval": timedelta(minutes=1)}, "val_loss", 3, False),
    ],
)
def test_a_checkpoint_waits_where_validation_comes_next(settings, monitor, batch_idx, expected):
    assert waits_for_value(trainer(**settings), monitor, batch_idx) is expected


@pytest.mark.parametrize(
    ("settings", "saved_step", "expected"),
    [
        ({}, 0, False),
        ({}, 4, True),
        ({"fast_dev_run": 1}, 0, True),
        ({"sanity_checking": True}, 0, True),
        ({"state": SimpleNamespace(fn="validate")}, 0, True),
        ({"global_step": 0}, 0, True),
    ],
)
def test_nothing_is_saved_outside_of_training_or_twice_at_a_step(settings, saved_step, expected):
    assert is_idle(trainer(**settings), saved_step) is expected


def test_epochs_are_counted_from_one():
    due = [epoch for epoch in range(6) if epoch_is_due(trainer(current_epoch=epoch), 2)]
    assert due == [1, 3, 5]
    assert not epoch_is_due(trainer(), 0)


def test_a_value_that_was_not_logged_is_an_error_once_validation_has_ended():
    with pytest.warns(UserWarning, match=r"monitor='lost'.*val_loss"):
        no_value("lost", {"val_loss": 1}, validated=False)
    with pytest.raises(MisconfigurationException, match=r"self.log\('lost', value\)"):
        no_value("lost", {"val_loss": 1}, validated=True)
