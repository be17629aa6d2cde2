"""Quantities with a unit, from the arguments of a Trainer and of callbacks to what a run does."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lx import Callback, Trainer
from lx.kernel.errors import MisconfigurationException
from lx.testing.models import TinyDataModule, TinyModule

MakeTrainer = Callable[..., Trainer]


class Counts(Callback):
    """Counts training batches, and notes after which of them validation came."""

    def __init__(self) -> None:
        self.batches = 0
        self.validated_after: list[int] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.batches += 1

    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
        if not trainer.sanity_checking:
            self.validated_after.append(self.batches)


def fitted(make: MakeTrainer, **arguments: Any) -> tuple[Trainer, Counts]:
    """A fit on epochs of four batches, and what it counted."""
    counts = Counts()
    trainer = make(callbacks=[counts], **arguments)
    trainer.fit(TinyModule(), datamodule=TinyDataModule())
    return trainer, counts


@pytest.mark.parametrize(
    ("arguments", "epochs", "steps", "validated_after"),
    [
        ({"max_epochs": "2ep"}, 2, 8, [4, 8]),
        ({"max_time": "2ep"}, 2, 8, [4, 8]),
        ({"max_time": "6st"}, 2, 6, [4]),
        ({"max_time": "6ba"}, 2, 6, [4]),
        ({"max_steps": "4ba", "accumulate_grad_batches": "2ba"}, 1, 2, [4]),
        ({"max_epochs": 1, "limit_train_batches": "2ba"}, 1, 2, [2]),
        ({"max_epochs": 1, "limit_train_batches": "75%"}, 1, 3, [3]),
        ({"max_epochs": 4, "val_check_interval": "2ep"}, 4, 16, [8, 16]),
        ({"max_epochs": 2, "val_check_interval": "0.5ep"}, 2, 8, [2, 4, 6, 8]),
        ({"max_epochs": 1, "val_check_interval": "25%"}, 1, 4, [1, 2, 3, 4]),
        ({"max_epochs": 1, "val_check_interval": "3ba"}, 1, 4, [3]),
        ({"max_epochs": 2, "check_val_every_n_epoch": "2ep"}, 2, 8, [8]),
        ({"max_epochs": 1, "overfit_batches": "1ba"}, 1, 1, [1]),
        ({"fast_dev_run": "2ba"}, 1, 2, [2]),
    ],
)
def test_a_run_goes_as_far_as_its_units_say(
    arguments: dict[str, Any], epochs: int, steps: int, validated_after: list[int], bare_trainer: MakeTrainer
) -> None:
    trainer, counts = fitted(bare_trainer, **arguments)
    assert trainer.global_step == steps
    assert counts.validated_after == validated_after
    assert trainer.current_epoch == epochs


def test_units_that_stand_for_another_argument_leave_none_behind(bare_trainer: MakeTrainer) -> None:
    trainer = bare_trainer(max_time="3ep", val_check_interval="2ep")
    assert (trainer.max_epochs, trainer.check_val_every_n_epoch, trainer.val_check_interval) == (3, 2, 1.0)
    assert trainer.limits.max_time is None
    assert [callback for callback in trainer.callbacks if "timer" in callback.roles] == []
    (timer,) = bare_trainer(max_time="1h30min").callbacks
    assert timer.duration == 5400
    with pytest.raises(MisconfigurationException, match="max_time='3ep' means max_epochs=3, and max_epochs=5 is given; give one"):
        bare_trainer(max_time="3ep", max_epochs="5ep")


def test_callbacks_named_by_strings_take_units(bare_trainer: MakeTrainer) -> None:
    named = ["model_checkpoint(every_n_train_steps='2st', save_top_k=-1)", "timer(duration='2h')"]
    trainer = bare_trainer(max_epochs=1, callbacks=named, enable_checkpointing=True)
    assert trainer.checkpoint_callback.every_n_train_steps == 2
    assert next(callback for callback in trainer.callbacks if "timer" in callback.roles).duration == 7200
    trainer.fit(TinyModule(), datamodule=TinyDataModule())
    assert sorted(path.name for path in Path(trainer.checkpoint_callback.dirpath).iterdir()) == [
        "epoch=0-step=2.ckpt",
        "epoch=0-step=4.ckpt",
    ]
    with pytest.raises(MisconfigurationException, match="every_n_epochs='3st': optimizer steps cannot be given here"):
        bare_trainer(callbacks="model_checkpoint(every_n_epochs='3st')", enable_checkpointing=True)


def test_a_second_fit_goes_on_to_bounds_that_were_set_in_between(bare_trainer: MakeTrainer) -> None:
    model, data = TinyModule(), TinyDataModule()
    trainer = bare_trainer(max_epochs="1ep", min_epochs="1ep")
    assert (trainer.max_epochs, trainer.min_epochs) == (1, 1)
    trainer.fit(model, datamodule=data)
    trainer.fit(model, datamodule=data)  # nothing is left to do
    assert (trainer.current_epoch, trainer.global_step) == (1, 4)
    trainer.fit_loop.max_epochs = "3ep"
    trainer.fit_loop.min_epochs = 2
    assert trainer.estimated_stepping_batches == 12
    trainer.fit(model, datamodule=data)
    assert (trainer.current_epoch, trainer.global_step, trainer.min_epochs) == (3, 12, 2)
    trainer.fit_loop.max_epochs = -1
    trainer.fit_loop.max_steps = "14st"
    trainer.fit(model, datamodule=data)
    assert trainer.global_step == 14
    with pytest.raises(MisconfigurationException, match="max_epochs='ten': that is no number with a unit"):
        trainer.fit_loop.max_epochs = "ten"
    with pytest.raises(MisconfigurationException, match="accumulate_grad_batches=0: it must be 1 or more"):
        trainer.accumulate_grad_batches = 0
    assert (trainer.max_epochs, trainer.accumulate_grad_batches) == (-1, 1)


@pytest.mark.parametrize("schedule", [lambda step: 1 if step < 3 else 3, lambda step: step % 3 + 1])
@pytest.mark.parametrize("bounds", [{"max_epochs": 3}, {"max_epochs": 5, "max_steps": 6}])
def test_estimated_steps_with_a_changing_accumulation_are_those_taken(
    schedule: Callable[[int], int], bounds: dict[str, int], bare_trainer: MakeTrainer
) -> None:
    estimates = []

    class Estimates(TinyModule):
        def configure_optimizers(self) -> Any:
            estimates.append(self.trainer.estimated_stepping_batches)
            return super().configure_optimizers()

    trainer = bare_trainer(accumulate_grad_batches=schedule, **bounds)
    trainer.fit(Estimates(), datamodule=TinyDataModule())
    assert estimates == [trainer.global_step]


def test_how_a_number_was_read_is_said_once_for_each(bare_trainer: MakeTrainer, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="lx"):
        bare_trainer(limit_train_batches=1, limit_val_batches=1.0, limit_test_batches=3.0, val_check_interval=1)
    assert [record.message for record in caplog.records if "batch" in record.message] == [
        "limit_train_batches=1 is one batch; write 1.0 for all.",
        "limit_val_batches=1.0 is all batches; write 1 for one.",
        "limit_test_batches=3.0 is read as 3 batches; as a float, it would be a share up to 1.0.",
        "val_check_interval=1 validates after each batch; write 1.0 for the end of an epoch.",
    ]
