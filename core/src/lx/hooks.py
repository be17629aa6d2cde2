"""The hooks that a module may override; those of data are shared with the data module."""

from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from lx.batch import move_to
from lx.pieces import split_batch


class DataHooks:
    """Where data comes from, and what happens to a batch on its way to the device."""

    def prepare_data(self) -> None:
        """Downloads and prepares; called on one process (of every node, with `prepare_data_per_node`), so it must set no state."""

    def setup(self, stage: str) -> None:
        """Called on every rank when a run begins, with `"fit"`, `"validate"`, `"test"` or `"predict"`."""

    def teardown(self, stage: str) -> None:
        """Called on every rank when a run ends."""

    def train_dataloader(self) -> Any:
        """The loader to train on, or a collection of loaders."""
        raise NotImplementedError(f"{type(self).__name__} defines no train_dataloader.")

    def val_dataloader(self) -> Any:
        """The loader to validate on, or a list of loaders."""
        raise NotImplementedError(f"{type(self).__name__} defines no val_dataloader.")

    def test_dataloader(self) -> Any:
        """The loader to test on, or a list of loaders."""
        raise NotImplementedError(f"{type(self).__name__} defines no test_dataloader.")

    def predict_dataloader(self) -> Any:
        """The loader to predict, or a list of loaders."""
        raise NotImplementedError(f"{type(self).__name__} defines no predict_dataloader.")

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Changes a batch before it moves to the device; called on every rank for every batch."""
        return batch

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Moves a batch to the device; called on every rank for every batch."""
        return move_to(batch, device)

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Changes a batch after it moved to the device; called on every rank for every batch."""
        return batch

    def split_batch(self, batch: Any, size: int) -> list[Any]:
        """Cuts a training batch into pieces of at most `size` samples, for `Trainer(micro_batch_size=...)`; called on every rank.

        By default every tensor is cut along its first dimension, and lists with an item for each sample likewise.
        """
        return split_batch(batch, size)


class ModelHooks:
    """The events of a run, as a module sees them. Each is called on every rank, after the callbacks'."""

    def configure_model(self) -> None:
        """Builds what should be made on the device or sharded; called at every entry point, so it must do nothing the second time."""

    def on_fit_start(self) -> None:
        """Called when fit begins, after `configure_optimizers`."""

    def on_fit_end(self) -> None:
        """Called when fit ends; the model is still on its device, and leaves it before `teardown`."""

    def on_train_start(self) -> None:
        """Called before the first epoch."""

    def on_train_end(self) -> None:
        """Called after the last epoch."""

    def on_train_epoch_start(self) -> None:
        """Called when a training epoch begins."""

    def on_train_epoch_end(self) -> None:
        """Called when a training epoch ends, after its validation and before early stopping and checkpoints look at it."""

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> int | None:
        """Called before a batch is trained on; returning -1 ends the epoch here."""

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Called after a batch, with what `training_step` returned, detached."""

    def on_validation_start(self) -> None:
        """Called when a validation run begins."""

    def on_validation_end(self) -> None:
        """Called when a validation run ends."""

    def on_validation_epoch_start(self) -> None:
        """Called when a validation run begins to iterate."""

    def on_validation_epoch_end(self) -> None:
        """Called when a validation run has iterated."""

    def on_validation_batch_start(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Called before a validation batch."""

    def on_validation_batch_end(self, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Called after a validation batch."""

    def on_validation_model_zero_grad(self) -> None:
        """Clears gradients before a validation inside of fit, to save memory; not in the middle of an accumulation window."""
        self.zero_grad()  # type: ignore[attr-defined]

    def on_validation_model_eval(self) -> None:
        """Puts the model into eval mode for validation."""
        self.eval()  # type: ignore[attr-defined]

    def on_validation_model_train(self) -> None:
        """Puts the model back into train mode; unless overridden, every submodule gets back the mode that it had."""
        self.train()  # type: ignore[attr-defined]

    def on_test_start(self) -> None:
        """Called when a test run begins."""

    def on_test_end(self) -> None:
        """Called when a test run ends."""

    def on_test_epoch_start(self) -> None:
        """Called when a test run begins to iterate."""

    def on_test_epoch_end(self) -> None:
        """Called when a test run has iterated."""

    def on_test_batch_start(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Called before a test batch."""

    def on_test_batch_end(self, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Called after a test batch."""

    def on_test_model_eval(self) -> None:
        """Puts the model into eval mode for a test."""
        self.eval()  # type: ignore[attr-defined]

    def on_test_model_train(self) -> None:
        """Puts the model back into train mode; unless overridden, every submodule gets back the mode that it had."""
        self.train()  # type: ignore[attr-defined]

    def on_predict_start(self) -> None:
        """Called when a prediction run begins."""

    def on_predict_end(self) -> None:
        """Called when a prediction run ends."""

    def on_predict_epoch_start(self) -> None:
        """Called when a prediction run begins to iterate."""

    def on_predict_epoch_end(self) -> None:
        """Called when a prediction run has iterated."""

    def on_predict_batch_start(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Called before a prediction batch."""

    def on_predict_batch_end(self, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Called after a prediction batch."""

    def on_predict_model_eval(self) -> None:
        """Puts the model into eval mode for prediction."""
        self.eval()  # type: ignore[attr-defined]

    def on_predict_model_train(self) -> None:
        """Puts the model back into train mode; unless overridden, every submodule gets back the mode that it had."""
        self.train()  # type: ignore[attr-defined]

    def on_exception(self, exception: BaseException) -> None:
        """Called when the run is ended by an exception, `KeyboardInterrupt` included, after the callbacks' and the data module's."""

    def on_before_backward(self, loss: Tensor) -> None:
        """Called before `backward`, with the loss as it will be differentiated."""

    def on_after_backward(self) -> None:
        """Called after `backward`; gradients may still be scaled by the precision."""

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Called before an optimizer steps, when gradients are unscaled and not yet clipped."""

    def on_before_zero_grad(self, optimizer: Optimizer) -> None:
        """Called before gradients are cleared, on the first batch of an accumulation window."""

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Called with a checkpoint about to be written; it may be changed in place."""

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Called with a checkpoint that was read, before the weights in it are loaded; it may be changed in place."""
