"""Bytes of checkpoint files are flipped, files are cut off: each time it is found before the file is read, and the error names the file."""

import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from lx.kernel import default_manager
from lx.kernel.errors import CheckpointCorruptError
from soak import drawn_from, sample

COUNT = sample(10_000, 300)
IN_A_ROW = (1, 1, 1, 2, 64, 512, 4096)


def sizes() -> dict[str, dict[str, Any]]:
    """Contents of some kB, of some hundred kB, and of several of the blocks in which a file is looked at."""
    drawn = torch.Generator().manual_seed(0)
    weights = {f"{layer}.weight": torch.randn(50, 50, generator=drawn) for layer in range(8)}
    moments = {index: {"step": torch.tensor(1.0), "exp_avg": weight * 0.1} for index, weight in enumerate(weights.values())}
    medium = {"state_dict": weights, "optimizer_states": [{"state": moments}], "epoch": 3, "names": ["a", "b"] * 50}
    return {
        "small": {"state_dict": {"weight": torch.randn(3, 4, generator=drawn)}, "epoch": 1},
        "medium": medium,
        "big": {"state_dict": {"weight": torch.randn(700, 700, generator=drawn), "half": torch.ones(1000, 300).bfloat16()}},
    }


def damage(file: Any, size: int, drawn: random.Random) -> tuple[str, Callable[[], None]]:
    """Does something to a file; returns what it was, and how it is undone."""
    if drawn.random() < 0.2:
        cut = drawn.choice((drawn.randrange(size), max(0, size - 1 - drawn.randrange(200))))
        rest = os.pread(file.fileno(), size - cut, cut)
        os.ftruncate(file.fileno(), cut)
        return f"cut to {cut} of {size} bytes", lambda: _put(file, rest, cut)
    length = min(drawn.choice(IN_A_ROW), size)
    start = drawn.randrange(size - length + 1)
    old = os.pread(file.fileno(), length, start)
    if drawn.random() < 0.5:
        place = drawn.randrange(length)
        new = old[:place] + bytes([old[place] ^ 1 << drawn.randrange(8)]) + old[place + 1 :]
    else:
        new = drawn.choice((bytes(length), drawn.randbytes(length)))
    if new == old:
        new = bytes([old[0] ^ 0x80]) + old[1:]
    _put(file, new, start)
    return f"{length} bytes from {start} of {size} were {old[:20].hex()}, and are {new[:20].hex()}", lambda: _put(file, old, start)


def _put(file: Any, content: bytes, start: int) -> None:
    os.pwrite(file.fileno(), content, start)


@pytest.mark.soak
@pytest.mark.parametrize("component", ["torch_io", "safetensors_io"])
def test_every_damage_is_found(component: str, tmp_path: Path, told: Callable[[str], None]) -> None:
    seed = drawn_from()
    drawn, checkpoint_io = random.Random(seed), default_manager().registry.checkpoint_io.build(component)
    files = []
    for name, content in sizes().items():
        checkpoint_io.save_checkpoint(content, tmp_path / f"{name}.ckpt")
        files.append(tmp_path / f"{name}.ckpt")
    missed = []
    for number in range(COUNT):
        path = files[number % len(files)]
        with path.open("r+b", buffering=0) as file:
            what, undo = damage(file, path.stat().st_size, drawn)
            try:
                checkpoint_io.load_checkpoint(path)
                missed.append(f"{path.name}: {what}: it was read")
            except CheckpointCorruptError as error:
                if str(path) not in str(error):
                    missed.append(f"{path.name}: {what}: {error}")
            except Exception as error:
                missed.append(f"{path.name}: {what}: {type(error).__name__}: {error}")
            undo()
    told(f"{component}: {COUNT - len(missed)} of {COUNT} damaged files were found")
    assert not missed, f"LX_SOAK_SEED={seed}: {len(missed)} of {COUNT}\n" + "\n".join(missed[:10])
    for path in files:
        checkpoint_io.load_checkpoint(path)
