"""What is read of files that a test writes, and the command."""

import json
from pathlib import Path
from typing import Any

import pytest

from lx.cli import main
from lx.kernel.errors import MisconfigurationException
from lx_plugin_data_ledger import read, verify
from lx_plugin_data_ledger.notation import read_back, written


def write(
    folder: Path, name: str, rank: int, batches: list[Any], after: str | None = None, start: tuple[int, int] = (0, 0), **told: Any
) -> Path:
    """Writes the file of one process: `batches` are (epoch, batch, indices); `told` is said of the loader."""
    loader = {"dataset": "Rows", "samples": 8, "batches": 2, "batch_size": 2, "share": 4, **told}
    header = {"ledger": 1, "run": name, "rank": rank, "world_size": 2, "after": after, "from": start, "step": 0}
    lines = [header, {"epoch": start[0], "batches": 2, "mode": "min_size", "loaders": [loader]}]
    lines += [{"epoch": epoch, "batch": batch, "step": 2 * epoch + batch + 1, "indices": [taken]} for epoch, batch, taken in batches]
    path = folder / "data_ledger" / name / f"rank-{rank}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.mark.parametrize(
    "indices",
    [
        [],
        [3],
        [5, 4],
        list(range(7, 40)),
        list(range(0, 90, 3)),
        [9, 8, 7] * 20,
        [2**32 - 1, *range(20)],
        [2**40, *range(20)],
        [*range(20), -1],
        [0, 1, 2, 4],
        list("abcdefghijklmnopqrstuvwxyz"),
        [[1, 2]] * 20,
    ],
    ids=repr,
)
def test_indices_are_read_as_they_were_written(indices: list[Any]) -> None:
    assert read_back(json.loads(written(indices))) == indices


FIRST, SECOND = "0001-aaaaaaaa", "0002-bbbbbbbb"


def test_the_shares_of_processes_make_a_whole(tmp_path: Path) -> None:
    write(tmp_path, FIRST, 0, [(0, 0, "0:4:2"), (0, 1, "4:8:2")])
    write(tmp_path, FIRST, 1, [(0, 0, "1:5:2"), (0, 1, "5:9:2")])
    report = verify(tmp_path)
    assert str(report) == "epoch 0: 8 of 8 samples exactly once"
    assert report.ok
    assert [entry.rank for entry in read(tmp_path).of_sample(6)] == [0]


def test_what_makes_shares_equal_may_be_seen_twice(tmp_path: Path) -> None:
    write(tmp_path, FIRST, 0, [(0, 0, [0, 2]), (0, 1, [4, 6])], samples=7)
    write(tmp_path, FIRST, 1, [(0, 0, [1, 3]), (0, 1, [5, 0])], samples=7)
    assert str(verify(tmp_path)) == "epoch 0: 6 of 7 samples exactly once and 1 more often, to make the shares of 2 processes equal"
    assert verify(tmp_path).ok
    write(tmp_path, FIRST, 1, [(0, 0, [1, 3]), (0, 1, [0, 0])], samples=7)
    assert str(verify(tmp_path)) == "epoch 0: 5 of 7 samples exactly once, 1 never (5), 1 more than once (0)"


def test_processes_that_take_the_same_are_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for rank in (0, 1):
        write(tmp_path, FIRST, rank, [(0, 0, "0:2"), (0, 1, "2:4")])
    assert main(["data-ledger", str(tmp_path)]) == 1
    assert capsys.readouterr().out == "epoch 0: 0 of 8 samples exactly once, 4 never (4 to 7), 4 more than once (0 to 3)\n"


def test_what_the_data_set_does_not_have_is_found(tmp_path: Path) -> None:
    write(tmp_path, FIRST, 0, [(0, 0, "0:2"), (0, 1, [2, 9])])
    write(tmp_path, FIRST, 1, [(0, 0, "4:6"), (0, 1, "6:8")])
    assert str(verify(tmp_path)) == "epoch 0: 7 of 8 samples exactly once, 1 never (3), 1 that the data set does not have (9)"


def test_samples_may_have_names(tmp_path: Path) -> None:
    write(tmp_path, FIRST, 0, [(0, 0, ["a", "b"]), (0, 1, ["c", "d"])])
    write(tmp_path, FIRST, 1, [(0, 0, ["e", "f"]), (0, 1, ["g", [1, 2]])])
    assert str(verify(tmp_path)) == "epoch 0: 8 of 8 samples exactly once"
    write(tmp_path, FIRST, 1, [(0, 0, ["e", "f"]), (0, 1, ["g", "a"])])
    assert str(verify(tmp_path)) == "epoch 0: 6 of 8 samples exactly once, 1 more than once (a)"


def test_a_line_that_was_not_written_to_its_end_is_left_out(tmp_path: Path) -> None:
    write(tmp_path, FIRST, 1, [(0, 0, "1:5:2")])
    path = write(tmp_path, FIRST, 0, [(0, 0, "0:4:2"), (0, 1, "4:8:2")])
    path.write_text(path.read_text()[:-5])
    assert str(verify(tmp_path)) == "epoch 0: 4 of 8 samples exactly once, after 1 of 2 batches"
    assert verify(tmp_path).ok
    path.write_text(path.read_text().replace('"batch": 0', '"batch: 0') + "\n")
    assert "data_ledger/0001-aaaaaaaa/rank-0.jsonl, line 3 cannot be read: " in str(verify(tmp_path))


def test_a_process_without_an_account_is_named(tmp_path: Path) -> None:
    write(tmp_path, FIRST, 0, [(0, 0, "0:4:2"), (0, 1, "4:8:2")])
    assert verify(tmp_path).problems == (
        f"{tmp_path}/data_ledger/{FIRST}/rank-1.jsonl is missing: nobody knows what process 1 took in the run {FIRST}",
    )


def test_a_run_that_went_on_with_other_samples_is_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, FIRST, 0, [(0, 0, [7, 2]), (0, 1, [5, 1])])
    write(tmp_path, FIRST, 1, [(0, 0, [0, 3]), (0, 1, [4, 6])])
    for rank, taken in enumerate(([5, 0], [4, 6])):
        write(tmp_path, SECOND, rank, [(0, 1, taken)], after=FIRST, start=(0, 1))
    assert main(["data-ledger", str(tmp_path)]) == 1
    assert capsys.readouterr().out == "epoch 0: 6 of 8 samples exactly once, 1 never (1), 1 more than once (0), 1 restart\n"
    assert main(["data-ledger", str(tmp_path / "data_ledger"), "--run", "1"]) == 0
    assert capsys.readouterr().out == "epoch 0: 8 of 8 samples exactly once\n"


def test_it_answers_what_took_a_sample_and_what_a_step_took(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, FIRST, 0, [(0, 0, "0:4:2"), (0, 1, [4, 6])])
    write(tmp_path, FIRST, 1, [(0, 0, "1:5:2"), (0, 1, [5, 7])])
    assert main(["data-ledger", str(tmp_path), "--sample", "6"]) == 0
    assert main(["data-ledger", str(tmp_path), "--step", "1"]) == 0
    assert main(["data-ledger", str(tmp_path), "--step", "3"]) == 1
    assert capsys.readouterr().out.splitlines() == [
        "sample 6: epoch 0, batch 1, process 0, step 2: 4, 6",
        "step 1: epoch 0, batch 0, process 0, step 1: 0, 2",
        "step 1: epoch 0, batch 0, process 1, step 1: 1, 3",
        "step 3: in no batch that counts",
    ]


def test_where_there_is_none_it_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data-ledger", str(tmp_path / "nowhere")]) == 2
    assert "there is no data ledger in '" in capsys.readouterr().err
    write(tmp_path, FIRST, 0, [])
    with pytest.raises(MisconfigurationException, match="run='7': there are 0001-aaaaaaaa"):
        read(tmp_path, "7")
    write(tmp_path, FIRST, 1, [])
    assert str(verify(tmp_path)) == "no batch was trained on"
    assert not verify(tmp_path).ok
