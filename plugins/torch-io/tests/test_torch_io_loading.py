import os
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from lx.kernel.errors import CheckpointCorruptError, CheckpointError, CheckpointNotFoundError
from lx_plugin_torch_io import checkpoint_io
from lx_plugin_torch_io.checkpoint_io import TorchCheckpointIO

CONTENT = {"state_dict": {"weight": torch.arange(3000.0)}, "epoch": 1, "names": ["a", "b"]}


class Config:
    value = 3


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "last.ckpt"
    TorchCheckpointIO().save_checkpoint(CONTENT, path)
    return path


def legacy(path: Path, content: Any = CONTENT) -> Path:
    """A file as torch wrote them before 1.6."""
    torch.save(content, path, _use_new_zipfile_serialization=False)
    return path


def test_torch_reads_what_is_written_and_the_other_way_round(path: Path) -> None:
    assert torch.load(path)["state_dict"]["weight"].equal(CONTENT["state_dict"]["weight"])  # type: ignore[index, call-overload]
    torch.save(CONTENT, path)
    assert TorchCheckpointIO().load_checkpoint(path)["epoch"] == 1


def test_equal_content_gives_equal_files(path: Path) -> None:
    TorchCheckpointIO().save_checkpoint(CONTENT, path.with_name("other.ckpt"))
    assert path.read_bytes() == path.with_name("other.ckpt").read_bytes()


def test_map_location(path: Path) -> None:
    assert TorchCheckpointIO().load_checkpoint(path, map_location="meta")["state_dict"]["weight"].device.type == "meta"


def test_a_missing_file_says_what_is_there(path: Path, tmp_path: Path) -> None:
    (tmp_path / "epoch=1").mkdir()
    with pytest.raises(CheckpointNotFoundError, match=r"no checkpoint '.*best\.ckpt'\. The folder '.*' holds 'epoch=1/', 'last\.ckpt'\."):
        TorchCheckpointIO().load_checkpoint(tmp_path / "best.ckpt")
    with pytest.raises(CheckpointNotFoundError, match=r"There is no folder '.*elsewhere' either"):
        TorchCheckpointIO().load_checkpoint(tmp_path / "elsewhere" / "best.ckpt")
    with pytest.raises(CheckpointNotFoundError, match="holds nothing"):
        TorchCheckpointIO().load_checkpoint(tmp_path / "epoch=1" / "best.ckpt")
    for number in range(20):
        (tmp_path / f"x{number}").touch()
    with pytest.raises(CheckpointNotFoundError, match="and 12 more"):
        TorchCheckpointIO().load_checkpoint(tmp_path / "best.ckpt")


def test_a_directory_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(CheckpointCorruptError, match="is a directory"):
        TorchCheckpointIO().load_checkpoint(tmp_path)


def test_damage_anywhere_in_a_file_of_others_is_found_or_harmless(path: Path) -> None:
    torch.save(CONTENT, path)
    good = path.read_bytes()
    found = 0
    for offset in range(0, len(good), 23):
        path.write_bytes(good[:offset] + bytes([good[offset] ^ 0xFF]) + good[offset + 1 :])
        try:
            loaded = TorchCheckpointIO().load_checkpoint(path)
        except CheckpointCorruptError as error:
            found += 1
            assert "last.ckpt" in str(error)  # noqa: PT017 -- most offsets raise, and padding does not matter
        else:
            assert loaded["state_dict"]["weight"].equal(CONTENT["state_dict"]["weight"])  # type: ignore[index, call-overload]
            assert {**loaded, "state_dict": 0} == {**CONTENT, "state_dict": 0}
    assert found > 12_000 / 23


def test_damage_in_a_tensor_is_found_unless_verifying_is_off(path: Path) -> None:
    for write, reason in ((TorchCheckpointIO().save_checkpoint, "digest"), (torch.save, "checksums.*data/0")):
        write(CONTENT, path)
        good = bytearray(path.read_bytes())
        good[good.index(torch.arange(100.0, 200.0).numpy().tobytes()) + 50] ^= 1
        path.write_bytes(good)
        with pytest.raises(CheckpointCorruptError, match=rf"last\.ckpt.*content and its {reason}"):
            TorchCheckpointIO().load_checkpoint(path)
        assert TorchCheckpointIO(verify=False).load_checkpoint(path)["epoch"] == 1


def test_a_file_without_checksums(path: Path) -> None:
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(CONTENT, path)
    finally:
        torch.serialization.set_crc32_options(True)
    assert TorchCheckpointIO().load_checkpoint(path)["epoch"] == 1


def test_another_zip_archive(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("notes.txt", "no checkpoint")
    for io in (TorchCheckpointIO(), TorchCheckpointIO(verify=False)):
        with pytest.raises(CheckpointCorruptError, match=r"without the record data\.pkl"):
            io.load_checkpoint(path)


def test_a_file_of_safetensors_is_refused_with_the_cure(path: Path) -> None:
    header = b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}'
    path.write_bytes(len(header).to_bytes(8, "little") + header + b"\0")
    for io in (TorchCheckpointIO(), TorchCheckpointIO(verify=False)):
        with pytest.raises(
            CheckpointError, match=r"last\.ckpt' is a file of safetensors, .*plugins='safetensors_io'.*`lx ckpt convert`"
        ) as found:
            io.load_checkpoint(path)
        assert not isinstance(found.value, CheckpointCorruptError)


def test_content_that_is_no_dictionary(path: Path) -> None:
    torch.save(torch.ones(2), path)
    with pytest.raises(CheckpointCorruptError, match=r"last\.ckpt' is no checkpoint: it holds a Tensor"):
        TorchCheckpointIO().load_checkpoint(path)


def test_reasons(path: Path) -> None:
    good = path.read_bytes()
    for content, reason in (
        (b"", "it is empty"),
        (b"PK", "it ends after 2 bytes"),
        (b"hello world, this is text", "does not begin as a file of torch.save does"),
        (good[:-30], "its end is missing or damaged"),
        (good[: len(good) // 2], "its end is missing or damaged"),
    ):
        path.write_bytes(content)
        with pytest.raises(CheckpointCorruptError, match=reason):
            TorchCheckpointIO().load_checkpoint(path)


@pytest.mark.parametrize("verify", [True, False])
@pytest.mark.parametrize("write", [torch.save, lambda content, path: legacy(path, content)])
def test_objects_are_refused_with_the_way_to_allow_them(path: Path, write: Any, verify: bool) -> None:
    write({"config": Config(), "epoch": 3}, path)
    io = TorchCheckpointIO(verify)
    for weights_only in (None, True):
        with pytest.raises(CheckpointError, match=r"last\.ckpt.*Config.*weights_only=False.*add_safe_globals") as caught:
            io.load_checkpoint(path, weights_only=weights_only)
        assert not isinstance(caught.value, CheckpointCorruptError)
    assert io.load_checkpoint(path, weights_only=False)["config"].value == 3
    with torch.serialization.safe_globals([Config]):
        assert io.load_checkpoint(path)["epoch"] == 3


def test_a_class_that_is_gone(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save({"config": Config()}, path)
    monkeypatch.delitem(globals(), "Config")
    with pytest.raises(AttributeError, match="Config") as caught:
        TorchCheckpointIO().load_checkpoint(path, weights_only=False)
    assert str(path) in caught.value.__notes__[0]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_an_absent_device_is_no_damage(path: Path) -> None:
    with pytest.raises(RuntimeError, match="CUDA") as caught:
        TorchCheckpointIO().load_checkpoint(path, map_location="cuda")
    assert not isinstance(caught.value, CheckpointError)


@pytest.mark.parametrize("verify", [True, False])
def test_files_of_an_old_torch(path: Path, verify: bool) -> None:
    io = TorchCheckpointIO(verify)
    good = legacy(path).read_bytes()
    assert io.load_checkpoint(path)["state_dict"]["weight"].equal(CONTENT["state_dict"]["weight"])  # type: ignore[index, call-overload]
    for size in [*range(40), *range(40, 700, 11), 1000, len(good) // 2, len(good) - 1]:
        os.truncate(path, size)
        with pytest.raises(CheckpointCorruptError, match=r"last\.ckpt"):
            io.load_checkpoint(path)
        path.write_bytes(good)


def test_a_big_file_is_mapped(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    load = torch.load
    monkeypatch.setattr(torch, "load", lambda *args, **kwargs: asked.append(kwargs["mmap"]) or load(*args, **kwargs))  # type: ignore[func-returns-value]
    for mapped_from in (path.stat().st_size + 1, path.stat().st_size):
        monkeypatch.setattr(checkpoint_io, "MAPPED_FROM", mapped_from)
        loaded = TorchCheckpointIO().load_checkpoint(path)
        assert loaded["state_dict"]["weight"].equal(CONTENT["state_dict"]["weight"])  # type: ignore[index, call-overload]
    legacy(path)  # which cannot be
    monkeypatch.setattr(checkpoint_io, "MAPPED_FROM", 1)
    assert TorchCheckpointIO().load_checkpoint(path)["epoch"] == 1
    assert asked == [False, True, False]


def test_a_mapped_checkpoint_outlives_its_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint_io, "MAPPED_FROM", 1)
    loaded = TorchCheckpointIO().load_checkpoint(path)
    TorchCheckpointIO().save_checkpoint({"epoch": 2}, path)
    TorchCheckpointIO().remove_checkpoint(path)
    loaded["state_dict"]["weight"].mul_(2)
    assert loaded["state_dict"]["weight"].sum().item() == torch.arange(3000.0).mul(2).sum().item()


def test_a_mapped_file_is_verified_too(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint_io, "MAPPED_FROM", 1)
    good = path.read_bytes()
    for content in (good[:-1], good[:6000] + bytes([good[6000] ^ 1]) + good[6001:]):
        path.write_bytes(content)
        with pytest.raises(CheckpointCorruptError, match=r"last\.ckpt"):
            TorchCheckpointIO().load_checkpoint(path)


def test_errors_of_the_file_system_are_not_taken_for_damage(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: Any, **kwargs: Any) -> Any:
        raise OSError(5, "Input/output error")

    torch.save(CONTENT, path)
    monkeypatch.setattr(zipfile.ZipFile, "open", fail)
    with pytest.raises(OSError, match="Input/output") as caught:
        TorchCheckpointIO().load_checkpoint(path)
    assert not isinstance(caught.value, CheckpointError)
