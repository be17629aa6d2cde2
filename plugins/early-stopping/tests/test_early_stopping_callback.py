"""When a run is stopped, and why."""

import logging
from datetime import timedelta

import pytest
import torch
from torch.utils.data import DataLoader

from lx import LightningModule, Trainer
from lx.kernel.errors import MisconfigurationException
from lx_plugin_early_stopping.callback import EarlyStopping, EarlyStoppingReason

NAN, INF = float("nan"), float("inf")
NOT_STOPPED, PATIENCE, THRESHOLD, DIVERGED, NON_FINITE = (
    EarlyStoppingReason.NOT_STOPPED,
    EarlyStoppingReason.PATIENCE_EXHAUSTED,
    EarlyStoppingReason.STOPPING_THRESHOLD,
    EarlyStoppingReason.DIVERGENCE_THRESHOLD,
    EarlyStoppingReason.NON_FINITE_METRIC,
)


@pytest.mark.parametrize(
    ("arguments", "values", "checks", "reason", "wait_count", "best"),
    [
        ({}, [5, 4, 4, 4, 4, 3], 5, PATIENCE, 3, 4),
        ({"patience": 1}, [5, 4, 4, 4], 3, PATIENCE, 1, 4),
        ({"patience": 0}, [5, 4, 4, 4], 3, PATIENCE, 1, 4),
        ({"min_delta": 1.0, "patience": 2}, [5, 4, 3, 2, 1, 0, 0], 7, PATIENCE, 2, 1),
        ({"min_delta": 1.0, "patience": 2}, [5, 4.5, 4, 3.5], 3, PATIENCE, 2, 5),
        ({"mode": "max"}, [1, 2, 3, 3, 3, 3, 4], 6, PATIENCE, 3, 3),
        ({"mode": "max", "min_delta": 1.0}, [1, 2, 3, 3, 3, 3], 6, PATIENCE, 3, 3),
        ({}, [1, NAN, 3], 2, NON_FINITE, 0, 1),
        ({}, [1, -INF, 3], 2, NON_FINITE, 0, 1),
        ({"check_finite": False}, [1, NAN, 3, NAN], 4, PATIENCE, 3, 1),
        ({"stopping_threshold": 1.0}, [5, 1, 0.9], 3, THRESHOLD, 0, 1),
        ({"stopping_threshold": 3.0, "mode": "max"}, [1, 3, 4], 3, THRESHOLD, 0, 3),
        ({"divergence_threshold": 9.0}, [5, 9, 10], 3, DIVERGED, 1, 5),
        ({"divergence_threshold": 2.0, "mode": "max"}, [5, 6, 1], 3, DIVERGED, 0, 6),
        ({"stopping_threshold": 5.0, "divergence_threshold": 4.0}, [4.5], 1, THRESHOLD, 0, INF),
        ({}, [3, 2, 1], 3, NOT_STOPPED, 0, 1),
    ],
)
def test_values_are_judged(arguments, values, checks, reason, wait_count, best):
    stopping = EarlyStopping("v", **arguments)
    judged = []
    for value in values:
        judged.append(stopping.judge(torch.tensor(float(value))))
        if judged[-1] is not NOT_STOPPED:
            break
    assert (len(judged), judged[-1], stopping.stopping_reason) == (checks, reason, reason)
    assert (stopping.wait_count, stopping.best_score.item()) == (wait_count, best)


@pytest.mark.parametrize(
    ("arguments", "value", "message"),
    [
        ({"patience": 0}, INF, "v is inf. The best was inf. Training stops."),
        ({"stopping_threshold": 3}, 2, "v is 2, better than the stopping threshold 3. Training stops."),
        ({"divergence_threshold": 3}, 4, "v is 4, worse than the divergence threshold 3. Training stops."),
        ({"patience": 1, "check_finite": False}, NAN, "v did not improve in the last 1 check(s). The best was inf. Training stops."),
    ],
)
def test_the_reason_is_told_in_words(arguments, value, message):
    stopping = EarlyStopping("v", **arguments)
    stopping.judge(value)
    assert stopping.stopping_reason_message == message


class Model(LightningModule):
    """Logs the next of `values` as `v` in each validation run, or in each training epoch."""

    def __init__(self, values=(), where="validation"):
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
        self.values, self.where = list(values), where

    def training_step(self, batch, batch_idx):
        return self.layer(batch).sum()

    def validation_step(self, batch, batch_idx):
        if self.where == "validation" and self.values and not self.trainer.sanity_checking:
            self.log("v", float(self.values.pop(0)))

    def on_train_epoch_end(self):
        if self.where == "epoch":
            self.log("v", float(self.values.pop(0)))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


@pytest.fixture
def fit(tmp_path):
    """Fits at most ten epochs of four batches, and returns the trainer."""

    def run(stopping, values=(5,) * 40, where="validation", validates=True, ckpt_path=None, **settings):
        quiet = {"logger": False, "enable_progress_bar": False, "enable_checkpointing": False, "enable_model_summary": False}
        trainer = Trainer(
            callbacks=[stopping],
            **{
                "accelerator": "cpu",
                "max_epochs": 10,
                "default_root_dir": tmp_path,
                "limit_val_batches": 1.0 if validates else 0,
                **quiet,
                **settings,
            },
        )
        trainer.fit(Model(values, where), DataLoader(torch.ones(4, 1), batch_size=1), DataLoader(torch.ones(1, 1)), ckpt_path=ckpt_path)
        return trainer

    return run


@pytest.mark.parametrize(
    ("arguments", "settings", "steps"),
    [
        pytest.param({}, {}, 16, id="once an epoch"),
        pytest.param({}, {"val_check_interval": 0.5}, 8, id="after each of two validations"),
        pytest.param({}, {"val_check_interval": 2}, 8, id="after each of two validations, by batches"),
        pytest.param({}, {"check_val_every_n_epoch": 2}, 32, id="every second epoch"),
        pytest.param({}, {"val_check_interval": timedelta(microseconds=1)}, 4, id="validation by time"),
        pytest.param({}, {"val_check_interval": 3, "check_val_every_n_epoch": None}, 12, id="validation across epochs"),
        pytest.param({"check_on_train_epoch_end": True}, {"val_check_interval": 0.5}, 16, id="at epochs in spite of it"),
        pytest.param({"check_on_train_epoch_end": False}, {}, 16, id="where validation ends"),
        pytest.param({}, {"where": "epoch"}, 16, id="a value logged at the epoch's end"),
        pytest.param({}, {"where": "epoch", "validates": False}, 16, id="without validation"),
        pytest.param({}, {"where": "epoch", "validates": False, "val_check_interval": 0.5}, 16, id="without validation twice an epoch"),
        pytest.param({"patience": 1}, {"min_epochs": 6}, 24, id="not before the minimum"),
        pytest.param({"patience": 1}, {"fast_dev_run": 3}, 3, id="a development run"),
        pytest.param({"strict": False}, {"values": ()}, 40, id="a value that never comes"),
    ],
)
def test_the_run_ends(fit, arguments, settings, steps):
    assert fit(EarlyStopping("v", **arguments), **settings).global_step == steps


def test_what_is_known_afterwards(fit):
    stopping = EarlyStopping("v")
    trainer = fit(stopping, [5, 4, 4, 4, 4])
    assert trainer.early_stopping_callback is stopping
    assert (stopping.stopped_epoch, stopping.wait_count, stopping.stopping_reason) == (4, 3, PATIENCE)


def test_a_missing_value_is_an_error(fit):
    with pytest.raises(RuntimeError, match=r"monitor='lost'.*There is: v\..*strict=False"):
        fit(EarlyStopping("lost"))
    with pytest.warns(UserWarning, match="monitor='lost'"):
        fit(EarlyStopping("lost", strict=False, verbose=True), max_epochs=1)


def test_what_will_never_be_looked_at_is_warned_of(fit):
    with pytest.warns(UserWarning, match="check_on_train_epoch_end=False"):
        assert fit(EarlyStopping("v", check_on_train_epoch_end=False), validates=False).global_step == 40


def test_other_entry_points_are_not_its_business(fit):
    stopping = EarlyStopping("v", patience=1, check_on_train_epoch_end=False)
    trainer = fit(stopping, max_epochs=1)
    trainer.validate(Model([9] * 9), DataLoader(torch.ones(3, 1)), verbose=False)
    assert stopping.wait_count == 0


def test_a_resumed_run_goes_on_counting_with_its_own_patience(fit, tmp_path):
    first = EarlyStopping("v", patience=5)
    fit(first, [5, 4, 4, 4], max_epochs=3).save_checkpoint(tmp_path / "it.ckpt")
    again = EarlyStopping("v", patience=2)
    trainer = fit(again, [4, 4, 4, 4], ckpt_path=tmp_path / "it.ckpt")
    assert (trainer.current_epoch, again.patience, again.wait_count, again.best_score.item()) == (4, 2, 2, 4)


def test_a_resumed_run_forgets_why_the_one_before_was_stopped(fit, tmp_path):
    fit(EarlyStopping("v", patience=1), max_epochs=10).save_checkpoint(tmp_path / "it.ckpt")
    again = EarlyStopping("v", patience=9)
    fit(again, max_epochs=3, ckpt_path=tmp_path / "it.ckpt")
    assert (again.stopping_reason, again.stopping_reason_message) == (NOT_STOPPED, None)


def test_the_state_has_the_key_and_the_fields_that_lightning_knows(fit):
    stopping = EarlyStopping("v", patience=1)
    fit(stopping)
    assert stopping.state_key == "EarlyStopping{'monitor': 'v', 'mode': 'min'}"
    assert stopping.state_dict() == {
        "wait_count": 1,
        "stopped_epoch": 1,
        "best_score": torch.tensor(5.0),
        "patience": 1,
        "stopping_reason": 3,
        "stopping_reason_message": "v did not improve in the last 1 check(s). The best was 5. Training stops.",
    }


def test_progress_is_reported_if_wanted(fit, caplog):
    caplog.set_level(logging.INFO, "lx")
    fit(EarlyStopping("v", patience=1, verbose=True), [5, 4, 4])
    assert [record.message for record in caplog.records if record.message.startswith("v ")] == [
        "v improved from inf to 5.",
        "v improved from 5 to 4.",
        "v did not improve in the last 1 check(s). The best was 4. Training stops.",
    ]
    caplog.clear()
    fit(EarlyStopping("v", patience=1))
    assert not [record for record in caplog.records if record.message.startswith("v ")]


class Ranks:
    """A trainer of two processes as the callback sees it, whose other process wants to stop, or not."""

    fast_dev_run, sanity_checking, enable_validation = 0, False, True
    val_check_interval, check_val_every_n_epoch = 1.0, 1
    world_size, current_epoch = 2, 7

    def __init__(self, rank, other_stops):
        self.state = self.strategy = self
        self.fn = "fit"
        self.global_rank, self.is_global_zero = rank, rank == 0
        self.other_stops = other_stops
        self.should_stop = False
        self.callback_metrics = {"v": torch.tensor(1.0)}

    def reduce_boolean_decision(self, decision, all):  # noqa: A002 -- as in the interface
        assert not all
        return decision or self.other_stops


@pytest.mark.parametrize("other_stops", [True, False])
def test_if_one_rank_stops_all_do(other_stops):
    trainer, stopping = Ranks(1, other_stops), EarlyStopping("v")
    stopping.on_train_epoch_end(trainer, None)
    assert trainer.should_stop is other_stops
    assert stopping.stopped_epoch == (7 if other_stops else 0)


@pytest.mark.parametrize(("only_zero", "reports"), [(True, []), (False, ["[rank 1] v improved from inf to 1."])])
def test_every_rank_reports_unless_only_rank_zero_is_to(caplog, only_zero, reports):
    caplog.set_level(logging.INFO, "lx")
    EarlyStopping("v", verbose=True, log_rank_zero_only=only_zero).on_train_epoch_end(Ranks(1, False), None)
    assert [record.message for record in caplog.records] == reports


def test_it_listens_to_no_batch():
    heard = [
        event for event in ("on_train_batch_start", "on_train_batch_end", "on_validation_batch_end") if EarlyStopping("v").listens_to(event)
    ]
    assert heard == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"monitor": None}, "monitor=None"),
        ({"monitor": "v", "mode": "auto"}, "mode='auto'"),
        ({"monitor": "v", "patience": -1}, "patience=-1"),
        ({"monitor": "v", "patience": 1.5}, "patience=1.5"),
    ],
)
def test_arguments_are_checked_at_once(arguments, message):
    with pytest.raises(MisconfigurationException, match=message):
        EarlyStopping(**arguments)
