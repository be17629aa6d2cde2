"""Folders of torch.distributed.checkpoint as several processes write them, read without torch's reader, and compared with it."""

import io
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.distributed.checkpoint import metadata
from torch.distributed.checkpoint.filesystem import _StorageInfo
from torch.distributed.checkpoint.format_utils import dcp_to_torch_save

from lx.checkpoints import distributed
from lx.kernel.errors import CheckpointCorruptError

WHOLE = torch.arange(12.0).reshape(4, 3)
QUARTERS = (((0, 0), (2, 2)), ((0, 2), (2, 1)), ((2, 0), (2, 2)), ((2, 2), (2, 1)))


def no_meta(path: Path) -> dict[str, Any]:
    raise AssertionError(f"{path} is not there")


@pytest.fixture
def sharded(tmp_path: Path) -> Path:
    """A tensor in four parts, in the files of two processes, and two numbers beside it."""
    index = metadata.Metadata({}, planner_data={"model.w": ("model", "w"), "group.betas": ("group", "betas")}, storage_data={})
    chunks = [metadata.ChunkStorageMetadata(torch.Size(offsets), torch.Size(sizes)) for offsets, sizes in QUARTERS]
    index.state_dict_metadata["model.w"] = metadata.TensorStorageMetadata(metadata.TensorProperties(torch.float32), WHOLE.shape, chunks)
    index.state_dict_metadata["group.betas"] = metadata.BytesStorageMetadata()
    files: dict[str, bytes] = {"__0_0.distcp": b"", "__1_0.distcp": b""}

    def put(value: Any, file: str, **key: Any) -> None:
        buffer = io.BytesIO()
        torch.save(value, buffer)
        at = metadata.MetadataIndex(**key)
        index.storage_data[at] = _StorageInfo(file, len(files[file]), len(buffer.getvalue()))
        files[file] += buffer.getvalue()

    for number, (offsets, sizes) in enumerate(QUARTERS):
        rows, columns = (slice(offset, offset + size) for offset, size in zip(offsets, sizes, strict=True))
        put(WHOLE[rows, columns].clone(), f"__{number // 2}_0.distcp", fqn="model.w", offset=offsets)
    put((0.9, 0.99), "__0_0.distcp", fqn="group.betas")
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / ".metadata").write_bytes(pickle.dumps(index))
    return tmp_path


def test_the_parts_of_several_processes_are_joined_as_torch_does_it(sharded: Path, tmp_path: Path) -> None:
    content = distributed.load(sharded, no_meta)
    dcp_to_torch_save(sharded, tmp_path / "joined")
    wanted = torch.load(tmp_path / "joined")
    assert torch.equal(content["model"]["w"], WHOLE)
    assert torch.equal(wanted["model"]["w"], WHOLE)
    assert content["group"] == wanted["group"] == {"betas": (0.9, 0.99)}
    outlined = distributed.outline(sharded, no_meta)
    assert (outlined["model"]["w"].shape, outlined["model"]["w"].is_meta) == (WHOLE.shape, True)


@pytest.mark.parametrize("damage", ["a lost part", "a lost file", "a file elsewhere", "half an index", "no index", "another class"])
def test_what_is_wrong_is_named(damage: str, sharded: Path) -> None:
    index = pickle.loads((sharded / ".metadata").read_bytes())
    if damage == "a lost part":
        index.state_dict_metadata["model.w"].chunks.pop()
    elif damage == "a lost file":
        (sharded / "__1_0.distcp").unlink()
    elif damage == "a file elsewhere":
        for at, where in index.storage_data.items():
            index.storage_data[at] = _StorageInfo(f"../{where.relative_path}", where.offset, where.length)
    elif damage == "another class":
        index.planner_data["any"] = Path.cwd
    content = {"half an index": pickle.dumps(index)[:-50], "no index": b""}.get(damage, pickle.dumps(index))
    (sharded / ".metadata").write_bytes(content)
    with pytest.raises(CheckpointCorruptError) as caught:
        distributed.load(sharded, no_meta)
    assert str(sharded) in str(caught.value)
    said = {"a lost part": "do not make the whole", "a lost file": "__1_0.distcp is missing", "a file elsewhere": "a file elsewhere"}
    assert said.get(damage, "its index is damaged") in str(caught.value)
