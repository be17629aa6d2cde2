"""What lx does in a step, counted in calls of its own functions: the same on any machine, however busy.

Times are in `tox -e bench`; this keeps anything from creeping into the step unseen.
"""

import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import lx
from epochs import MODES, Ready

STEPS = 40
SOURCES = str(Path(lx.__file__).parent)


class Watched(lx.LightningModule):
    """Counts the calls of functions of lx between its first and its last step."""

    def __init__(self, log: str = "none") -> None:
        super().__init__()
        self.layer = nn.Linear(32, 1)
        self.logged = log
        self.calls: Counter[str] = Counter()

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        if batch_idx == STEPS // 2:
            sys.setprofile(self.watch)
        loss = nn.functional.mse_loss(self.layer(batch[0]), batch[1])
        if self.logged != "none":
            self.log("loss", loss, on_epoch=self.logged == "epoch")
        if batch_idx == STEPS - 1:
            sys.setprofile(None)
        return loss

    def watch(self, frame: Any, event: str, argument: Any) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(SOURCES):
            self.calls[frame.f_code.co_name] += 1

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=1e-3)


def calls_per_step(log: str = "none", mode: str = "plain", **options: Any) -> dict[str, float]:
    """The functions of lx that a step calls, and how often each."""
    model = Watched(log)
    try:
        lx.Trainer(accelerator="cpu", max_epochs=1, log_every_n_steps=None if mode == "barebones" else STEPS, **MODES[mode], **options).fit(
            model, Ready(STEPS)
        )
    finally:
        sys.setprofile(None)
    return {name: count / (STEPS - 1 - STEPS // 2) for name, count in model.calls.items()}


BARE = {"stay": 1, "_run_plain": 1, "clear": 1, "looked_at": 1}
"""A batch is looked at, whether it must move; it is trained on; old gradients go; its samples are counted, which a DataLoader spares."""


def test_a_step_that_nobody_listens_to() -> None:
    assert calls_per_step() == BARE


def test_a_step_of_a_barebones_trainer_counts_no_samples() -> None:
    assert calls_per_step(mode="barebones") == {name: count for name, count in BARE.items() if name != "looked_at"}


def test_a_logged_value() -> None:
    calls = calls_per_step("step")
    assert {name: calls[name] for name in calls if name not in BARE} == pytest.approx({"log": 2, "record": 1}, rel=0.1)


def test_a_value_logged_for_the_epoch_reads_the_size_of_the_batch() -> None:
    calls = calls_per_step("epoch")
    of_log = {"log": 2, "record": 1, "batch_size_of": 1}
    assert {name: calls[name] for name in calls if name not in BARE} == pytest.approx(of_log, rel=0.1)


def test_callbacks_that_override_no_event_of_a_batch_add_nothing() -> None:
    idle = [type(f"Idle{number}", (lx.Callback,), {"on_train_epoch_end": lambda self, *event: None})() for number in range(10)]
    assert calls_per_step(callbacks=idle) == BARE


@pytest.mark.parametrize(
    ("event", "count", "calls"),
    [
        ("on_train_batch_start", 1, {"fan": 1}),
        ("on_train_batch_start", 3, {"fan": 1}),
        ("on_train_batch_end", 1, {"fan": 1, "outputs": 1}),
        ("on_train_batch_end", 3, {"fan": 1, "outputs": 1}),
    ],
)
def test_callbacks_that_override_an_event_share_one_call(event: str, count: int, calls: dict[str, int]) -> None:
    listener: Callable[..., None] = lambda self, *event: None  # noqa: E731 -- defined here, so that it is no function of lx
    listening = [type(f"One{number}", (lx.Callback,), {event: listener})() for number in range(count)]
    assert calls_per_step(callbacks=listening) == pytest.approx({**BARE, **calls}, rel=0.1)
