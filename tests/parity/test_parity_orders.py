"""The order in which callback (C), module (M) and data module (D) are called, written out, by lx and by Lightning."""

import re
from pathlib import Path
from typing import Any

import pytest
from recording import MODULE_HOOKS, Recorder, rows
from scenarios_runs import saving
from sides import SIDES, World, quiet

FIT = """
    M.configure_callbacks
    D.prepare_data D.setup(fit) C.setup(fit) M.setup(fit)
    M.configure_model
    M.configure_optimizers
    C.on_fit_start M.on_fit_start
    C.on_sanity_check_start
    D.val_dataloader
    M.on_validation_model_eval
    C.on_validation_start M.on_validation_start
    C.on_validation_epoch_start M.on_validation_epoch_start
    D.on_before_batch_transfer D.transfer_batch_to_device D.on_after_batch_transfer
    C.on_validation_batch_start M.on_validation_batch_start M.validation_step(0)
    C.on_validation_batch_end M.on_validation_batch_end
    C.on_validation_epoch_end M.on_validation_epoch_end
    C.on_validation_end M.on_validation_end M.on_validation_model_train
    C.on_sanity_check_end
    D.train_dataloader
    C.on_train_start M.on_train_start
    C.on_train_epoch_start M.on_train_epoch_start
    D.on_before_batch_transfer D.transfer_batch_to_device D.on_after_batch_transfer
    C.on_train_batch_start M.on_train_batch_start
    M.optimizer_step M.training_step(0)
    C.on_before_zero_grad M.on_before_zero_grad M.optimizer_zero_grad
    C.on_before_backward M.on_before_backward M.backward C.on_after_backward M.on_after_backward
    C.on_before_optimizer_step M.on_before_optimizer_step M.configure_gradient_clipping
    C.on_train_batch_end M.on_train_batch_end
    D.on_before_batch_transfer D.transfer_batch_to_device D.on_after_batch_transfer
    C.on_train_batch_start M.on_train_batch_start
    M.optimizer_step M.training_step(1)
    C.on_before_zero_grad M.on_before_zero_grad M.optimizer_zero_grad
    C.on_before_backward M.on_before_backward M.backward C.on_after_backward M.on_after_backward
    C.on_before_optimizer_step M.on_before_optimizer_step M.configure_gradient_clipping
    M.lr_scheduler_step C.on_train_batch_end M.on_train_batch_end
    M.on_validation_model_zero_grad
    M.on_validation_model_eval
    C.on_validation_start M.on_validation_start
    C.on_validation_epoch_start M.on_validation_epoch_start
    D.on_before_batch_transfer D.transfer_batch_to_device D.on_after_batch_transfer
    C.on_validation_batch_start M.on_validation_batch_start M.validation_step(0)
    C.on_validation_batch_end M.on_validation_batch_end
    C.on_validation_epoch_end M.on_validation_epoch_end
    C.on_validation_end M.on_validation_end M.on_validation_model_train
    C.on_train_epoch_end M.on_train_epoch_end
    C.state_dict D.state_dict C.on_save_checkpoint M.on_save_checkpoint
    C.on_train_end M.on_train_end
    C.on_fit_end M.on_fit_end
    D.teardown(fit) C.teardown(fit) M.teardown(fit)
"""
"""One epoch of two batches, validated by one, with the sanity check before and a checkpoint after."""

VALIDATE = """
    M.configure_callbacks
    D.prepare_data D.setup(validate) C.setup(validate) M.setup(validate)
    M.configure_model
    D.val_dataloader
    M.on_validation_model_eval
    C.on_validation_start M.on_validation_start
    C.on_validation_epoch_start M.on_validation_epoch_start
    D.on_before_batch_transfer D.transfer_batch_to_device D.on_after_batch_transfer
    C.on_validation_batch_start M.on_validation_batch_start M.validation_step(0)
    C.on_validation_batch_end M.on_validation_batch_end
    C.on_validation_epoch_end M.on_validation_epoch_end
    C.on_validation_end M.on_validation_end M.on_validation_model_train
    D.teardown(validate) C.teardown(validate) M.teardown(validate)
"""
"""One batch; `test` is the same with its own names."""

TEST = re.sub("validation|validate|val(?=_)", "test", VALIDATE)

PREDICT = """
    M.configure_callbacks
    D.prepare_data D.setup(predict) C.setup(predict) M.setup(predict)
    M.configure_model
    D.predict_dataloader
    M.on_predict_model_eval
    C.on_predict_start M.on_predict_start
    C.on_predict_epoch_start M.on_predict_epoch_start
    D.on_before_batch_transfer D.transfer_batch_to_device D.on_after_batch_transfer
    C.on_predict_batch_start M.on_predict_batch_start M.predict_step(0)
    C.on_predict_batch_end M.on_predict_batch_end
    C.on_predict_epoch_end M.on_predict_epoch_end
    C.on_predict_end M.on_predict_end
    D.teardown(predict) C.teardown(predict) M.teardown(predict)
"""
"""One batch."""

FIT_RESUMED_MIDWAY = """
    M.configure_callbacks
    D.prepare_data D.setup(fit) C.setup(fit) M.setup(fit)
    M.configure_model
    M.on_load_checkpoint C.on_load_checkpoint
    M.configure_optimizers
    C.on_fit_start M.on_fit_start
    D.train_dataloader
    D.val_dataloader
    C.on_train_start M.on_train_start
    D.on_before_batch_transfer D.transfer_batch_to_device D.on_after_batch_transfer
    C.on_train_batch_start M.on_train_batch_start
    M.optimizer_step M.training_step(2)
    C.on_before_zero_grad M.on_before_zero_grad M.optimizer_zero_grad
    C.on_before_backward M.on_before_backward M.backward C.on_after_backward M.on_after_backward
    C.on_before_optimizer_step M.on_before_optimizer_step M.configure_gradient_clipping
    C.on_train_batch_end M.on_train_batch_end
    D.on_before_batch_transfer D.transfer_batch_to_device D.on_after_batch_transfer
    C.on_train_batch_start M.on_train_batch_start
    M.optimizer_step M.training_step(3)
    C.on_before_zero_grad M.on_before_zero_grad M.optimizer_zero_grad
    C.on_before_backward M.on_before_backward M.backward C.on_after_backward M.on_after_backward
    C.on_before_optimizer_step M.on_before_optimizer_step M.configure_gradient_clipping
    M.lr_scheduler_step C.on_train_batch_end M.on_train_batch_end
    M.on_validation_model_zero_grad
    M.on_validation_model_eval
    C.on_validation_start M.on_validation_start
    C.on_validation_epoch_start M.on_validation_epoch_start
    D.on_before_batch_transfer D.transfer_batch_to_device D.on_after_batch_transfer
    C.on_validation_batch_start M.on_validation_batch_start M.validation_step(0)
    C.on_validation_batch_end M.on_validation_batch_end
    C.on_validation_epoch_end M.on_validation_epoch_end
    C.on_validation_end M.on_validation_end M.on_validation_model_train
    C.on_train_epoch_end M.on_train_epoch_end
    C.on_train_end M.on_train_end
    C.on_fit_end M.on_fit_end
    D.teardown(fit) C.teardown(fit) M.teardown(fit)
"""
"""The last two batches of four, after a checkpoint that was written when the second had ended."""

FIT_IN_WINDOWS = """
    M.configure_callbacks
    D.prepare_data D.setup(fit) C.setup(fit) M.setup(fit)
    M.configure_model
    M.configure_optimizers
    C.on_fit_start M.on_fit_start
    C.on_sanity_check_start
    D.val_dataloader
    M.on_validation_model_eval
    C.on_validation_start M.on_validation_start
    C.on_validation_epoch_start M.on_validation_epoch_start
    D.on_before_batch_transfer D.transfer_batch_to_device D.on_after_batch_transfer
    C.on_validation_batch_start M.on_validation_batch_start M.validation_step(0)
    C.on_validation_batch_end M.on_validation_batch_end
    C.on_validation_epoch_end M.on_validation_epoch_end
    C.on_validation_end M.on_validation_end M.on_validation_model_train
    C.on_sanity_check_end
    D.train_dataloader
    C.on_train_start M.on_train_start
    C.on_train_epoch_start M.on_train_epoch_start
    D.on_before_batch_transfer D.transfer_batch_to_device D.on_after_batch_transfer
    C.on_train_batch_start M.on_train_batch_start
    M.training_step(0)
    C.on_before_zero_grad M.on_before_zero_grad M.optimizer_zero_grad
    C.on_before_backward M.on_before_backward M.backward C.on_after_backward M.on_after_backward
    C.on_train_batch_end M.on_train_batch_end
    D.on_before_batch_transfer D.transfer_batch_to_device D.on_after_batch_transfer
    C.on_train_batch_start M.on_train_batch_start
    M.optimizer_step M.training_step(1)
    C.on_before_backward M.on_before_backward M.backward C.on_after_backward M.on_after_backward
    C.on_before_optimizer_step M.on_before_optimizer_step M.configure_gradient_clipping
    M.lr_scheduler_step C.on_train_batch_end M.on_train_batch_end
    M.on_validation_model_zero_grad
    M.on_validation_model_eval
    C.on_validation_start M.on_validation_start
    C.on_validation_epoch_start M.on_validation_epoch_start
    D.on_before_batch_transfer D.transfer_batch_to_device D.on_after_batch_transfer
    C.on_validation_batch_start M.on_validation_batch_start M.validation_step(0)
    C.on_validation_batch_end M.on_validation_batch_end
    C.on_validation_epoch_end M.on_validation_epoch_end
    C.on_validation_end M.on_validation_end M.on_validation_model_train
    C.on_train_epoch_end M.on_train_epoch_end
    C.on_train_end M.on_train_end
    C.on_fit_end M.on_fit_end
    D.teardown(fit) C.teardown(fit) M.teardown(fit)
"""
"""One epoch of two batches, which are one window, and no checkpoint."""

HOOKS = [hook for hook in MODULE_HOOKS if hook != "prepare_data"]


def named(call: str) -> str:
    """A recorded call as it is written above: with the batch of a step and the stage of a setup, without all else."""
    name, arguments = call.split(" | ", 1)[0].split("(", 1)
    which = re.search(r"batch_idx=(\d+)" if re.search(r"(training|validation|test|predict)_step$", name) else r"^stage='(\w+)'", arguments)
    return name + (f"({which[1]})" if which else "")


@pytest.fixture(params=SIDES)
def recorder(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """A recorder for one of the libraries."""
    with quiet(request.param):
        yield Recorder(World(request.param, tmp_path))


def called(recorder: Recorder, entry: str, batches: int = 2, **options: Any) -> list[str]:
    """The calls of an entry point."""
    recorder.calls.clear()
    recorder.run(entry, recorder.module(hooks=HOOKS), recorder.data(train=lambda: rows(4 * batches)), **options)
    return [named(call) for call in recorder.calls]


def test_fit_makes_108_calls_in_this_order(recorder: Recorder) -> None:
    assert len(FIT.split()) == 108
    assert called(recorder, "fit", gradient_clip_val=0.5) == FIT.split()


@pytest.mark.parametrize(("entry", "expected", "count"), [("validate", VALIDATE, 28), ("test", TEST, 28), ("predict", PREDICT, 27)])
def test_an_evaluation_calls_in_this_order(entry: str, expected: str, count: int, recorder: Recorder) -> None:
    assert len(expected.split()) == count
    assert called(recorder, entry) == expected.split()


def test_a_fit_resumed_midway_goes_on_with_the_next_batch(recorder: Recorder, tmp_path: Path) -> None:
    path = str(tmp_path / "midway.ckpt")
    called(recorder, "fit", 4, callbacks=[saving(recorder, path, "on_train_batch_end", 1)], enable_checkpointing=False)
    assert called(recorder, "fit", 4, ckpt_path=path, enable_checkpointing=False) == FIT_RESUMED_MIDWAY.split()


def test_a_window_of_two_batches_clears_in_the_first_and_steps_in_the_last(recorder: Recorder) -> None:
    assert called(recorder, "fit", accumulate_grad_batches=2, enable_checkpointing=False) == FIT_IN_WINDOWS.split()
