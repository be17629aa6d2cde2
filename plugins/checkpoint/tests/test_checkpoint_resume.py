"""Runs that go on from what ModelCheckpoint and OnExceptionCheckpoint have written."""

import os

import pytest
import torch

from lx_plugin_checkpoint.callback import ModelCheckpoint
from lx_plugin_checkpoint.on_exception import OnExceptionCheckpoint


def test_the_ranking_goes_on_and_the_file_that_was_resumed_from_stays(fit):
    first = ModelCheckpoint(None, "{epoch}", "v", save_top_k=2)
    ran = fit(first, values=[5, 4, 3])
    again = ModelCheckpoint(None, "{epoch}", "v", save_top_k=2)
    ran = fit(again, values=[2, 1], max_epochs=5, ckpt_path=first.best_model_path)
    assert ran.events == ["save epoch=3.ckpt epoch", "remove epoch=1.ckpt", "save epoch=4.ckpt epoch"]
    assert ran.files == ["epoch=2.ckpt", "epoch=3.ckpt", "epoch=4.ckpt"]
    assert {os.path.basename(path): score.item() for path, score in again.best_k_models.items()} == {"epoch=3.ckpt": 2, "epoch=4.ckpt": 1}


def test_a_worse_value_after_resuming_does_not_displace_the_best(fit):
    first = ModelCheckpoint(None, "{epoch}", "v", save_last=True)
    fit(first, values=[1], max_epochs=1)
    again = ModelCheckpoint(None, "{epoch}", "v", save_last=True)
    ran = fit(again, values=[2, 3], ckpt_path=first.last_model_path)
    assert ran.events == ["save last.ckpt end"]
    assert again.best_model_path == first.best_model_path


def test_the_last_one_that_was_resumed_from_is_replaced_by_the_next(fit):
    fit({"filename": "{epoch}", "save_last": True}, max_epochs=1)
    ran = fit({"filename": "{epoch}", "save_last": True}, max_epochs=2, ckpt_path="last")
    assert ran.events == ["save epoch=1.ckpt epoch", "remove epoch=0.ckpt", "save last.ckpt epoch"]
    assert ran.trainer.global_step == 8


def test_the_target_of_a_link_that_was_resumed_from_stays(fit):
    fit({"filename": "{epoch}", "save_last": "link"}, max_epochs=1)
    ran = fit({"filename": "{epoch}", "save_last": "link"}, ckpt_path="last")
    assert ran.files == ["epoch=0.ckpt", "epoch=2.ckpt", "last.ckpt"]
    assert os.readlink(ran.folder / "last.ckpt") == "epoch=2.ckpt"


def test_of_another_folder_only_the_best_path_is_taken_up(fit, tmp_path):
    first = ModelCheckpoint(None, "{epoch}", "v", save_last=True)
    fit(first, values=[1], max_epochs=1)
    again = ModelCheckpoint(tmp_path / "other", "{epoch}", "v", save_last=True)
    with pytest.warns(UserWarning, match="of its ranking only best_model_path"):
        ran = fit(again, values=[2], max_epochs=2, ckpt_path=first.last_model_path)
    assert ran.saved == ["epoch=1.ckpt epoch", "last.ckpt epoch"]
    assert os.path.exists(first.best_model_path)
    assert again.best_model_score.item() == 2.0


def test_a_smaller_k_is_obeyed_after_resuming(fit):
    first = ModelCheckpoint(None, "{epoch}", "v", save_top_k=3)
    ran = fit(first, values=[3, 2, 1])
    fit(ModelCheckpoint(None, "{epoch}", "v", save_top_k=1), values=[0], max_epochs=4, ckpt_path=first.best_model_path)
    assert ran.files == ["epoch=2.ckpt", "epoch=3.ckpt"]


def test_nothing_is_saved_again_at_the_step_that_was_resumed_from(fit):
    folder = fit({"filename": "{step}", "every_n_train_steps": 2, "save_top_k": -1}, max_epochs=1).folder
    again = {"filename": "{step}", "every_n_train_steps": 2, "save_top_k": -1, "save_on_exception": True}
    ran = fit(again, ckpt_path=folder / "step=2.ckpt", boom=2)
    assert ran.saved == []
    assert fit(again, ckpt_path=folder / "step=2.ckpt", boom=3, max_epochs=1).saved == ["step=3.ckpt exception"]


def test_the_newest_last_one_is_found_on_disk(fit, tmp_path):
    ran = fit({"filename": "{epoch}", "save_last": True}, max_epochs=1)
    with pytest.warns(UserWarning, match="not empty"):
        fit({"filename": "{epoch}", "save_last": True}, max_epochs=2)
    assert ran.files == ["epoch=0.ckpt", "epoch=1.ckpt", "last-v1.ckpt", "last.ckpt"]
    checkpoint = ModelCheckpoint(save_last=True)
    assert fit(checkpoint, max_epochs=3, ckpt_path="last").trainer.global_step == 12
    assert checkpoint.find_last(ran.trainer) == {str(ran.folder / "last.ckpt"), str(ran.folder / "last-v1.ckpt")}
    assert ModelCheckpoint(tmp_path / "nothing").find_last(ran.trainer) == set()


def test_best_is_the_best(fit):
    checkpoint = ModelCheckpoint(None, "{epoch}", "v")
    ran = fit(checkpoint, values=[2, 1, 3, 4])
    with pytest.warns(UserWarning, match="best checkpoint"):
        ran.trainer.validate(dataloaders=torch.utils.data.DataLoader(torch.ones(1, 1, 2)), verbose=False)
    assert checkpoint.best_model_path.endswith("epoch=1.ckpt")


def test_a_callback_that_keeps_the_last_one_has_no_say_in_which_is_the_best(fit):
    best = ModelCheckpoint(None, "{epoch}", "v")
    ran = fit({"save_top_k": 0, "save_last": True}, best, values=[2, 1, 3, 4])
    ran.trainer.validate(dataloaders=torch.utils.data.DataLoader(torch.ones(1, 1, 2)), ckpt_path="best", verbose=False)
    assert ran.files == ["epoch=1.ckpt", "last.ckpt"]


def test_a_state_from_another_device_and_an_older_writer_is_taken_up():
    checkpoint = ModelCheckpoint(monitor="v", mode="max")
    checkpoint.load_state_dict({"best_model_path": "a.ckpt", "dirpath": None, "best_k_models": {"a.ckpt": 2}, "best_model_score": 2})
    assert checkpoint.best_k_models["a.ckpt"].item() == 2
    assert checkpoint.kth_value.item() == float("-inf")
    assert checkpoint.last_model_path == ""


def test_a_failed_run_is_gone_on_with_by_itself(fit, tmp_path):
    folder = tmp_path / "rescue"
    failed = fit(OnExceptionCheckpoint(folder), boom=6, folder=folder)
    assert failed.saved == ["on_exception.ckpt exception"]
    resumed = fit(OnExceptionCheckpoint(folder), folder=folder)
    assert (resumed.trainer.global_step, resumed.files) == (12, [])
    assert resumed.events == ["remove on_exception.ckpt"]
    assert fit(OnExceptionCheckpoint(folder), max_epochs=1, folder=folder).trainer.global_step == 4


def test_what_was_rescued_outlives_runs_that_do_not_reach_their_end(fit, tmp_path):
    folder = tmp_path / "rescue"
    fit(OnExceptionCheckpoint(folder, "mine"), boom=6, folder=folder)
    written = (folder / "mine.ckpt").read_bytes()
    fit(OnExceptionCheckpoint(folder, "mine"), fast_dev_run=True)
    again = fit(OnExceptionCheckpoint(folder, "mine"), boom=6)
    assert (again.error is not None, again.saved) == (True, ["mine.ckpt exception"])
    again.trainer.validate(again.trainer.lightning_module, torch.utils.data.DataLoader(torch.ones(1, 1, 2)), verbose=False)
    assert os.path.exists(folder / "mine.ckpt")
    assert torch.load(folder / "mine.ckpt", weights_only=True)["global_step"] == 6
    assert written[:2] == b"PK"


def test_a_failure_before_the_first_batch_leaves_the_rescued_file_alone(fit, tmp_path):
    class FailsEarly(OnExceptionCheckpoint):
        def on_fit_start(self, trainer, pl_module):
            raise ValueError("too early")

    folder = tmp_path / "rescue"
    fit(OnExceptionCheckpoint(folder), boom=6, folder=folder)
    written = (folder / "on_exception.ckpt").read_bytes()
    with pytest.raises(ValueError, match="too early"):
        fit(FailsEarly(folder))
    assert (folder / "on_exception.ckpt").read_bytes() == written


def test_an_empty_name_is_refused(tmp_path):
    with pytest.raises(ValueError, match="filename=''"):
        OnExceptionCheckpoint(tmp_path, "")
