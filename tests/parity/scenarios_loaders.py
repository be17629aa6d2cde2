"""Scenarios of loaders that are out of the ordinary, of who moves batches, and of validation that is due by the clock."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import torch
from recording import LOADER_HOOKS, MODULE_HOOKS, TRANSFER_HOOKS, Recorder, rows
from scenarios import doing, scenario, stop
from scenarios_data import combined, of_mapping, unsized
from scenarios_training import long_data, with_methods

SOON = timedelta(microseconds=1)


class EndsEarly:
    """A loader of batches that claims to hold more than it does."""

    def __init__(self, claimed: int, count: int) -> None:
        self.claimed = claimed
        self.batches = list(rows(4 * count))

    def __len__(self) -> int:
        return self.claimed

    def __iter__(self) -> Iterator[torch.Tensor]:
        return iter(self.batches)


# -- loaders -------------------------------------------------------------------------------------------------------------------


@scenario
def training_that_ends_early(recorder: Recorder) -> None:
    recorder.run(data=recorder.data(train=lambda: EndsEarly(5, 3)), max_epochs=2)


@scenario
def training_that_ends_early_at_the_end_of_a_window(recorder: Recorder) -> None:
    recorder.run(data=recorder.data(train=lambda: EndsEarly(5, 4)), accumulate_grad_batches=2)


@scenario
def training_that_ends_early_within_a_window(recorder: Recorder) -> None:
    recorder.run(data=recorder.data(train=lambda: EndsEarly(6, 3)), accumulate_grad_batches=2)


@scenario
def validation_that_ends_early(recorder: Recorder) -> None:
    recorder.run(data=recorder.data(val=lambda: [EndsEarly(4, 2), rows(8)]), max_epochs=2)


@scenario
def training_without_a_length_and_an_open_window(recorder: Recorder) -> None:
    recorder.run(data=recorder.data(train=lambda: unsized(12)), accumulate_grad_batches=2)


@scenario
def training_without_a_length_validated_by_batches_across_epochs(recorder: Recorder) -> None:
    data = recorder.data(train=lambda: unsized(12))
    recorder.run(data=data, val_check_interval=2, check_val_every_n_epoch=None, max_epochs=3)


@scenario
def training_without_a_length_validated_every_second_epoch(recorder: Recorder) -> None:
    recorder.run(data=recorder.data(train=lambda: unsized(12)), check_val_every_n_epoch=2, max_epochs=3)


@scenario
def training_without_a_length_within_steps(recorder: Recorder) -> None:
    recorder.run(data=recorder.data(train=lambda: unsized(12)), max_epochs=-1, max_steps=5)


@scenario
def validation_of_sized_and_unsized_loaders_under_a_limit(recorder: Recorder) -> None:
    recorder.run("validate", data=recorder.data(val=lambda: [rows(12), unsized(12), rows(4)]), limit_val_batches=2)


@scenario
def a_list_of_training_loaders(recorder: Recorder) -> None:
    def training_step(self: Any, batch: Any, batch_idx: int) -> Any:
        return sum(self.layer(part).pow(2).mean() for part in batch)

    module = with_methods(recorder, training_step=training_step)
    recorder.run(module=module, data=recorder.data(train=lambda: [rows(4), rows(8)]), max_epochs=2)


@scenario
def training_loaders_combined_to_the_longest(recorder: Recorder) -> None:
    def training_step(self: Any, batch: Any, batch_idx: int) -> Any:
        return sum(self.layer(part).pow(2).mean() for part in batch.values() if part is not None)

    base = type("Model", (recorder.base_module(),), {"training_step": training_step})
    recorder.run(module=recorder.module(base), data=recorder.data(train=lambda: combined(recorder, "max_size")))


@scenario
def training_loaders_combined_with_a_limit_and_windows(recorder: Recorder) -> None:
    data = recorder.data(train=lambda: combined(recorder, "max_size_cycle"))
    recorder.run(module=of_mapping(recorder), data=data, limit_train_batches=2, accumulate_grad_batches=2, max_epochs=2)


@scenario
def prediction_under_a_limit(recorder: Recorder) -> None:
    recorder.run("predict", data=recorder.data(predict=lambda: [rows(12), unsized(12)]), limit_predict_batches=2)


@scenario
def test_under_a_limit(recorder: Recorder) -> None:
    recorder.run("test", data=recorder.data(test=lambda: [rows(12), rows(4)]), limit_test_batches=2)


@scenario
def loaders_reloaded_without_a_sanity_check(recorder: Recorder) -> None:
    recorder.run(max_epochs=3, reload_dataloaders_every_n_epochs=1, num_sanity_val_steps=0)


@scenario
def loaders_reloaded_while_validating_by_batches(recorder: Recorder) -> None:
    recorder.run(data=long_data(recorder), max_epochs=3, reload_dataloaders_every_n_epochs=1, val_check_interval=2)


@scenario
def the_length_of_training_asked_for_early(recorder: Recorder) -> None:
    def configure_optimizers(self: Any) -> Any:
        recorder.write("steps", {"steps": int(self.trainer.estimated_stepping_batches)})
        return torch.optim.SGD(self.parameters(), lr=0.1)

    recorder.run(module=with_methods(recorder, configure_optimizers=configure_optimizers), data=long_data(recorder), max_epochs=2)


# -- moving batches ------------------------------------------------------------------------------------------------------------


@scenario
def batches_moved_by_the_module(recorder: Recorder) -> None:
    hooks = ("prepare_data", "setup", "teardown", *LOADER_HOOKS)
    recorder.run(module=recorder.module(hooks=(*MODULE_HOOKS, *TRANSFER_HOOKS)), data=recorder.data(hooks))


@scenario
def batches_changed_on_their_way(recorder: Recorder) -> None:
    methods = {
        "on_before_batch_transfer": lambda self, batch, dataloader_idx: batch + 1,
        "on_after_batch_transfer": lambda self, batch, dataloader_idx: batch * 2,
    }
    recorder.run(data=recorder.data(base=type("Data", (recorder.base_data(),), methods)))


@scenario
def batches_in_double_precision(recorder: Recorder) -> None:
    recorder.run(precision="64-true")


@scenario
def training_in_mixed_precision(recorder: Recorder) -> None:
    recorder.run(precision="bf16-mixed", accumulate_grad_batches=2, gradient_clip_val=0.5)


# -- when to validate ----------------------------------------------------------------------------------------------------------


@scenario
def validation_by_the_clock(recorder: Recorder) -> None:
    recorder.run(val_check_interval=SOON, max_epochs=2)


@scenario
def validation_by_the_clock_in_every_second_epoch(recorder: Recorder) -> None:
    recorder.run(val_check_interval=SOON, check_val_every_n_epoch=2, max_epochs=3)


@scenario
def validation_by_the_clock_across_epochs(recorder: Recorder) -> None:
    recorder.run(val_check_interval=SOON, check_val_every_n_epoch=None, max_epochs=2, accumulate_grad_batches=2)


@scenario
def validation_by_a_clock_that_never_strikes(recorder: Recorder) -> None:
    recorder.run(val_check_interval=timedelta(days=9), max_epochs=2)


@scenario
def validation_by_a_fraction_that_does_not_divide(recorder: Recorder) -> None:
    recorder.run(data=recorder.data(train=lambda: rows(28)), val_check_interval=0.3, max_epochs=2)


@scenario
def validation_by_batches_with_a_limit(recorder: Recorder) -> None:
    recorder.run(data=recorder.data(train=lambda: rows(28)), val_check_interval=1.0, limit_train_batches=3, max_epochs=2)


@scenario
def validation_across_epochs_of_windows(recorder: Recorder) -> None:
    data = recorder.data(train=lambda: rows(12))
    recorder.run(data=data, val_check_interval=2, check_val_every_n_epoch=None, max_epochs=3, accumulate_grad_batches=3)


@scenario
def validation_across_epochs_after_a_stop(recorder: Recorder) -> None:
    callback = doing(recorder, "on_train_epoch_end", stop)
    recorder.run(data=long_data(recorder), val_check_interval=4, check_val_every_n_epoch=None, max_epochs=3, callbacks=[callback])


@scenario
def no_time(recorder: Recorder) -> None:
    recorder.run(data=long_data(recorder), max_time=timedelta(0), max_epochs=3)


@scenario
def barebones(recorder: Recorder) -> None:
    off = {"logger": None, "enable_progress_bar": None, "enable_model_summary": None}
    recorder.run(barebones=True, max_epochs=2, **off)
