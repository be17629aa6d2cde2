"""Whatever happens to a file of `torch_io`, in any of its bytes, is found before it is read."""

import io
import mmap
import os
import random
import subprocess
import sys
import zipfile
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
import torch

from lx.files.digest import BLOCK, LANES, Digest
from lx.kernel.errors import CheckpointCorruptError
from lx_plugin_torch_io import seal
from lx_plugin_torch_io.checkpoint_io import TorchCheckpointIO
from lx_plugin_torch_io.inspection import check_whole

CONTENT = {"state_dict": {"weight": torch.arange(5.0), "bias": torch.ones(2)}, "epoch": 1}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "last.ckpt"
    TorchCheckpointIO().save_checkpoint(CONTENT, path)
    return path


@pytest.fixture
def big(tmp_path: Path) -> Path:
    """A file of several blocks, and a part of one."""
    path = tmp_path / "big.ckpt"
    TorchCheckpointIO().save_checkpoint({"weight": torch.arange(700_000.0)}, path)
    return path


def assert_found(path: Path, checkpoint_io: TorchCheckpointIO | None = None) -> None:
    with pytest.raises(CheckpointCorruptError, match=path.name):
        (checkpoint_io or TorchCheckpointIO()).load_checkpoint(path)


def put(path: Path, offset: int, byte: int) -> None:
    """Changes a byte in place."""
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(bytes([byte]))


def test_any_changed_byte_is_found(path: Path) -> None:
    good, drawn = path.read_bytes(), random.Random(0)
    for offset in range(len(good)):
        put(path, offset, good[offset] ^ 1 << drawn.randrange(8))
        assert_found(path)
        put(path, offset, good[offset])
    assert TorchCheckpointIO().load_checkpoint(path)["epoch"] == 1


@pytest.mark.parametrize("verify", [True, False])
def test_any_truncation_is_found(path: Path, verify: bool) -> None:
    for size in reversed(range(path.stat().st_size)):
        os.truncate(path, size)
        assert_found(path, TorchCheckpointIO(verify))


def test_every_bit_of_the_digest_counts(path: Path) -> None:
    good = path.read_bytes()
    for offset in range(len(good) - seal.SEAL - seal.END, len(good)):
        for bit in range(8):
            put(path, offset, good[offset] ^ 1 << bit)
            assert_found(path)
        put(path, offset, good[offset])


def test_what_is_added_put_elsewhere_or_lost_is_found(big: Path) -> None:
    good = big.read_bytes()
    page = 4096
    first, second = good[10 * page : 11 * page], good[40 * page : 41 * page]
    for content in (
        good + b"\0",
        good + good,
        good[:page] + bytes(page) + good[2 * page :],
        good[: 10 * page] + second + good[11 * page : 40 * page] + first + good[41 * page :],
        good[:page] + good[page + 8 :],
        good[:BLOCK] + good[2 * BLOCK :],
    ):
        big.write_bytes(content)
        assert_found(big)


def test_both_ways_of_reading_give_one_digest(big: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_whole(big)
    for name, change in (("POPULATE_READ", 12345), ("sys.platform", "win32")):  # an advice that no system knows; a system without any
        with monkeypatch.context() as patch:
            patch.setattr(f"lx_plugin_torch_io.seal.{name}", change)
            check_whole(big)
            byte = big.read_bytes()[-1000]
            put(big, -1000 + big.stat().st_size, byte ^ 1)
            assert_found(big)
            put(big, -1000 + big.stat().st_size, byte)


@pytest.mark.skipif(sys.platform != "linux", reason="needs the system call that names what cannot be read")
def test_a_disk_that_fails_ends_no_process(big: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mapped page that cannot be read ends a process, so each is asked for first; what cannot be had is left to plain reading."""

    class Failing(mmap.mmap):
        def madvise(self, *arguments: Any) -> None:
            if arguments[1]:  # all but the first block
                raise OSError(14, "Bad address")

    monkeypatch.setattr(mmap, "mmap", Failing)
    check_whole(big)


def test_a_file_that_shrinks_while_it_is_read(big: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add = seal._add_mapped  # type: ignore[attr-defined]

    def shrinking(digest: Digest, descriptor: int, end: int) -> int:
        with big.open("r+b") as file:
            file.truncate(BLOCK)
        return int(add(digest, descriptor, end))

    monkeypatch.setattr(seal, "_add_mapped", shrinking)
    assert_found(big)


def test_an_archive_with_a_comment_of_another_is_read(path: Path) -> None:
    torch.save(CONTENT, path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.comment = b"from a colleague"
    assert TorchCheckpointIO().load_checkpoint(path)["epoch"] == 1
    with path.open("ab") as file:
        file.write(b"x")
    with pytest.raises(CheckpointCorruptError, match="its end is missing or damaged"):
        TorchCheckpointIO().load_checkpoint(path)


def test_other_programs_read_the_file(path: Path) -> None:
    assert torch.load(path, weights_only=True)["epoch"] == 1
    assert torch.load(path, mmap=True)["state_dict"]["weight"].equal(CONTENT["state_dict"]["weight"])  # type: ignore[index]
    assert torch.load(io.BytesIO(path.read_bytes()))["epoch"] == 1
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        assert archive.comment.startswith(b"lx-digest-1:")


@pytest.mark.parametrize("size", [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 5])
def test_a_digest_does_not_depend_on_the_pieces(size: int) -> None:
    content = random.Random(size).randbytes(size)
    whole = Digest()
    whole.update(content)
    for make in (bytes, bytearray):  # what may be written to is added up where it is
        pieces, rest = Digest(), make(content)
        for length in (1, 7, 1000, BLOCK, 2 * BLOCK + 3, size):
            pieces.update(rest[:length])
            rest = rest[length:]
        assert pieces.value() == whole.value()
    longer = Digest()
    longer.update(content + b"\0")
    assert longer.value() != whole.value()


def test_blocks_that_trade_places_change_a_digest() -> None:
    content = bytearray(random.Random(0).randbytes(BLOCK))
    seen = set()
    for unit in (8, 512, 4096, 65536, LANES * 8 + 8):
        for distance in (1, 2, 3, 5, 8):
            swapped = bytearray(content)
            here, there = slice(0, unit), slice(unit * distance, unit * (distance + 1))
            swapped[here], swapped[there] = content[there], content[here]
            digest = Digest()
            digest.update(swapped)
            seen.add(digest.value())
    assert len(seen) == 25


def test_verification_costs_a_quarter_of_the_load_at_most(tmp_path: Path) -> None:
    # In a process of its own, in which memory that was freed is not used again: a program that resumes loads once, to memory that is new.
    code = """
        import sys, time, torch
        from pathlib import Path
        from lx_plugin_torch_io.checkpoint_io import TorchCheckpointIO
        from lx_plugin_torch_io.inspection import check_whole

        torch.set_num_threads(1)
        weights = {f"{layer}.weight": torch.rand(1024, 1024) for layer in range(6)}
        moments = {layer: {"exp_avg": weight * 0.1, "exp_avg_sq": weight**2} for layer, weight in enumerate(weights.values())}
        checkpoint_io = TorchCheckpointIO(verify=False)
        checkpoint_io.save_checkpoint({"state_dict": weights, "optimizer_states": [{"state": moments}]}, sys.argv[1])

        def load():
            checkpoint = checkpoint_io.load_checkpoint(sys.argv[1])
            return {name: weight.clone() for name, weight in checkpoint["state_dict"].items()}

        def seconds(call):
            start = time.process_time()
            call()
            return time.process_time() - start

        verifying, loading = [], []
        while len(loading) < 5 or (min(verifying) / min(loading) >= 0.25 and len(loading) < 40):
            verifying.append(seconds(lambda: check_whole(Path(sys.argv[1]))))
            loading.append(seconds(load))
        print(min(verifying) / min(loading))
    """
    settings = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"}
    command = [sys.executable, "-c", dedent(code), tmp_path / "a.ckpt"]
    done = subprocess.run(command, env=settings, capture_output=True, text=True, check=True)
    assert float(done.stdout) < 0.25, done.stdout
