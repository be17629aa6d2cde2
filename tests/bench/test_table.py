"""The table can be made, and says when lx is over a limit; what it measures is not judged here."""

import pytest

from table import Row, measure, written


def test_each_part_of_one_process_gives_rows() -> None:
    rows = measure(["step", "callbacks", "syncs"], 1, 1, None)
    assert len(rows) == 9
    assert all(row.peer is None and row.lx >= 0 for row in rows)
    assert all(row.lx > 0.1 for row in rows if row.unit == "ratio")


def test_no_value_is_read_between_flushes() -> None:
    (row,) = measure(["syncs"], 1, 1, None)
    assert (row.lx, row.over) == (0, False)


def test_what_is_over_its_limit_is_marked() -> None:
    rows = [Row("fast", "ratio", 1.05, 3.4, 1.06), Row("slow", "ms", 61.2, None, 60)]
    assert [row.over for row in rows] == [False, True]
    text = written(rows, "2.6")
    assert "| fast | ratio | 1.050 | 3.400 | 1.06 |" in text
    assert "| slow | ms | 61 (over) |  | 60 |" in text


@pytest.mark.parametrize("part", ["digits"])
def test_an_epoch_of_real_data(part: str) -> None:
    (row,) = measure([part], 1, 1, None)
    assert row.lx > 0.1
