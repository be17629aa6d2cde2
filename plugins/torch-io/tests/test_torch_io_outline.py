"""What is asked of a file that somebody found: whether it is of `torch.save`, and what is in it, its tensors unread."""

from pathlib import Path

import pytest
import torch

from lx.kernel.errors import CheckpointCorruptError, CheckpointError
from lx_plugin_torch_io.checkpoint_io import TorchCheckpointIO


@pytest.mark.parametrize("archive", [True, False])
def test_files_of_torch_are_recognised_and_outlined(archive: bool, tmp_path: Path) -> None:
    path = tmp_path / "a.ckpt"
    torch.save({"epoch": 3, "weight": torch.arange(4.0)}, path, _use_new_zipfile_serialization=archive)
    assert TorchCheckpointIO().recognises(path)
    content = TorchCheckpointIO().outline(path)
    assert (content["epoch"], content["weight"].tolist()) == (3, [0, 1, 2, 3])


def test_the_outline_does_not_look_at_the_bytes_of_tensors(tmp_path: Path) -> None:
    path = tmp_path / "a.ckpt"
    torch.save({"weight": torch.full((1000,), 7.0)}, path)
    content = path.read_bytes()
    path.write_bytes(content.replace(torch.tensor(7.0).numpy().tobytes() * 1000, bytes(4000)))
    assert TorchCheckpointIO().outline(path)["weight"].shape == (1000,)
    with pytest.raises(CheckpointCorruptError, match="checksums differ"):
        TorchCheckpointIO().load_checkpoint(path)


def test_the_outline_runs_nothing_and_says_what_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "a.ckpt"
    torch.save({"any": Exception("any")}, path)
    with pytest.raises(CheckpointError, match="Exception"):
        TorchCheckpointIO().outline(path)
    torch.save([1, 2], path)
    with pytest.raises(CheckpointCorruptError, match="holds a list"):
        TorchCheckpointIO().outline(path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CheckpointCorruptError, match="its end is missing"):
        TorchCheckpointIO().outline(path)
