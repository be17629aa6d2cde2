"""What `lx verify-resume` makes of two journals."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from lx.cli.resuming.comparison import Reading, first_difference
from lx.cli.resuming.digest import digest, number, tensors
from lx.cli.resuming.journal import Journal, read

Entries = list[dict[str, Any]]


def start(checkpoint: str | None = None, step: int = 0) -> dict[str, Any]:
    return {"kind": "start", "fit": 1, "checkpoint": checkpoint, "step": step}


def batch(index: int, **changed: Any) -> dict[str, Any]:
    place = {"fit": 1, "number": index, "step": index, "axis": index - 1, "epoch": 0, "batch_idx": index - 1}
    return {"kind": "batch", **place, "samples": "s", "loss": f"{index}.5", "lr": ["0.1"], "weights": f"w{index}", **changed}


def log(step: int, **values: str) -> dict[str, Any]:
    return {"kind": "log", "fit": 1, "logger": "CSV 1", "step": step, "values": values}


def end(**changed: Any) -> dict[str, Any]:
    same = {"weights": {"a": "1", "b": "2"}, "optimizers": ["o"], "schedulers": [], "metrics": {"loss": "1.0"}, "callbacks": {}}
    return {"kind": "end", "fit": 1, "step": 3, "epoch": 1, **same, **changed}


WHOLE = [start(), batch(1), log(0, loss="1.5"), batch(2), log(1, loss="2.5"), batch(3), log(2, loss="3.5", mean="2.5"), end()]
KILLED = [*WHOLE[:5], {"kind": "killed", "point": "at x"}, start("one.ckpt", 1), *WHOLE[3:]]


def told(entries: Entries, ignored: tuple[str, ...] = (), whole: Entries = WHOLE) -> str | None:
    found = first_difference(Reading(whole), Reading(entries), ignored)
    return None if found is None else str(found)


def changed(entries: Entries, index: int, entry: dict[str, Any]) -> Entries:
    return [*entries[:index], entry, *entries[index + 1 :]]


def test_what_is_done_twice_in_the_same_way_is_no_difference() -> None:
    assert told(KILLED) is None
    reading = Reading(KILLED)
    assert str(reading.kills[0]) == "at x, after step 2; went on from step 1, one.ckpt"
    assert reading.size == "3 steps, 1 epoch"


def test_a_run_that_goes_back_by_itself_may_come_to_a_batch_with_other_weights() -> None:
    went = [start(), batch(1), batch(2, weights="bad"), batch(1), batch(2), end()]
    assert told(went, whole=went) is None
    assert told([*went[:2], *went[3:]], whole=went) is None  # killed before, and gone on with
    other = [*went[:4], batch(2, weights="w"), end()]
    assert "the weights" in str(told(other, whole=went))
    assert "the weights" in str(told([*went[:3], end()], whole=went))


def test_what_came_after_a_kill_is_told() -> None:
    killed = {"kind": "killed", "point": "at x"}
    told = [str(kill) for kill in Reading([start(), batch(1), killed, killed, start(), batch(1)]).kills]
    assert told == [
        "at x, after step 1; the next process was killed before it trained",
        "at x, after step 1; began anew, there being no checkpoint yet",
    ]


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        (changed(KILLED, 3, batch(2, loss="2.6", weights="v")), "step 2 (epoch 0, batch 1): the loss, 2.6 instead of 2.5; the weights"),
        (changed(KILLED, 7, batch(2, samples="t")), "step 2 (epoch 0, batch 1): the samples of the batch"),
        (changed(KILLED, 9, batch(3, lr=["0.1", "0.2"])), "step 3 (epoch 0, batch 2): the learning rate, 0.1, 0.2 instead of 0.1"),
        (changed(KILLED, 8, log(1, loss="nan")), "step 2 (epoch 0, batch 1): 'loss', logged at step 1, was nan instead of 2.5"),
        (changed(KILLED, 4, log(1, loss="9.0")), "step 2 (epoch 0, batch 1): 'loss', logged at step 1, was 9.0 instead of 2.5"),
        (changed(KILLED, 10, log(2, loss="3.5")), "step 3 (epoch 0, batch 2): 'mean', logged at step 2, was not logged"),
        (
            [*KILLED[:-1], log(2, more="1.0"), end()],
            "step 3 (epoch 0, batch 2): 'more', logged at step 2, was logged in addition, as 1.0",
        ),
        ([*KILLED[:-1], batch(4), end()], "step 4 (epoch 0, batch 3): it was trained on once more"),
        ([*WHOLE[:5], WHOLE[6], end()], "step 3 (epoch 0, batch 2): it was not trained on"),
        (WHOLE[:-1], "the end, all batches being the same: fit did not come to its end"),
        (changed(WHOLE, 7, end(optimizers=["p"])), "the end, all batches being the same: the optimizer state"),
        (changed(WHOLE, 7, end(weights={"a": "1", "b": "3"})), "the end, all batches being the same: the weights (b)"),
        (changed(WHOLE, 7, end(metrics={})), "the end, all batches being the same: the metric 'loss', nothing instead of 1.0"),
        (changed(WHOLE, 7, end(callbacks={"EMA": "1"})), "the end, all batches being the same: the state of the callback 'EMA'"),
    ],
)
def test_the_first_difference_is_named(entries: Entries, said: str) -> None:
    assert told(entries) == said


def test_the_earliest_of_several_differences_is_named() -> None:
    entries = changed(changed(WHOLE, 4, log(1, loss="0.0")), 5, batch(3, weights="v"))
    assert told(entries) == "step 2 (epoch 0, batch 1): 'loss', logged at step 1, was 0.0 instead of 2.5"
    assert told(entries, ignored=("loss",)) == "step 3 (epoch 0, batch 2): the weights"


def test_only_values_that_were_logged_can_be_left_out() -> None:
    both = first_difference(Reading(WHOLE), Reading(changed(WHOLE, 4, log(1, loss="0.0"))))
    assert both is not None
    assert (both.only_values, both.names) == (True, {"loss"})
    weights = first_difference(Reading(WHOLE), Reading(changed(WHOLE, 3, batch(2, weights="v"))))
    assert weights is not None
    assert not weights.only_values


def test_a_line_that_was_not_finished_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    assert read(path) == []
    Journal(path).write("start", fit=1)
    with path.open("a") as file:
        file.write('{"kind": "ba')
    assert read(path) == [{"kind": "start", "fit": 1}]


def test_equal_digests_mean_equal_bits() -> None:
    one = torch.tensor([1.0, math.nan])
    assert digest(one) == digest(one.clone()) == digest(one.repeat(2, 1)[1])
    assert len({digest(value) for value in (one, one.double(), one.reshape(2, 1), torch.tensor([0.0]), torch.tensor([-0.0]), [one])}) == 6
    assert digest({"a": [1, "x", None], "b": one}) == digest({"a": [1, "x", None], "b": one.clone()})
    assert digest({"a": 1}) != digest({"a": 1.0})
    assert digest(lambda: 1) == digest(lambda: 2)
    assert digest(torch.eye(3).to_sparse()) == digest(torch.eye(3))
    assert digest(torch.ones(2, dtype=torch.complex64).conj()) == digest(torch.ones(2, dtype=torch.complex64).conj().clone())
    assert number(torch.tensor(math.nan)) == number(math.nan) == "nan"
    assert [value.item() for value in tensors({"a": [torch.tensor(1)], "b": (2, torch.tensor(3))})] == [1, 3]
