"""Which files a run keeps: the best, the last, links, versions, and what is removed."""

import os
import pickle

import pytest
import torch

from lx.kernel.errors import MisconfigurationException
from lx.testing.fakes import FakeLogger
from lx_plugin_checkpoint.callback import ModelCheckpoint

NAN = float("nan")


def names(paths):
    return [os.path.basename(path) for path in paths]


@pytest.mark.parametrize(
    ("mode", "k", "values", "kept", "best", "kth"),
    [
        ("min", 1, [3, 1, 2], ["1.ckpt"], "1.ckpt", "1.ckpt"),
        ("min", 2, [3, 1, 2, 5, 0], ["1.ckpt", "4.ckpt"], "4.ckpt", "1.ckpt"),
        ("max", 2, [3, 1, 2, 5, 0], ["0.ckpt", "3.ckpt"], "3.ckpt", "0.ckpt"),
        ("min", 2, [NAN, NAN, 2, NAN, 0], ["2.ckpt", "4.ckpt"], "4.ckpt", "2.ckpt"),
        ("min", 2, [1, 1, 1], ["0.ckpt", "1.ckpt"], "0.ckpt", "0.ckpt"),
        ("min", 3, [2, 1], ["0.ckpt", "1.ckpt"], "1.ckpt", ""),
        ("min", -1, [2, 1, 3], ["0.ckpt", "1.ckpt", "2.ckpt"], "1.ckpt", "2.ckpt"),
        ("min", 0, [2, 1, 3], [], "", ""),
    ],
)
def test_the_best_are_kept(fit, mode, k, values, kept, best, kth):
    checkpoint = ModelCheckpoint(None, "{epoch}", "v", save_top_k=k, mode=mode, auto_insert_metric_name=False)
    ran = fit(checkpoint, values=values, max_epochs=len(values))
    assert ran.files == kept
    assert sorted(names(checkpoint.best_k_models)) == kept
    assert os.path.basename(checkpoint.best_model_path) == best
    assert os.path.basename(checkpoint.kth_best_model_path) == kth


def test_the_old_file_goes_when_the_new_one_is_there(fit):
    assert fit({"monitor": "v"}, values=[3, 2, 2.5]).events == [
        "save epoch=0-step=4.ckpt epoch",
        "save epoch=1-step=8.ckpt epoch",
        "remove epoch=0-step=4.ckpt",
    ]


def test_without_a_monitor_the_newest_is_the_best(fit):
    newest = ModelCheckpoint()
    ran = fit(newest, max_epochs=2)
    assert ran.events[1:] == ["save epoch=1-step=8.ckpt epoch", "remove epoch=0-step=4.ckpt"]
    assert (newest.best_model_score, newest.best_k_models) == (None, {})
    assert os.path.basename(newest.best_model_path) == "epoch=1-step=8.ckpt"


def test_scores_are_tensors_of_their_own(fit):
    checkpoint = ModelCheckpoint(monitor="v")
    fit(checkpoint, values=[3, 2, 2.5])
    assert checkpoint.best_model_score.item() == checkpoint.current_score.item() == checkpoint.kth_value.item() == 2.0


@pytest.mark.parametrize(
    ("arguments", "settings", "events"),
    [
        ({"monitor": "v"}, {"values": [1, 2, 3]}, ["save epoch=0.ckpt epoch", "save last.ckpt epoch"]),
        ({"save_top_k": 0}, {"max_epochs": 2}, ["save last.ckpt epoch", "save last.ckpt epoch"]),
        ({"every_n_epochs": 0}, {}, ["save last.ckpt end"]),
        ({"monitor": "v", "every_n_epochs": 9}, {"values": [1, 2, 3]}, ["save last.ckpt end"]),
        ({}, {"max_epochs": 0}, []),
    ],
)
def test_the_last_one_is_a_file_beside_what_is_saved(fit, arguments, settings, events):
    assert fit({"save_last": True, "filename": "{epoch}", **arguments}, **settings).events == events


def test_the_last_one_may_be_a_link_to_the_newest(fit):
    checkpoint = ModelCheckpoint(None, "{epoch}", "v", save_last="link")
    ran = fit(checkpoint, values=[2, 3, 1])
    assert ran.events == ["save epoch=0.ckpt epoch", "save epoch=2.ckpt epoch", "remove epoch=0.ckpt"]
    assert os.readlink(ran.folder / "last.ckpt") == "epoch=2.ckpt"
    assert checkpoint.last_model_path == str(ran.folder / "last.ckpt")
    assert fit({"save_last": "link", "save_top_k": 0, "dirpath": ran.folder / "new"}, max_epochs=1).saved == ["last.ckpt epoch"]


def test_the_name_of_the_last_one_may_be_a_template(fit):
    class Dated(ModelCheckpoint):
        CHECKPOINT_NAME_LAST = "{epoch}-last"

    for save_last in (True, "link"):
        checkpoint = Dated(None, "x", save_last=save_last)
        ran = fit(checkpoint, max_epochs=3)
        assert ran.files == ["epoch=2-last.ckpt", "x.ckpt"]
        assert names(checkpoint.find_last(ran.trainer)) == ["epoch=2-last.ckpt"]
        for name in ran.files:
            os.unlink(ran.folder / name)


@pytest.mark.parametrize(
    ("arguments", "values", "kept"),
    [
        ({}, [], ["x.ckpt"]),
        ({"monitor": "v"}, [3, 2, 1], ["x.ckpt"]),
        ({"monitor": "v", "save_top_k": 2}, [3, 2, 1], ["x-v1.ckpt", "x.ckpt"]),
        ({"monitor": "v", "save_top_k": 2, "enable_version_counter": False}, [3, 2, 1], ["x.ckpt"]),
    ],
)
def test_a_constant_name_gets_versions_where_several_are_kept(fit, arguments, values, kept):
    assert fit({"filename": "x", **arguments}, values=values).files == kept


@pytest.mark.parametrize(
    ("counts", "kept"), [(True, ["last-v1.ckpt", "last.ckpt", "x-v1.ckpt", "x.ckpt"]), (False, ["last.ckpt", "x.ckpt"])]
)
def test_files_of_others_are_not_replaced_unless_versions_are_off(fit, tmp_path, counts, kept):
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    for name in ("x.ckpt", "last.ckpt"):
        (folder / name).write_text("of another run")
    with pytest.warns(UserWarning, match="not empty"):
        ran = fit({"filename": "x", "save_last": True, "enable_version_counter": counts})
    assert ran.files == kept
    assert ((folder / "x.ckpt").read_bytes() == b"of another run") is counts


def test_what_is_kept_loads_and_what_is_only_weights_says_so(fit):
    whole = fit({"filename": "whole"}, max_epochs=1)
    light = fit({"filename": "light", "save_weights_only": True, "dirpath": whole.folder.parent / "light"}, max_epochs=1)
    assert "optimizer_states" in torch.load(whole.folder / "whole.ckpt", weights_only=True)
    assert "optimizer_states" not in torch.load(light.folder.parent / "light" / "light.ckpt", weights_only=True)


def test_the_state_has_the_key_and_the_fields_that_lightning_knows(fit):
    checkpoint = ModelCheckpoint(monitor="v", save_last=True)
    ran = fit(checkpoint, values=[2, 1])
    (key,) = torch.load(ran.folder / "last.ckpt", weights_only=True)["callbacks"]
    assert key == (
        "ModelCheckpoint{'monitor': 'v', 'mode': 'min', 'every_n_train_steps': 0, 'every_n_epochs': 1, 'train_time_interval': None}"
    )
    state = torch.load(ran.folder / "last.ckpt", weights_only=True)["callbacks"][key]
    assert list(state) == [
        "monitor",
        "best_model_score",
        "best_model_path",
        "current_score",
        "dirpath",
        "best_k_models",
        "kth_best_model_path",
        "kth_value",
        "last_model_path",
    ]
    assert state["best_model_path"] == checkpoint.best_model_path == str(ran.folder / "epoch=1-step=8.ckpt")
    assert state["dirpath"] == str(ran.folder)


def test_loggers_are_told_of_every_file(fit):
    logger = FakeLogger()
    checkpoint = ModelCheckpoint(save_last=True, verbose=True)
    fit(checkpoint, logger=logger, max_epochs=2, log_every_n_steps=1)
    assert [call.args for call in logger.called("after_save_checkpoint")] == [(checkpoint,)] * 4


def test_checkpoints_lie_with_the_first_loggers_run(fit, tmp_path):
    logger = FakeLogger("runs", 3, str(tmp_path / "logs"))
    checkpoint = ModelCheckpoint()
    fit(checkpoint, logger=[logger, FakeLogger()], max_epochs=1, log_every_n_steps=1)
    assert checkpoint.dirpath == str(tmp_path / "logs" / "runs" / "version_3" / "checkpoints")
    assert os.listdir(checkpoint.dirpath) == ["epoch=0-step=4.ckpt"]


def test_scores_can_be_written_down(fit):
    checkpoint = ModelCheckpoint(None, "{epoch}", "v", save_top_k=2)
    ran = fit(checkpoint, values=[3, 2, 1])
    checkpoint.to_yaml()
    assert (ran.folder / "best_k_models.yaml").read_text() == f"{ran.folder}/epoch=1.ckpt: 2.0\n{ran.folder}/epoch=2.ckpt: 1.0\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"save_top_k": -2}, "save_top_k=-2"),
        ({"save_top_k": 1.5}, "save_top_k=1.5"),
        ({"save_top_k": True}, "save_top_k=True"),
        ({"save_top_k": 2}, "save_top_k=2 needs monitor"),
        ({"mode": "auto"}, "mode='auto'"),
        ({"monitor": 3}, "monitor=3: it must be the name of a logged value"),
        ({"save_last": "copy"}, "save_last='copy'"),
        ({"every_n_train_steps": -1}, "every_n_train_steps=-1"),
        ({"every_n_train_steps": 1, "every_n_epochs": 1}, "exclude each other"),
    ],
)
def test_arguments_are_checked_at_once(arguments, message):
    with pytest.raises(MisconfigurationException, match=message):
        ModelCheckpoint(**arguments)


def test_two_of_them_work_side_by_side(fit):
    one, other = ModelCheckpoint(None, "a-{epoch}", "v"), ModelCheckpoint(None, "b-{epoch}", save_top_k=-1, every_n_epochs=2)
    assert fit(one, other, values=[3, 1, 2]).files == ["a-epoch=1.ckpt", "b-epoch=1.ckpt"]
    with pytest.raises(RuntimeError, match="state_key"):
        fit(ModelCheckpoint(), ModelCheckpoint(filename="x"))


def test_it_is_sent_to_another_process_with_all_that_it_knows(fit):
    checkpoint = ModelCheckpoint(None, "{epoch}", "v", train_time_interval={"hours": 1})
    copied = pickle.loads(pickle.dumps(checkpoint))
    assert (copied.state_key, copied.state_dict()["best_k_models"]) == (checkpoint.state_key, {})
