"""How long training waits for a checkpoint that is written in the background, compared with one that is written at once."""

import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import pytest
import torch

from lx_plugin_async_io.checkpoint_io import AsyncCheckpointIO
from lx_plugin_torch_io.checkpoint_io import TorchCheckpointIO
from soak import SOAKING, sample

MEGABYTES = sample(500, 100)
ROUNDS = sample(9, 3)
SHARE = 0.15
MOST = SHARE if SOAKING else 0.5
"""What is promised is asked for where nothing else runs; elsewhere it would fail for the sake of a busy neighbour."""


@pytest.mark.soak
def test_training_waits_for_a_small_part_of_the_time(tmp_path: Path, told: Callable[[str], None]) -> None:
    tensors = {f"layer{number}.weight": torch.randn(MEGABYTES * 1_000_000 // 4 // 50) for number in range(50)}
    content = {"state_dict": tensors, "epoch": 1}
    at_once, background = TorchCheckpointIO(), AsyncCheckpointIO()

    def seconds(io: TorchCheckpointIO | AsyncCheckpointIO) -> float:
        began = time.perf_counter()
        io.save_checkpoint(content, tmp_path / "a.ckpt")
        taken = time.perf_counter() - began
        io.list_folder(tmp_path)  # waits until it is written, so that turns do not share the disk
        return taken

    first = seconds(AsyncCheckpointIO()) / median(seconds(at_once) for _ in range(3))
    seconds(background)
    share = median(seconds(background) / seconds(at_once) for _ in range(ROUNDS))  # a machine that is slow is so for both
    told(
        f"async_io: training waits {share:.1%} of the time of a synchronous save of {MEGABYTES} MB (the median of {ROUNDS} pairs),"
        f" and {first:.1%} where no memory was ready for the copy."
    )
    assert share <= MOST
