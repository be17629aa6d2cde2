"""What validate and test print."""

from collections.abc import Callable
from typing import Any

import pytest

from lx import Trainer
from lx.running.results import verdict_table
from lx.state import TrainerFn
from lx.testing import TinyDataModule, TinyModule


class Silent(TinyModule):
    """Logs nothing in its tests."""

    def test_step(self, batch: Any, batch_idx: int) -> None:
        self.loss(batch)


def test_a_table_of_what_was_logged_and_none_where_nothing_was(
    bare_trainer: Callable[..., Trainer], capsys: pytest.CaptureFixture[str]
) -> None:
    (values,) = bare_trainer().test(TinyModule(), datamodule=TinyDataModule())
    shown = capsys.readouterr().out
    assert shown.startswith("test metric")
    assert all(name in shown for name in values)
    bare_trainer().test(Silent(), datamodule=TinyDataModule())
    assert capsys.readouterr().out == ""


def test_a_table_is_as_wide_as_the_terminal_and_the_loaders_that_find_no_place_come_below() -> None:
    name = "validation/per_class/mean_average_precision_at_iou_threshold_0.75"
    row = {"acc": 0.5, name: 1e-9, "nan": float("nan")}
    results = [row, {**row, "extra": 1234567.0}, row]
    table = verdict_table(TrainerFn.TESTING, results, width=40)
    assert table.splitlines() == [
        "test metric     loader 0     loader 1",
        "-----------  -----------  -----------",
        "acc                  0.5          0.5",
        name,
        "                   1e-09        1e-09",
        "nan                  nan          nan",
        "extra                     1.23457e+06",
        "",
        "test metric     loader 2",
        "-----------  -----------",
        "acc                  0.5",
        name,
        "                   1e-09",
        "nan                  nan",
    ]
    assert max(map(len, verdict_table(TrainerFn.TESTING, results, width=120).splitlines())) <= 120
    assert len(verdict_table(TrainerFn.TESTING, results, width=120).splitlines()) == 6
