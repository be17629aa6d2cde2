"""Processes are killed while they save: the newest checkpoint can be read, and is not older than the last one that was there."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import saving
from soak import drawn_from, sample


@pytest.mark.soak
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
@pytest.mark.parametrize("component", ["torch_io", "safetensors_io"])
def test_no_kill_leaves_an_unusable_newest_checkpoint(component: str, tmp_path: Path, told: Callable[[str], None]) -> None:
    kills, seed = sample(1000, 20), drawn_from()
    command = [sys.executable, saving.__file__, str(tmp_path), component, str(kills), str(seed)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    told(
        f"{component}: after {found['kills'] - len(found['wrong'])} of {found['kills']} kills while saving the newest checkpoint was good;"
        f" {found['while_writing']} of them fell on a file that was being written"
    )
    assert found["kills"] == kills
    assert not found["wrong"], "\n".join(found["wrong"][:10])
    assert found["while_writing"] > kills // 10, "the kills fall beside what they are to meet"
