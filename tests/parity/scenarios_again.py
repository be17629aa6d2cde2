"""Scenarios of trainers that are used again, of signals, and of windows that a checkpoint cuts."""

import os
import signal
from typing import Any

import pytest
from recording import Recorder, rows
from scenarios import doing, scenario, stop
from scenarios_data import unsized
from scenarios_runs import Stateful, resumed, saving
from scenarios_training import by_hand, long_data, scheduled, steps, with_methods

# -- trainers that are used again ----------------------------------------------------------------------------------------------


@scenario
def validation_twice(recorder: Recorder) -> None:
    module = recorder.module()
    recorder.run("validate", module)
    recorder.again("validate", module)


@scenario
def validation_and_then_fit(recorder: Recorder) -> None:
    module = recorder.module()
    recorder.run("validate", module)
    recorder.again("fit", module)
    recorder.again("test", module)


@scenario
def fit_again_with_other_data(recorder: Recorder) -> None:
    module = recorder.module()
    recorder.run(module=module, enable_checkpointing=False)
    recorder.trainer.fit_loop.max_epochs = 3
    recorder.again("fit", module, recorder.data(train=lambda: rows(12), val=lambda: [rows(4), rows(8)]))


@scenario
def fit_again_after_a_stop(recorder: Recorder) -> None:
    module = recorder.module()
    recorder.run(
        module=module, data=long_data(recorder), callbacks=[doing(recorder, "on_train_batch_start", stop)], enable_checkpointing=False
    )
    recorder.trainer.callbacks = [one for one in recorder.trainer.callbacks if type(one).__name__ != "Acts"]
    recorder.trainer.should_stop = False
    recorder.trainer.fit_loop.max_epochs = 2
    recorder.again("fit", module)


@scenario
def fit_again_for_nothing(recorder: Recorder) -> None:
    module = recorder.module()
    recorder.run(module=module, enable_checkpointing=False)
    recorder.again("fit", module)


@scenario
def another_fit_after_a_failure_in_validation(recorder: Recorder) -> None:
    def fail(trainer: Any, *_: Any) -> None:
        if not trainer.sanity_checking:
            raise ValueError("on purpose")

    with pytest.raises(ValueError, match="on purpose"):
        recorder.run(data=long_data(recorder), callbacks=[doing(recorder, "on_validation_start", fail)], val_check_interval=2, max_epochs=2)
    recorder.trainer.callbacks = [one for one in recorder.trainer.callbacks if type(one).__name__ != "Acts"]
    recorder.again("fit", recorder.module(), long_data(recorder))


@scenario
def a_model_by_hand_and_then_another(recorder: Recorder) -> None:
    recorder.run(module=by_hand(recorder), enable_checkpointing=False)
    recorder.trainer.fit_loop.max_epochs = 2
    recorder.again("fit", recorder.module())


# -- signals -------------------------------------------------------------------------------------------------------------------


@scenario
def a_signal_to_terminate(recorder: Recorder) -> None:
    def send(trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if batch_idx == 1:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(SystemExit):
        recorder.run(data=long_data(recorder), callbacks=[doing(recorder, "on_train_batch_end", send)])


# -- loaders and moments -------------------------------------------------------------------------------------------------------


@scenario(warns="a loader has no batches")
def an_empty_validation_loader(recorder: Recorder) -> None:
    recorder.run(data=recorder.data(val=lambda: rows(0)))


@scenario(warns="a loader has no batches")
def an_empty_validation_loader_among_others(recorder: Recorder) -> None:
    recorder.run(data=recorder.data(val=lambda: [rows(4), rows(0), rows(4)]))


@scenario
def validation_across_epochs_by_default(recorder: Recorder) -> None:
    recorder.run(check_val_every_n_epoch=None, max_epochs=2)


@scenario
def validation_without_a_length_by_batches(recorder: Recorder) -> None:
    recorder.run(data=recorder.data(train=lambda: unsized(20), val=lambda: unsized(8)), val_check_interval=2, limit_val_batches=1)


@scenario
def stopping_in_backward(recorder: Recorder) -> None:
    recorder.run(data=long_data(recorder), callbacks=[doing(recorder, "on_after_backward", stop)], max_epochs=2, accumulate_grad_batches=2)


@scenario
def stopping_in_training_step(recorder: Recorder) -> None:
    def training_step(self: Any, batch: Any, batch_idx: int) -> Any:
        self.trainer.should_stop = batch_idx == 2
        return self.layer(batch).pow(2).mean()

    recorder.run(module=with_methods(recorder, training_step=training_step), data=long_data(recorder), max_epochs=2, val_check_interval=2)


@scenario
def stopping_in_validation_step_before_the_least(recorder: Recorder) -> None:
    def validation_step(self: Any, batch: Any, batch_idx: int) -> Any:
        self.trainer.should_stop = True

    module = with_methods(recorder, validation_step=validation_step)
    recorder.run(module=module, data=long_data(recorder), max_epochs=4, min_epochs=2, val_check_interval=2, num_sanity_val_steps=0)


@scenario
def a_scheduler_by_step_in_windows(recorder: Recorder) -> None:
    recorder.run(
        module=scheduled(recorder, steps(interval="step")),
        data=recorder.data(train=lambda: rows(24)),
        accumulate_grad_batches=3,
        max_epochs=2,
    )


# -- windows that a checkpoint cuts --------------------------------------------------------------------------------------------


def cut_window(recorder: Recorder, loader: Any) -> None:
    path = str(recorder.world.root / "mid.ckpt")
    options = {"enable_checkpointing": False, "accumulate_grad_batches": 2}
    recorder.run(data=recorder.data(train=loader), callbacks=[saving(recorder, path, "on_train_batch_end", 2)], **options)
    resumed(recorder, path, data=recorder.data(train=loader), **options)


@scenario
def resuming_within_a_window(recorder: Recorder) -> None:
    cut_window(recorder, lambda: rows(24))


@scenario
def resuming_within_a_window_with_a_loader_that_goes_on(recorder: Recorder) -> None:
    cut_window(recorder, lambda: Stateful(6))
