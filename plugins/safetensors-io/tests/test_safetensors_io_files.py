"""What the files are: safetensors that other programs read, whole or found out."""

import os
import random
import stat
from pathlib import Path
from typing import Any

import pytest
import torch

from lx.kernel.errors import (
    CheckpointCorruptError,
    CheckpointDirectoryError,
    CheckpointError,
    CheckpointNotFoundError,
    MisconfigurationException,
)
from lx_plugin_safetensors_io import checkpoint_io
from lx_plugin_safetensors_io.checkpoint_io import SafetensorsCheckpointIO

CONTENT = {
    "epoch": 3,
    "state_dict": {"weight": torch.arange(20.0).view(4, 5), "bias": torch.arange(3.0, dtype=torch.float64), "steps": torch.tensor(7)},
    "optimizer_states": [{"state": {0: {"exp_avg": torch.ones(3, dtype=torch.bfloat16), "mask": torch.tensor([True])}}}],
}
TORCH = "Trainer\\(plugins='torch_io'\\)"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "last.ckpt"
    SafetensorsCheckpointIO().save_checkpoint(CONTENT, path)
    return path


def load(path: Path, **arguments: Any) -> Any:
    return SafetensorsCheckpointIO(**arguments).load_checkpoint(path)


def test_the_library_reads_what_is_written(path: Path) -> None:
    library = pytest.importorskip("safetensors", reason="needs safetensors")
    with library.safe_open(path, framework="pt") as file:
        assert file.metadata()["format"] == "pt"
        found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 -- it is no dictionary
    wanted = dict(CONTENT["state_dict"])  # type: ignore[call-overload]
    wanted |= {f"optimizer_states.0.state.0.{name}": tensor for name, tensor in CONTENT["optimizer_states"][0]["state"][0].items()}  # type: ignore[index]
    assert found.keys() == wanted.keys()
    for name, tensor in wanted.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor)


def test_weights_that_the_library_wrote_are_read(path: Path) -> None:
    library = pytest.importorskip("safetensors.torch", reason="needs safetensors")
    dtypes = [torch.float32, torch.bool, torch.float8_e4m3fn, torch.bfloat16, torch.int64, torch.complex64]
    weights = {f"layer.{dtype}": torch.ones(2, 3).to(dtype) for dtype in dtypes} | {"$tensor": torch.zeros(()), "empty": torch.ones(0, 3)}
    for metadata in ({"format": "pt"}, None):
        library.save_file(weights, path, metadata)
        assert SafetensorsCheckpointIO().recognises(path)
        found, outline = load(path), SafetensorsCheckpointIO().outline(path)
        assert found.keys() == weights.keys() == outline.keys()
        for name, tensor in weights.items():
            assert (found[name].dtype, found[name].tolist()) == (tensor.dtype, tensor.tolist())
            assert (outline[name].is_meta, outline[name].shape) == (True, tensor.shape)
        os.truncate(path, path.stat().st_size - 1)
        with pytest.raises(CheckpointCorruptError, match=r"last\.ckpt"):
            load(path)
    library.save_file({}, path)
    assert load(path) == {}


@pytest.mark.parametrize("old", [True, False])
def test_a_file_of_torch_is_refused_with_the_cure(old: bool, path: Path) -> None:
    torch.save(CONTENT, path, _use_new_zipfile_serialization=not old)
    for read in (SafetensorsCheckpointIO().load_checkpoint, SafetensorsCheckpointIO().outline):
        with pytest.raises(CheckpointError, match=rf"last\.ckpt' was written by torch\.save.*`lx ckpt convert`.*{TORCH}") as caught:
            read(path)
        assert not isinstance(caught.value, CheckpointCorruptError)
    assert not SafetensorsCheckpointIO().recognises(path)


def test_equal_content_gives_equal_files(path: Path) -> None:
    SafetensorsCheckpointIO().save_checkpoint(load(path), path.with_name("other.ckpt"))
    assert path.read_bytes() == path.with_name("other.ckpt").read_bytes()


@pytest.mark.parametrize("mapped", [True, False])
def test_every_flipped_byte_is_found(mapped: bool, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint_io, "MAPPED_FROM", 0 if mapped else 1 << 30)
    good, draw = path.read_bytes(), random.Random(0)
    for offset in range(0, len(good), 7 if mapped else 1):
        with path.open("r+b") as file:
            file.seek(offset)
            file.write(bytes([good[offset] ^ draw.choice([1, 0x20, 0x80, draw.randrange(1, 256)])]))
        with pytest.raises(CheckpointCorruptError, match=r"last\.ckpt"):
            load(path)
        with path.open("r+b") as file:
            file.seek(offset)
            file.write(good[offset : offset + 1])
    assert load(path)["epoch"] == 3


@pytest.mark.parametrize("verify", [True, False])
def test_every_truncation_and_what_follows_the_end_is_found(verify: bool, path: Path) -> None:
    good = path.read_bytes()
    for size in range(0, len(good), 1 if verify else 7):
        path.write_bytes(good[:size])
        with pytest.raises(CheckpointCorruptError, match=r"last\.ckpt"):
            load(path, verify=verify)
    path.write_bytes(good + b"\0")
    with pytest.raises(CheckpointCorruptError, match=rf"it has {len(good) + 1} bytes, and its header says {len(good)}"):
        load(path, verify=verify)


def test_without_verifying_only_tensors_go_unchecked(path: Path) -> None:
    good = path.read_bytes()
    path.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    assert load(path, verify=False)["epoch"] == 3
    path.write_bytes(good.replace(b"epoch", b"epocs"))
    with pytest.raises(CheckpointCorruptError, match="its header and its checksum differ"):
        load(path, verify=False)


def test_headers_that_somebody_made_up(path: Path) -> None:
    from lx_plugin_safetensors_io import file as files

    good = path.read_bytes()
    start = 8 + int.from_bytes(good[:8], "little")
    for before, after in (
        (b'"F32"', b'"F99"'),
        (b'"F32"', b'"F64"'),
        (b"[4,5]", b"[4,9]"),
        (b"[4,5]", b"[4,{]"),
        (b"[4,5]", b"4    "),
        (b'"lx.structure"', b'"lx.structura"'),
        (b'"data_offsets"', b'"data_offsetz"'),
        (b"[32,112]", b"[31,112]"),
        (b"[32,112]", b"[40,112]"),
        (b"$tensor", b"$system"),
        (b"$dict", b"$Dict"),
        (b'\\"epoch\\":3', b'\\"epoch\\"::'),
    ):
        header = good[8:start].replace(before, after)
        assert before in good[8:start]
        assert len(header) == start - 8
        place = len(files.BEGINNING)
        digits = files.checksum(header).encode()
        path.write_bytes(good[:8] + header[:place] + digits + header[place + len(digits) :] + good[start:])
        with pytest.raises(CheckpointError, match=r"last\.ckpt"):
            load(path)


def test_what_is_not_there_or_no_file(path: Path) -> None:
    with pytest.raises(CheckpointNotFoundError, match=r"there is no checkpoint '.*best\.ckpt'"):
        load(path.with_name("best.ckpt"))
    with pytest.raises(CheckpointDirectoryError, match="is a directory"):
        load(path.parent)
    io = SafetensorsCheckpointIO()
    for call in (lambda: load("s3://bucket/a.ckpt"), lambda: io.save_checkpoint({}, "s3://a"), lambda: io.remove_checkpoint("s3://a")):  # type: ignore[arg-type]
        with pytest.raises(MisconfigurationException, match=f"is a URL, .* {TORCH}"):
            call()


def test_content_that_is_no_dictionary(path: Path) -> None:
    SafetensorsCheckpointIO().save_checkpoint([1], path)  # type: ignore[arg-type]
    with pytest.raises(CheckpointCorruptError, match=r"last\.ckpt' is no checkpoint: it holds a list"):
        load(path)


@pytest.mark.parametrize(
    "location", ["meta", torch.device("meta"), {"cpu": "meta"}, lambda storage, _: torch.UntypedStorage(storage.nbytes(), device="meta")]
)
def test_map_location_is_that_of_torch(location: Any, path: Path) -> None:
    found = SafetensorsCheckpointIO().load_checkpoint(path, map_location=location)
    assert found["state_dict"]["weight"].device.type == "meta"
    assert found["state_dict"]["weight"].shape == (4, 5)


def test_a_map_location_that_gives_none_changes_nothing(path: Path) -> None:
    asked: list[Any] = []
    found = SafetensorsCheckpointIO().load_checkpoint(path, map_location=lambda storage, location: asked.append(location))
    assert torch.equal(found["state_dict"]["weight"], CONTENT["state_dict"]["weight"])  # type: ignore[index]
    assert asked == ["cpu"] * 5


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_an_absent_device_is_no_damage(path: Path) -> None:
    with pytest.raises(RuntimeError, match="CUDA") as caught:
        SafetensorsCheckpointIO().load_checkpoint(path, map_location="cuda")
    assert not isinstance(caught.value, CheckpointError)


def test_a_big_file_is_mapped_and_outlives_its_name(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint_io, "MAPPED_FROM", 1)
    before = path.read_bytes()
    found = load(path)
    found["state_dict"]["weight"].mul_(2)
    assert path.read_bytes() == before
    SafetensorsCheckpointIO().save_checkpoint({"epoch": 4}, path)
    SafetensorsCheckpointIO().remove_checkpoint(path)
    assert torch.equal(found["state_dict"]["weight"], CONTENT["state_dict"]["weight"] * 2)  # type: ignore[index]
    assert found["state_dict"]["bias"].untyped_storage().nbytes() == 24  # so that saving it alone does not write the whole file


def test_the_outline_reads_no_tensors(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)
    with pytest.raises(CheckpointCorruptError, match=r"last\.ckpt"):
        SafetensorsCheckpointIO().outline(path)
    SafetensorsCheckpointIO().save_checkpoint(CONTENT, path)
    content = path.read_bytes()
    path.write_bytes(content[:-1] + b"!")
    found = SafetensorsCheckpointIO().outline(path)
    assert found["epoch"] == 3
    assert found["state_dict"]["weight"].is_meta
    assert SafetensorsCheckpointIO().recognises(path)


def test_big_tensors_are_checked_in_pieces(path: Path) -> None:
    content = {"first": torch.arange(3_000_000), "second": torch.arange(1_000_000.0).view(1000, 1000).t(), "third": torch.ones(3)}
    SafetensorsCheckpointIO().save_checkpoint(content, path)
    found = load(path)
    assert all(torch.equal(found[name], tensor) for name, tensor in content.items())
    with path.open("r+b") as file:
        file.seek(20_000_000)
        file.write(b"!")
    with pytest.raises(CheckpointCorruptError, match="the bytes of its tensors and their checksum differ"):
        load(path)


@pytest.mark.parametrize("options", [{}, {"key": 1}, False])
def test_storage_options_are_refused(path: Path, options: Any) -> None:
    with pytest.raises(TypeError, match=r"storage_options=.*leave it out"):
        SafetensorsCheckpointIO().save_checkpoint(CONTENT, path, storage_options=options)


def test_a_failing_disk_leaves_the_old_one(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space left") as caught:
        SafetensorsCheckpointIO().save_checkpoint({"epoch": 4}, path)
    assert "was not written; what was there before is untouched" in caught.value.__notes__[0]
    assert [entry.name for entry in path.parent.iterdir()] == ["last.ckpt"]
    assert load(path)["epoch"] == 3


def test_content_is_on_the_disk_before_it_replaces_the_old(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []
    fsync, replace = os.fsync, os.replace

    def synced(descriptor: int) -> None:
        events.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else f"file of {os.fstat(descriptor).st_size}")
        fsync(descriptor)

    def replaced(source: Any, target: Any) -> None:
        events.append("replace")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", replaced)
    SafetensorsCheckpointIO().save_checkpoint(CONTENT, path)
    assert events == [f"file of {path.stat().st_size}", "replace", "folder"]
