"""The order in which callback (C), module (M) and data module (D) are called: the whole of it, written out."""

import functools
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from lx import Callback, LightningDataModule, LightningModule, Trainer

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
    M.on_predict_model_train
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

TRANSFER = {"on_before_batch_transfer", "transfer_batch_to_device", "on_after_batch_transfer"}
OF_LX_ALONE = {"on_before_batch_transfer", "on_after_batch_transfer", "on_before_lr_scheduler_step", "on_after_lr_scheduler_step"}
OF_CALLBACK = {"setup", "teardown", "state_dict", "load_state_dict"}
OF_MODULE = {
    "setup",
    "teardown",
    "configure_callbacks",
    "configure_model",
    "configure_optimizers",
    "training_step",
    "validation_step",
    "test_step",
    "predict_step",
    "backward",
    "optimizer_step",
    "optimizer_zero_grad",
    "lr_scheduler_step",
    "configure_gradient_clipping",
}
OF_DATA = {
    *TRANSFER,
    "setup",
    "teardown",
    "prepare_data",
    "train_dataloader",
    "val_dataloader",
    "test_dataloader",
    "predict_dataloader",
    "state_dict",
    "load_state_dict",
}


class Model(LightningModule):
    """One layer, and a scheduler that moves every epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 1)

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        return self.layer(batch).square().mean()

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        """Nothing to see."""

    def test_step(self, batch: Tensor, batch_idx: int) -> None:
        """Nothing to see."""

    def predict_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        return self.layer(batch)

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=0.01)
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1)]


class Data(LightningDataModule):
    """A few batches to train on, one for everything else."""

    def __init__(self, batches: int) -> None:
        super().__init__()
        self.batches = batches

    def train_dataloader(self) -> Any:
        return DataLoader(torch.ones(2 * self.batches, 2), batch_size=2)

    def val_dataloader(self) -> Any:
        return DataLoader(torch.ones(2, 2), batch_size=2)

    test_dataloader = predict_dataloader = val_dataloader


class SavesMidway(Callback):
    """Writes a checkpoint when the second batch has ended."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if batch_idx == 1:
            trainer.save_checkpoint(self.path)


def recording(base: type[Any], hooks: set[str], owner: str, calls: list[str]) -> type[Any]:
    """A subclass whose hooks, these and all whose names begin with `on_`, write down that they are called; steps and stages say which."""

    def hook(name: str) -> Callable[..., Any]:
        original = getattr(base, name)

        @functools.wraps(original)
        def call(self: Any, *args: Any, **kwargs: Any) -> Any:
            which = {"setup": [*args, *kwargs.values()][-1:], "teardown": [*args, *kwargs.values()][-1:]}.get(name, [])
            which = [args[1]] if re.fullmatch("(training|validation|test|predict)_step", name) else which
            calls.append(f"{owner}.{name}" + "".join(f"({part})" for part in which))
            return original(self, *args, **kwargs)

        return call

    names: Iterable[str] = hooks | {name for name in dir(base) if name.startswith("on_") and callable(getattr(base, name))}
    # Of modules, those of the data module come first; those of callbacks are lx's alone, and tested by themselves.
    names = set(names) - (TRANSFER if base is Model else OF_LX_ALONE if base is Callback else set())
    return type(base.__name__, (base,), {name: hook(name) for name in names})


def calls_of(
    make_trainer: Callable[..., Trainer], entry: str = "fit", batches: int = 2, ckpt_path: Any = None, **options: Any
) -> list[str]:
    """Runs an entry point, and returns all calls in their order."""
    calls: list[str] = []
    callback = recording(Callback, OF_CALLBACK, "C", calls)()
    module, data = recording(Model, OF_MODULE, "M", calls)(), recording(Data, OF_DATA, "D", calls)(batches)
    trainer = make_trainer(**{"max_epochs": 1, **options, "callbacks": [callback, *options.get("callbacks", [])]})
    getattr(trainer, entry)(module, datamodule=data, ckpt_path=ckpt_path)
    return calls


def test_fit_makes_108_calls_in_this_order(bare_trainer: Callable[..., Trainer]) -> None:
    assert len(FIT.split()) == 108
    assert calls_of(bare_trainer, gradient_clip_val=0.5, enable_checkpointing=True) == FIT.split()


@pytest.mark.parametrize(("entry", "expected", "count"), [("validate", VALIDATE, 28), ("test", TEST, 28), ("predict", PREDICT, 28)])
def test_an_evaluation_calls_in_this_order(
    entry: str, expected: str, count: int, bare_trainer: Callable[..., Trainer], capsys: pytest.CaptureFixture[str]
) -> None:
    assert len(expected.split()) == count
    assert calls_of(bare_trainer, entry) == expected.split()


def test_a_fit_resumed_midway_goes_on_with_the_next_batch(bare_trainer: Callable[..., Trainer], tmp_path: Path) -> None:
    calls_of(bare_trainer, batches=4, callbacks=[SavesMidway(tmp_path / "midway.ckpt")])
    assert calls_of(bare_trainer, batches=4, ckpt_path=tmp_path / "midway.ckpt") == FIT_RESUMED_MIDWAY.split()


def test_a_window_of_two_batches_clears_in_the_first_and_steps_in_the_last(bare_trainer: Callable[..., Trainer]) -> None:
    assert calls_of(bare_trainer, accumulate_grad_batches=2) == FIT_IN_WINDOWS.split()
