"""What validate and test print."""

from collections.abc import Callable
from typing import Any

import pytest

from lx import Trainer
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
