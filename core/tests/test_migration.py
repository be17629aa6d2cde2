"""What each release changed in the layout of a checkpoint, and how old content is brought up to date."""

import copy
from typing import Any

import pytest

from lx.checkpoints.migration import FORMAT, LEGACY_VERSION, VERSION, migrate, written_by


def content(version: str, **more: Any) -> dict[str, Any]:
    """A checkpoint of some release, with nothing in it."""
    return {VERSION: version, "state_dict": {}, **more}


@pytest.mark.parametrize("version", ["1.6.5", "1.9.0", "2.0.9.post0", "2.5.0rc0"])
def test_the_version_that_wrote_it_is_kept(version: str) -> None:
    assert migrate(content(version)) == content(FORMAT, **{LEGACY_VERSION: version})


def test_a_version_that_was_kept_before_stays() -> None:
    assert migrate(content("2.0.0", **{LEGACY_VERSION: "1.4.0"}))[LEGACY_VERSION] == "1.4.0"


@pytest.mark.parametrize("version", [FORMAT, "2.6.6"])
def test_the_layout_of_today_stays_as_it_is(version: str) -> None:
    given = content(version, callbacks={"A{'save_on_train_epoch_end': True}": {}}, loops={"fit_loop": {"a": 1}})
    assert migrate(copy.deepcopy(given)) == given


def test_a_newer_one_stays_as_it_is_with_a_warning() -> None:
    given = content("3.1", callbacks={"A": {}})
    with pytest.warns(UserWarning, match=r"'runs/a.ckpt' was written by Lightning 3.1, and lx knows the layout .* up to that of 2.6;"):
        assert migrate(copy.deepcopy(given), "runs/a.ckpt") == given


@pytest.mark.parametrize("given", [{}, {VERSION: "nonsense"}, {VERSION: None}, {VERSION: 2}])
def test_what_does_not_say_its_version_stays_as_it_is(given: dict[str, Any]) -> None:
    assert written_by(given) is None
    assert migrate(copy.deepcopy(given)) == given


def test_hyperparameters_of_all_names_are_gathered() -> None:
    found = migrate(content("0.7.6", hparams={"a": 1, "b": 1}, module_arguments={"b": 2, "c": 2}, hyper_parameters={"c": 3}))
    assert found["hyper_parameters"] == {"a": 1, "b": 2, "c": 3}
    assert not {"hparams", "module_arguments"} & found.keys()


def test_states_of_callbacks_that_lay_beside_the_weights() -> None:
    found = migrate(content("0.9.0", early_stop_callback_wait=2, early_stop_callback_patience=4, checkpoint_callback_best_model_path="p"))
    assert found["callbacks"] == {"EarlyStopping": {"wait_count": 2, "patience": 4}, "ModelCheckpoint": {"best_model_path": "p"}}
    assert not [key for key in found if key.endswith(("_wait", "_patience", "_path"))]
    assert migrate(content("0.8.0", checkpoint_callback_best=0.5))["callbacks"] == {"ModelCheckpoint": {"best_model_score": 0.5}}


def test_classes_as_keys_become_names() -> None:
    class Counts:
        """A callback."""

    keys = [Counts, "<class 'pytorch_lightning.callbacks.timer.Timer'>", "Other{'a': 1}"]
    found = migrate(content("1.4.9", callbacks={key: number for number, key in enumerate(keys)}))
    assert found["callbacks"] == {Counts.__qualname__: 0, "Timer": 1, "Other{'a': 1}": 2}


def test_before_1_6_a_file_says_which_epoch_and_step_come_next() -> None:
    fit = migrate(content("1.5.10", epoch=2, global_step=9))["loops"]["fit_loop"]
    assert fit["epoch_progress"]["current"] == {"ready": 2, "started": 2, "processed": 2, "completed": 2}
    steps = {"total": {"ready": 9, "completed": 9}, "current": {"ready": 0, "completed": 0}}
    assert fit["epoch_loop.automatic_optimization.optim_progress"]["optimizer"]["step"] == steps
    assert fit["epoch_loop.manual_optimization.optim_step_progress"] == steps, "the file does not say which of the two it was"
    assert fit["epoch_loop.state_dict"] == {"_batches_that_stepped": 9}


def test_the_axis_of_loggers_is_that_of_steps_where_there_was_none() -> None:
    fit = migrate(content("1.6.2", global_step=9, loops={"fit_loop": {"epoch_loop.state_dict": {}}}))["loops"]["fit_loop"]
    assert fit["epoch_loop.state_dict"] == {"_batches_that_stepped": 9}
    kept = {"epoch_loop.state_dict": {"_batches_that_stepped": 5}}
    assert migrate(content("1.6.2", global_step=9, loops={"fit_loop": kept}))["loops"]["fit_loop"] == kept


def test_loops_that_were_nested_more_deeply() -> None:
    old = {
        "epoch_loop.batch_loop.state_dict": {},
        "epoch_loop.batch_loop.optimizer_loop.optim_progress": {"optimizer": 1, "optimizer_position": 1},
        "epoch_loop.batch_loop.manual_loop.optim_step_progress": 2,
        "epoch_loop.val_loop.dataloader_progress": 3,
        "epoch_loop.val_loop.epoch_loop.batch_progress": 4,
    }
    evaluation = {"dataloader_progress": 5, "epoch_loop.state_dict": {}, "epoch_loop.batch_progress": 6, "state_dict": {}}
    loops = migrate(content("1.9.5", loops={"fit_loop": old, "test_loop": dict(evaluation)}))["loops"]
    assert loops["fit_loop"] == {
        "epoch_loop.automatic_optimization.optim_progress": {"optimizer": 1},
        "epoch_loop.manual_optimization.optim_step_progress": 2,
        "epoch_loop.val_loop.batch_progress": 4,
    }
    assert loops["test_loop"] == {"batch_progress": 6, "state_dict": {}}


def test_what_a_callback_finds_out_for_itself_leaves_its_key() -> None:
    key = "Keeps{'monitor': 'v', 'train_time_interval': datetime.timedelta(seconds=9), 'save_on_train_epoch_end': True}"
    found = migrate(content("1.8.6", callbacks={key: 1, "Other{'a': 1}": 2}))["callbacks"]
    assert found == {"Keeps{'monitor': 'v', 'train_time_interval': datetime.timedelta(seconds=9)}": 1, "Other{'a': 1}": 2}


def test_states_that_cannot_be_told_apart_any_more_are_warned_of() -> None:
    keys = [f"Keeps{{'monitor': 'v', 'save_on_train_epoch_end': {ends}}}" for ends in (True, None)]
    with pytest.warns(UserWarning, match="several states of Keeps"):
        found = migrate(content("1.8.6", callbacks={key: number for number, key in enumerate(keys)}))
    assert found["callbacks"] == {"Keeps{'monitor': 'v'}": 0}


def test_the_state_of_apex_is_left_out_with_a_warning() -> None:
    with pytest.warns(UserWarning, match="state of apex"):
        assert "amp_scaling_state" not in migrate(content("1.9.0", amp_scaling_state={"a": 1}))


@pytest.mark.parametrize(
    ("version", "key"), [("1.4.9", "native_amp_scaling_state"), ("1.8.6", "NativeMixedPrecisionPlugin"), ("2.0.9", "MixedPrecisionPlugin")]
)
def test_the_scale_of_the_loss_lies_under_the_name_of_today(version: str, key: str) -> None:
    found = migrate(content(version, **{key: {"scale": 4.0}}))
    assert found["MixedPrecision"] == {"scale": 4.0}
    assert key not in found
