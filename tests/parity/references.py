"""Scenarios of Lightning alone, in which it does what lx does in another one."""

from typing import Any

from recording import Recorder, rows
from scenarios import scenario
from scenarios_training import long_data, plateau, scheduled, steps, with_methods


def with_scaled_loss(recorder: Recorder, scale: Any) -> Any:
    """A module whose losses are multiplied by `scale(batch_idx)`."""

    def training_step(self: Any, batch: Any, batch_idx: int) -> Any:
        return self.layer(batch).pow(2).mean() * scale(batch_idx)

    return with_methods(recorder, training_step=training_step)


@scenario(reference=True)
def a_window_cut_short_and_scaled(recorder: Recorder) -> None:
    module = with_scaled_loss(recorder, lambda batch_idx: 2 if batch_idx == 4 else 1)
    recorder.run(module=module, data=long_data(recorder), accumulate_grad_batches=2, max_epochs=2)


@scenario(reference=True)
def windows_longer_than_the_epoch_and_scaled(recorder: Recorder) -> None:
    recorder.run(module=with_scaled_loss(recorder, lambda batch_idx: 5 / 2), accumulate_grad_batches=5, max_epochs=2)


@scenario(reference=True)
def a_scheduler_at_twice_the_frequency(recorder: Recorder) -> None:
    module = scheduled(recorder, steps(interval="step", frequency=4))
    recorder.run(module=module, data=recorder.data(train=lambda: rows(24)), accumulate_grad_batches=2, max_epochs=2)


@scenario(reference=True)
def a_plateau_scheduler_for_three_epochs(recorder: Recorder) -> None:
    module = scheduled(recorder, plateau(monitor="val"), steps(interval="step"))
    recorder.run(module=module, enable_checkpointing=False, max_epochs=3)


@scenario(reference=True)
def windows_without_a_break(recorder: Recorder) -> None:
    recorder.run(data=recorder.data(train=lambda: rows(24)), enable_checkpointing=False, accumulate_grad_batches=2)
