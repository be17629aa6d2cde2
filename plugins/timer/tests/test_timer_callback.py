"""What the timer measures, and when it ends training; time passes when a test says so."""

import logging
from datetime import timedelta

import pytest
import torch
from torch.utils.data import DataLoader

from lx import Callback, LightningModule, Trainer
from lx.kernel.errors import MisconfigurationException
from lx_plugin_timer import callback, stopwatch
from lx_plugin_timer.callback import MOST_BATCHES_UNASKED, STAGES, Timer


class Clock:
    """Passes by so much in each stage: training batches 10 s, validation batches 2 s, and so on."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(stopwatch, "monotonic", clock)
    monkeypatch.setattr(callback, "monotonic", clock)
    return clock


class Model(LightningModule):
    def __init__(self, clock):
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
        self.clock = clock

    def training_step(self, batch, batch_idx):
        self.clock.now += 10
        return self.layer(batch).sum()

    def test_step(self, batch, batch_idx):
        self.clock.now += 3

    def predict_step(self, batch, batch_idx):
        self.clock.now += 4
        return 0

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Validated(Model):
    def validation_step(self, batch, batch_idx):
        self.clock.now += 2


def loader(batches):
    return DataLoader(torch.ones(batches, 1), batch_size=1)


@pytest.fixture
def trainer(tmp_path):
    def make(*callbacks, **settings):
        quiet = {"logger": False, "enable_progress_bar": False, "enable_checkpointing": False, "enable_model_summary": False}
        arguments = {"accelerator": "cpu", "max_epochs": 3, "default_root_dir": tmp_path, "num_sanity_val_steps": 0, **quiet}
        return Trainer(callbacks=list(callbacks), **{**arguments, **settings})

    return make


def test_every_stage_is_measured(trainer, clock):
    timer = Timer()
    one = trainer(timer, num_sanity_val_steps=1)
    one.fit(Validated(clock), loader(4), loader(2))
    assert {stage: timer.time_elapsed(stage) for stage in STAGES} == {
        "train": 3 * (40 + 4),
        "sanity_check": 2,
        "validate": 3 * 4,
        "test": 0,
        "predict": 0,
    }
    one.test(Model(clock), loader(2), verbose=False)
    one.predict(Model(clock), loader(2))
    one.validate(Validated(clock), loader(3), verbose=False)
    assert [timer.time_elapsed(stage) for stage in ("train", "test", "predict", "validate")] == [132, 6, 8, 6]
    assert timer.end_time("test") - timer.start_time("test") == 6
    assert timer.time_remaining() is None


def test_a_stage_that_runs_has_no_end_yet(trainer, clock):
    class Look(Callback):
        def on_train_end(self, trainer, pl_module):
            seen.append((timer.time_elapsed(), timer.end_time(), timer.start_time()))

    seen, timer = [], Timer()
    trainer(Look(), timer, max_epochs=1).fit(Model(clock), loader(4))
    assert seen == [(40, None, 1000)]
    assert timer.end_time() == 1040


@pytest.mark.parametrize(
    ("arguments", "steps"),
    [
        ((timedelta(seconds=60),), 6),
        (("00:00:00:55",), 6),
        (("55s",), 6),
        (({"seconds": 60}, "epoch"), 8),
        (({"seconds": 80}, "epoch"), 8),
        ((timedelta(0),), 0),
        ((timedelta(0), "epoch"), 0),
        (({"days": 1},), 12),
        ((None,), 12),
    ],
)
def test_training_ends_when_its_time_is_over(trainer, clock, arguments, steps):
    one = trainer(Timer(*arguments))
    one.fit(Model(clock), loader(4))
    assert one.global_step == steps


def test_max_time_brings_a_timer(trainer, clock):
    one = trainer(max_time="00:00:01:00")
    one.fit(Model(clock), loader(4))
    assert one.global_step == 6
    assert [type(callback) for callback in trainer(Timer(), max_time="00:00:01:00").callbacks] == [Timer]


def test_minimums_come_before_the_time(trainer, clock):
    one = trainer(Timer({"seconds": 10}), min_epochs=2)
    one.fit(Model(clock), loader(4))
    assert one.global_step == 8


def test_the_end_is_told_once(trainer, clock, caplog):
    caplog.set_level(logging.INFO, "lx")
    trainer(Timer({"seconds": 10}), min_epochs=2).fit(Model(clock), loader(4))
    assert [record.message for record in caplog.records if "Timer" in record.message] == [
        "Timer: training has taken 0:00:10, all of its time. It stops."
    ]
    caplog.clear()
    trainer(Timer({"seconds": 10}, verbose=False)).fit(Model(clock), loader(4))
    assert not [record for record in caplog.records if "Timer" in record.message]


def test_a_resumed_run_has_the_rest_of_the_time(trainer, clock, tmp_path):
    first = trainer(Timer({"seconds": 60}), max_epochs=1)
    first.fit(Model(clock), loader(4))
    first.save_checkpoint(tmp_path / "it.ckpt")
    clock.now = 0.0
    timer = Timer({"seconds": 60})
    second = trainer(timer)
    second.fit(Model(clock), loader(4), ckpt_path=tmp_path / "it.ckpt")
    assert (second.global_step, timer.time_elapsed()) == (6, 60)
    late = trainer(Timer({"seconds": 40}))
    late.fit(Model(clock), loader(4), ckpt_path=tmp_path / "it.ckpt")
    assert late.global_step == 4


def test_a_new_run_has_all_of_the_time(trainer, clock):
    timer = Timer({"seconds": 60})
    for _ in range(2):
        one = trainer(timer)
        one.fit(Model(clock), loader(4))
        assert one.global_step == 6


class Ranks:
    """A trainer of several processes as the timer sees it; `heard` is what rank 0 says."""

    sanity_checking = False

    def __init__(self, heard=None):
        self.world_size = 2
        self.should_stop = False
        self.strategy = self
        self.sent = []
        self.heard = heard

    def broadcast(self, said):
        self.sent.append(said)
        return said if self.heard is None else self.heard[len(self.sent) - 1]


def test_ranks_agree_more_often_the_nearer_the_end_is(clock):
    timer, ranks = Timer({"seconds": 600}), Ranks()
    timer.setup(ranks, None, "fit")
    timer.on_fit_start(ranks, None)
    timer.on_train_start(ranks, None)
    batches = 0
    while not ranks.should_stop:
        clock.now += 1
        batches += 1
        timer.on_train_batch_end(ranks, None, {}, None, 0)
    assert batches == 600
    assert len(ranks.sent) < 30
    assert max(unasked for _, unasked in ranks.sent) == MOST_BATCHES_UNASKED


def test_other_ranks_follow_rank_zero_whatever_their_clock_says(clock):
    timer, ranks = Timer({"seconds": 5}), Ranks(heard=[(False, 0), (False, 0), (False, 2), (True, 0)])
    timer.setup(ranks, None, "fit")
    timer.on_fit_start(ranks, None)
    timer.on_train_start(ranks, None)
    stops = []
    for _ in range(5):
        clock.now += 100
        timer.on_train_batch_end(ranks, None, {}, None, 0)
        stops.append(ranks.should_stop)
    assert stops == [False, False, False, True, True]


@pytest.mark.parametrize(
    ("arguments", "events"),
    [
        ((), []),
        (("00:01:00:00",), ["on_train_batch_end"]),
        (("00:01:00:00", "epoch"), ["on_train_epoch_end"]),
    ],
)
def test_batches_and_epochs_are_listened_to_only_where_the_clock_is_looked_at(arguments, events):
    looked_at = ("on_train_batch_end", "on_train_epoch_end", "on_train_batch_start")
    assert [event for event in looked_at if Timer(*arguments).listens_to(event)] == events


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("1:2",), "duration='1:2'"),
        ((5,), "duration=5"),
        (({"x": 3},), "duration="),
        (("10ep",), "duration='10ep': epochs cannot be given here; it takes a duration: '90min'"),
        (("10",), "duration='10': 10 has no unit"),
        ((timedelta(-1),), "must not be negative"),
        ((None, "batch"), "interval='batch'"),
    ],
)
def test_arguments_are_checked_at_once(arguments, message):
    with pytest.raises(MisconfigurationException, match=message):
        Timer(*arguments)


def test_an_unknown_stage_is_refused():
    with pytest.raises(ValueError, match="stage='fit'"):
        Timer().time_elapsed("fit")
