"""Scenarios of entry points, loaders, limits, and when to validate."""

from collections.abc import Iterator
from typing import Any

import torch
from recording import LOADER_HOOKS, MODULE_HOOKS, TRANSFER_HOOKS, Recorder, rows
from scenarios import scenario
from torch.utils.data import DataLoader, IterableDataset


class Unsized(IterableDataset[torch.Tensor]):
    """Rows of two numbers without a length."""

    def __init__(self, count: int, seed: int = 0) -> None:
        self.rows = torch.randn(count, 2, generator=torch.Generator().manual_seed(seed))

    def __iter__(self) -> Iterator[torch.Tensor]:
        return iter(self.rows)


def unsized(count: int, seed: int = 0) -> DataLoader[Any]:
    """A loader without a length, four rows to a batch."""
    return DataLoader(Unsized(count, seed), batch_size=4)


# -- entry points --------------------------------------------------------------------------------------------------------------


@scenario
def fit(recorder: Recorder) -> None:
    recorder.run(gradient_clip_val=0.5)


@scenario
def validate(recorder: Recorder) -> None:
    recorder.run("validate")


@scenario
def test(recorder: Recorder) -> None:
    recorder.run("test")


@scenario
def predict(recorder: Recorder) -> None:
    recorder.run("predict")


@scenario
def evaluation_without_inference_mode(recorder: Recorder) -> None:
    recorder.run("validate", inference_mode=False)


@scenario
def fit_for_three_epochs(recorder: Recorder) -> None:
    recorder.run(max_epochs=3)


@scenario(warns="has a validation_step, and there is no validation loader")
def fit_without_validation(recorder: Recorder) -> None:
    class Data(recorder.world.api.LightningDataModule):  # type: ignore[name-defined, misc]
        def train_dataloader(self) -> Any:
            return rows(8)

    recorder.run(data=recorder.data(("prepare_data", "setup", "teardown", "train_dataloader"), base=Data))


@scenario
def hooks_of_the_module_alone(recorder: Recorder) -> None:
    base, data = recorder.base_module(), recorder.base_data()
    module = type("Model", (base,), {name: getattr(data, name) for name in LOADER_HOOKS})
    hooks = (*MODULE_HOOKS, *LOADER_HOOKS, *TRANSFER_HOOKS)
    recorder.run(module=recorder.module(module, hooks), loaders=())


@scenario
def loaders_as_arguments(recorder: Recorder) -> None:
    recorder.run(module=recorder.module(hooks=(*MODULE_HOOKS, *TRANSFER_HOOKS)), loaders=(rows(8), rows(4)))


@scenario
def hooks_that_nobody_overrides(recorder: Recorder) -> None:
    recorder.run(module=recorder.base_module()(), max_epochs=2, accumulate_grad_batches=2)


@scenario
def one_trainer_for_all_entry_points(recorder: Recorder) -> None:
    recorder.run()
    recorder.again("validate", recorder.module())
    recorder.again("test", ckpt_path="best")
    recorder.again("predict", recorder.module())


@scenario(warns="which is not empty")
def fit_again_with_more_epochs(recorder: Recorder) -> None:
    module = recorder.module()
    recorder.run(module=module)
    recorder.trainer.fit_loop.max_epochs = 2
    recorder.again("fit", module)


# -- loaders -------------------------------------------------------------------------------------------------------------------


@scenario
def several_validation_loaders(recorder: Recorder) -> None:
    recorder.run(data=recorder.data(val=lambda: [rows(4), rows(8)]))


@scenario
def several_loaders_to_validate(recorder: Recorder) -> None:
    recorder.run("validate", data=recorder.data(val=lambda: [rows(4), rows(8)]))


@scenario
def several_loaders_to_predict(recorder: Recorder) -> None:
    recorder.run("predict", data=recorder.data(predict=lambda: [rows(4), rows(8)]))


@scenario
def a_mapping_of_validation_loaders(recorder: Recorder) -> None:
    recorder.run("validate", data=recorder.data(val=lambda: {"a": rows(4), "b": rows(8)}))


class OfMapping:
    """For a module: a step over a mapping of batches."""

    def training_step(self: Any, batch: Any, batch_idx: int) -> Any:
        return sum(self.layer(part).pow(2).mean() for part in batch.values())

    def validation_step(self: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Any:
        return None


def of_mapping(recorder: Recorder) -> Any:
    return recorder.module(type("Model", (OfMapping, recorder.base_module()), {}))


@scenario
def a_mapping_of_training_loaders(recorder: Recorder) -> None:
    recorder.run(module=of_mapping(recorder), data=recorder.data(train=lambda: {"a": rows(4), "b": rows(12)}))


def combined(recorder: Recorder, mode: str) -> Any:
    if recorder.world.side == "lx":
        from lx.data import CombinedLoader
    else:
        from lightning.pytorch.utilities import CombinedLoader
    return CombinedLoader({"a": rows(4), "b": rows(12)}, mode)


@scenario
def training_loaders_combined_to_the_shortest(recorder: Recorder) -> None:
    recorder.run(module=of_mapping(recorder), data=recorder.data(train=lambda: combined(recorder, "min_size")), max_epochs=2)


@scenario
def validation_loaders_combined_to_the_shortest(recorder: Recorder) -> None:
    recorder.run("validate", module=of_mapping(recorder), data=recorder.data(val=lambda: combined(recorder, "min_size")))


@scenario
def training_without_a_length(recorder: Recorder) -> None:
    recorder.run(data=recorder.data(train=lambda: unsized(12)), max_epochs=2)


@scenario
def training_without_a_length_under_a_limit(recorder: Recorder) -> None:
    recorder.run(data=recorder.data(train=lambda: unsized(16)), limit_train_batches=2)


@scenario
def training_without_a_length_under_a_limit_too_high(recorder: Recorder) -> None:
    recorder.run(data=recorder.data(train=lambda: unsized(16)), limit_train_batches=20)


@scenario
def training_without_a_length_validated_by_batches(recorder: Recorder) -> None:
    recorder.run(data=recorder.data(train=lambda: unsized(16)), val_check_interval=2)


@scenario
def training_without_a_length_with_whole_windows(recorder: Recorder) -> None:
    recorder.run(data=recorder.data(train=lambda: unsized(16)), accumulate_grad_batches=2)


@scenario
def validation_without_a_length(recorder: Recorder) -> None:
    recorder.run(data=recorder.data(val=lambda: unsized(12)))


@scenario
def prediction_without_a_length(recorder: Recorder) -> None:
    recorder.run("predict", data=recorder.data(predict=lambda: unsized(12)))


@scenario
def lists_as_loaders(recorder: Recorder) -> None:
    recorder.run(data=recorder.data(train=lambda: Batches(3), val=lambda: Batches(2)))


class Batches:
    """Batches from no DataLoader, with a length."""

    def __init__(self, count: int) -> None:
        self.batches = list(torch.randn(count, 4, 2, generator=torch.Generator().manual_seed(7)))

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[torch.Tensor]:
        return iter(self.batches)


@scenario
def loaders_reloaded_every_epoch(recorder: Recorder) -> None:
    recorder.run(max_epochs=3, reload_dataloaders_every_n_epochs=1)


@scenario
def loaders_reloaded_every_second_epoch(recorder: Recorder) -> None:
    recorder.run(max_epochs=5, reload_dataloaders_every_n_epochs=2)


@scenario
def loaders_reloaded_while_validating_every_second_epoch(recorder: Recorder) -> None:
    recorder.run(max_epochs=4, reload_dataloaders_every_n_epochs=1, check_val_every_n_epoch=2)


@scenario
def loaders_that_shuffle(recorder: Recorder) -> None:
    torch.manual_seed(3)
    recorder.run(data=recorder.data(train=lambda: rows(16, shuffle=True)), max_epochs=3)


@scenario(warns="a loader has no batches")
def an_empty_training_loader(recorder: Recorder) -> None:
    recorder.run(data=recorder.data(train=lambda: rows(8, drop_last=True, batch_size=9)))


# -- limits --------------------------------------------------------------------------------------------------------------------


@scenario
def no_training_batches(recorder: Recorder) -> None:
    recorder.run(limit_train_batches=0)


@scenario
def no_validation_batches(recorder: Recorder) -> None:
    recorder.run(limit_val_batches=0)


@scenario
def no_batches_to_validate(recorder: Recorder) -> None:
    recorder.run("validate", limit_val_batches=0)


@scenario
def no_batches_to_test(recorder: Recorder) -> None:
    recorder.run("test", limit_test_batches=0)


@scenario
def no_batches_to_predict(recorder: Recorder) -> None:
    recorder.run("predict", limit_predict_batches=0)


@scenario
def limits_as_numbers(recorder: Recorder) -> None:
    recorder.run(data=recorder.data(train=lambda: rows(16), val=lambda: rows(16)), limit_train_batches=3, limit_val_batches=2)


@scenario
def limits_as_fractions(recorder: Recorder) -> None:
    recorder.run(
        data=recorder.data(train=lambda: rows(16), val=lambda: [rows(16), rows(12)]), limit_train_batches=0.7, limit_val_batches=0.5
    )


@scenario
def limits_of_combined_loaders(recorder: Recorder) -> None:
    loaders = recorder.data(train=lambda: {"a": rows(4), "b": rows(12)})
    recorder.run(module=of_mapping(recorder), data=loaders, limit_train_batches=2, max_epochs=2)


@scenario
def development_run(recorder: Recorder) -> None:
    recorder.run(fast_dev_run=True, max_epochs=7)


@scenario
def development_run_of_three_batches(recorder: Recorder) -> None:
    recorder.run(data=recorder.data(train=lambda: rows(20), val=lambda: rows(20)), fast_dev_run=3)


@scenario
def development_run_to_test(recorder: Recorder) -> None:
    recorder.run("test", data=recorder.data(test=lambda: rows(20)), fast_dev_run=2)


@scenario
def overfitting_one_batch(recorder: Recorder) -> None:
    recorder.run(data=recorder.data(val=lambda: rows(12)), overfit_batches=1, max_epochs=2)


@scenario(warns="overfit_batches: the train loader shuffles")
def overfitting_half(recorder: Recorder) -> None:
    data = recorder.data(train=lambda: rows(16, shuffle=True), val=lambda: rows(16))
    recorder.run(data=data, overfit_batches=0.5)


# -- when to validate ----------------------------------------------------------------------------------------------------------


@scenario
def no_sanity_check(recorder: Recorder) -> None:
    recorder.run(num_sanity_val_steps=0)


@scenario
def sanity_check_of_everything(recorder: Recorder) -> None:
    recorder.run(data=recorder.data(val=lambda: [rows(16), rows(4)]), num_sanity_val_steps=-1)


@scenario
def sanity_check_of_one_batch_each(recorder: Recorder) -> None:
    recorder.run(data=recorder.data(val=lambda: [rows(16), rows(4)]), num_sanity_val_steps=1)


@scenario
def validation_every_second_epoch(recorder: Recorder) -> None:
    recorder.run(max_epochs=4, check_val_every_n_epoch=2)


@scenario
def validation_every_second_epoch_without_a_sanity_check(recorder: Recorder) -> None:
    recorder.run(max_epochs=3, check_val_every_n_epoch=2, num_sanity_val_steps=0)


@scenario
def validation_every_second_batch(recorder: Recorder) -> None:
    recorder.run(data=recorder.data(train=lambda: rows(20)), val_check_interval=2, max_epochs=2)


@scenario
def validation_twice_an_epoch(recorder: Recorder) -> None:
    recorder.run(data=recorder.data(train=lambda: rows(20)), val_check_interval=0.4)


@scenario
def validation_across_epochs(recorder: Recorder) -> None:
    recorder.run(data=recorder.data(train=lambda: rows(16)), val_check_interval=3, check_val_every_n_epoch=None, max_epochs=3)


@scenario
def validation_across_long_intervals(recorder: Recorder) -> None:
    recorder.run(data=recorder.data(train=lambda: rows(8)), val_check_interval=5, check_val_every_n_epoch=None, max_epochs=5)


@scenario
def validation_within_a_window(recorder: Recorder) -> None:
    recorder.run(data=recorder.data(train=lambda: rows(24)), val_check_interval=3, accumulate_grad_batches=2)


@scenario
def submodules_in_eval_mode(recorder: Recorder) -> None:
    class Model(recorder.base_module()):  # type: ignore[misc]
        def on_train_epoch_start(self) -> None:
            self.layer.eval()

        def on_train_epoch_end(self) -> None:
            recorder.write("layer", {"trains": self.layer.training, "module": self.training})

    recorder.run(module=recorder.module(Model, ("training_step", "validation_step")))
