"""Where values stand on every axis, as loggers are told."""

from itertools import count
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

from lx import LightningModule, Trainer
from lx.interfaces import Point
from lx.logging.clock import FitClock, tell
from lx.testing import FakeLogger, fake_plugin_manager


class Notes(FakeLogger):
    """Notes the point of each row, and whether it is still there to save."""

    def __init__(self) -> None:
        super().__init__()
        self.points: list[Any] = []
        self.saved: list[Any] = []

    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        assert isinstance(self.point, Point)
        self.points.append((sorted(metrics), step, self.point))

    def save(self) -> None:
        self.saved += [self.point] if self.point is not None else []


class Model(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = self.layer(batch).mean()
        self.log("loss", loss)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val", float(batch_idx), on_step=True, on_epoch=True)

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def rows(samples: int) -> Any:
    return DataLoader(torch.zeros(samples, 1), batch_size=2)  # type: ignore[arg-type, var-annotated]


def trainer_of_fakes(logger: Any, **options: Any) -> Trainer:
    neutral = {"max_epochs": 1, "num_sanity_val_steps": 0, "log_every_n_steps": 1}
    return Trainer(manager=fake_plugin_manager(), **{**neutral, "logger": logger, **options})


def test_every_row_says_where_it_stands_on_each_axis() -> None:
    logger = Notes()
    trainer = trainer_of_fakes(logger, max_epochs=2, accumulate_grad_batches=2)
    trainer.fit(Model(), rows(7), rows(3))
    seen = [(names[-1], point.step, point.epoch, point.samples) for names, _, point in logger.points]
    assert seen == [
        ("loss", 0, 0, 4),
        ("loss", 1, 0, 7),
        ("val_step", 0, 0, 7),
        ("val_step", 1, 0, 7),
        ("val_epoch", 1, 0, 7),
        ("loss", 2, 1, 11),
        ("loss", 3, 1, 14),
        ("val_step", 2, 1, 14),
        ("val_step", 3, 1, 14),
        ("val_epoch", 3, 1, 14),
    ]
    assert logger.saved == [point for *_, point in logger.points]
    assert all(step == point.step for _, step, point in logger.points)
    for axis in ("seconds", "walltime"):
        values = [getattr(point, axis) for *_, point in logger.points]
        assert values == sorted(values)
        assert values[0] > 0
    assert logger.point is None


def test_time_stands_still_outside_of_fit_and_goes_on_in_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    logger = Notes()
    trainer, model = trainer_of_fakes(logger, limit_val_batches=1), Model()
    ticks = count()
    monkeypatch.setattr("lx.logging.clock.time.monotonic", lambda: float(next(ticks)))
    trainer.fit(model, rows(2), rows(2))
    spent = trainer.log.clock.seconds
    logger.points.clear()
    trainer.validate(model, rows(2), verbose=False)
    assert [point.seconds for *_, point in logger.points] == [spent, spent]
    assert trainer.log.clock.seconds == spent
    trainer.fit_loop.max_epochs = 2
    trainer.fit(model, rows(2), rows(2))
    assert trainer.log.clock.seconds > spent


def test_a_clock_keeps_what_it_measured_when_a_fit_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lx.logging.clock.time.monotonic", iter([10.0, 14.0, 100.0, 101.0]).__next__)
    clock = FitClock()
    clock.restore(2.0)
    with pytest.raises(ZeroDivisionError), clock:
        raise ZeroDivisionError
    assert clock.seconds == 6.0
    with clock:
        assert clock.seconds == 7.0
        monkeypatch.setattr("lx.logging.clock.time.monotonic", lambda: 102.0)
    assert clock.seconds == 8.0


def test_a_logger_that_is_no_logger_of_lx_is_left_alone() -> None:
    tell(object(), Point(step=0, epoch=0, samples=0, seconds=0.0, walltime=0.0))  # on which nothing can be set
