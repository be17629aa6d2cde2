"""When ModelCheckpoint saves, in runs of a Trainer: three epochs of four batches unless said otherwise."""

from datetime import timedelta

import pytest

from lx.kernel.errors import MisconfigurationException
from lx_plugin_checkpoint.callback import ModelCheckpoint

ALL = {"save_top_k": -1, "filename": "{step}", "auto_insert_metric_name": False}
MOMENT = timedelta(microseconds=1)


def at(place, *steps):
    return [f"{step}.ckpt {place}" for step in steps]


AT_EPOCHS = at("epoch", 4, 8, 12)
AT_VALIDATIONS = at("validation", 4, 8, 12)
TWICE = at("validation", 2, 4, 6, 8, 10, 12)


@pytest.mark.parametrize(
    ("arguments", "settings", "saved"),
    [
        pytest.param({}, {}, AT_EPOCHS, id="every epoch, after validation"),
        pytest.param({}, {"validates": False}, AT_EPOCHS, id="without validation"),
        pytest.param({}, {"validates": False, "check_val_every_n_epoch": 2}, AT_EPOCHS, id="without validation in its own epochs"),
        pytest.param({"every_n_epochs": 2}, {}, ["8.ckpt epoch"], id="every second epoch"),
        pytest.param({"every_n_epochs": 0}, {}, [], id="never"),
        pytest.param({"save_on_train_epoch_end": False}, {}, AT_VALIDATIONS, id="where validation ends"),
        pytest.param({}, {"val_check_interval": 0.5}, TWICE, id="each of two validations"),
        pytest.param({}, {"val_check_interval": 2}, TWICE, id="each of two validations, by batches"),
        pytest.param({}, {"val_check_interval": 4}, AT_VALIDATIONS, id="an int is no fraction"),
        pytest.param({"save_on_train_epoch_end": True}, {"val_check_interval": 0.5}, AT_EPOCHS, id="the epoch's end in spite of it"),
        pytest.param({"every_n_epochs": 2}, {"val_check_interval": 0.5}, TWICE[2:4], id="each validation of every second epoch"),
        pytest.param({}, {"check_val_every_n_epoch": 2, "max_epochs": 4}, ["8.ckpt validation", "16.ckpt validation"], id="epochs"),
        pytest.param(
            {}, {"val_check_interval": 3, "check_val_every_n_epoch": None}, [f"{s}.ckpt validation" for s in (3, 6, 9, 12)], id="across"
        ),
        pytest.param(
            {}, {"val_check_interval": timedelta(microseconds=1), "max_epochs": 1}, [f"{s}.ckpt validation" for s in (1, 2, 3, 4)], id="t"
        ),
        pytest.param({"every_n_train_steps": 3}, {}, at("batch", 3, 6, 9, 12), id="every third step"),
        pytest.param({"every_n_train_steps": 5}, {"manual": True}, at("batch", 5, 10), id="manual optimization"),
        pytest.param(
            {"every_n_train_steps": 1}, {"accumulate_grad_batches": 2, "max_epochs": 1}, ["1.ckpt batch", "2.ckpt batch"], id="windows"
        ),
        pytest.param({"train_time_interval": timedelta(0)}, {"max_epochs": 1}, at("batch", 1, 2, 3, 4), id="at any time"),
        pytest.param({"train_time_interval": {"days": 1}}, {}, [], id="once a day"),
        pytest.param({}, {"max_steps": 6}, ["4.ckpt epoch", "6.ckpt epoch"], id="an epoch that ends early"),
        pytest.param({}, {"fast_dev_run": True}, [], id="a development run"),
        pytest.param({"save_last": True, "save_on_exception": True}, {"fast_dev_run": True, "boom": 0}, [], id="its failure"),
    ],
)
def test_checkpoints_are_saved_when_they_are_due(fit, arguments, settings, saved):
    assert fit({**ALL, **arguments}, **settings).saved == saved


NAMED = {"save_top_k": -1, "monitor": "v", "filename": "{step}-{v:.0f}", "auto_insert_metric_name": False}


@pytest.mark.parametrize(
    ("arguments", "settings", "saved"),
    [
        pytest.param(
            {"every_n_train_steps": 2},
            {"values": [3, 2], "max_epochs": 2},
            ["4-3.ckpt validation", "6-3.ckpt batch", "8-2.ckpt validation"],
            id="no value before the first validation, a new one at each",
        ),
        pytest.param(
            {"every_n_train_steps": 3},
            {"values": [3, 2], "max_epochs": 2},
            ["4-3.ckpt validation", "6-3.ckpt batch"],
            id="what waited for a first value is not forgotten",
        ),
        pytest.param(
            {"every_n_train_steps": 2},
            {"values": [4, 3, 2], "max_epochs": 1, "val_check_interval": 2},
            ["2-4.ckpt validation", "4-3.ckpt validation"],
            id="each waits for the validation after its batch",
        ),
        pytest.param(
            {"every_n_train_steps": 3},
            {"values": [4, 3], "max_epochs": 2, "val_check_interval": 3, "check_val_every_n_epoch": None},
            ["3-4.ckpt validation", "6-3.ckpt validation"],
            id="validation that counts across epochs",
        ),
        pytest.param(
            {"every_n_train_steps": 2},
            {"values": [5, 4, 3, 2], "where": "training", "max_epochs": 1, "validates": False},
            ["2-4.ckpt batch", "4-2.ckpt batch"],
            id="a value of the training steps",
        ),
        pytest.param(
            {"monitor": "step", "mode": "max", "save_top_k": 2, "every_n_train_steps": 4, "filename": "{step}"},
            {},
            ["4.ckpt batch", "8.ckpt batch", "12.ckpt batch"],
            id="the step itself",
        ),
    ],
)
def test_a_checkpoint_with_a_monitor_waits_for_the_value_of_its_step(fit, arguments, settings, saved):
    assert fit({**NAMED, **arguments}, **settings).saved == saved


def test_a_value_that_comes_at_the_end_of_the_epoch_is_waited_for(fit):
    class Late(ModelCheckpoint):
        def on_train_epoch_end(self, trainer, pl_module):
            trainer.callback_metrics["late"] = 1.0
            super().on_train_epoch_end(trainer, pl_module)

    ran = fit(Late(None, "{step}", "late", every_n_train_steps=3), max_epochs=1)
    assert ran.saved == ["step=4.ckpt epoch"]


def test_a_missing_monitor_is_warned_of_and_then_an_error(fit):
    with pytest.warns(UserWarning, match="monitor='lost'"):
        assert fit({"monitor": "lost"}, validates=False, max_epochs=1).saved == []
    with pytest.raises(MisconfigurationException, match="monitor='lost'"):
        fit({"monitor": "lost"})
    with pytest.raises(MisconfigurationException, match="monitor='lost'"):
        fit({"monitor": "lost", "every_n_train_steps": 1})


def test_what_can_never_be_saved_is_warned_of(fit):
    with pytest.warns(UserWarning, match="save_on_train_epoch_end=False"):
        assert fit({"save_on_train_epoch_end": False}, validates=False).saved == []


@pytest.mark.parametrize(
    ("arguments", "listens"),
    [
        ({}, False),
        ({"every_n_epochs": 2}, False),
        ({"every_n_train_steps": 0}, False),
        ({"every_n_train_steps": 7}, True),
        ({"train_time_interval": timedelta(minutes=1)}, True),
    ],
)
def test_batches_are_listened_to_only_by_step_and_time_triggers(arguments, listens):
    assert ModelCheckpoint(**arguments).listens_to("on_train_batch_end") is listens
    assert not ModelCheckpoint(**arguments).listens_to("on_train_batch_start")
    assert ModelCheckpoint(**arguments).listens_to("on_train_epoch_end")


def test_a_subclass_with_code_for_batches_is_heard():
    class Mine(ModelCheckpoint):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            """Does something of its own."""

    assert Mine().listens_to("on_train_batch_end")


@pytest.mark.parametrize(
    ("boom", "arguments", "saved"),
    [
        (6, {}, ["epoch=0-step=4.ckpt epoch", "epoch=1-step=6.ckpt exception"]),
        (6, {"save_last": True}, ["epoch=0-step=4.ckpt epoch", "last.ckpt epoch", "epoch=1-step=6.ckpt exception", "last.ckpt exception"]),
        (4, {}, ["epoch=0-step=4.ckpt epoch"]),
        (0, {}, []),
    ],
)
def test_a_failing_run_is_saved_where_it_stands(fit, boom, arguments, saved):
    ran = fit({"save_on_exception": True, **arguments}, boom=boom)
    assert ran.error is not None
    assert ran.saved == saved
    assert fit({"dirpath": ran.folder.parent / "other"}, boom=boom).saved == saved[: int(boom >= 4)]


def test_what_a_failing_run_saved_does_not_count_among_the_best(fit):
    checkpoint = ModelCheckpoint(monitor="v", filename="{epoch}-{v:.0f}", save_on_exception=True)
    ran = fit(checkpoint, values=[1, 2], boom=6)
    assert ran.saved == ["epoch=0-v=1.ckpt epoch", "epoch=1-v=1.ckpt exception"]
    assert [path.rpartition("/")[2] for path in checkpoint.best_k_models] == ["epoch=0-v=1.ckpt"]


def test_an_interrupt_is_an_exception_like_others(fit):
    ran = fit({"save_on_exception": True, "filename": "{step}"}, boom=6, raises=KeyboardInterrupt)
    assert isinstance(ran.error, SystemExit)
    assert ran.saved == ["step=4.ckpt epoch", "step=6.ckpt exception"]
