"""A program that has forks of itself save checkpoints without a pause, kills each at a random moment, and looks at what is left.

    python saving.py FOLDER COMPONENT KILLS SEED

Prints, as JSON, how many kills there were, how many of them while a file was being written, and what was wrong.
"""

import json
import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any

import torch

from lx.kernel import default_manager
from lx_plugin_checkpoint import files

SIZE = 200_000
LAST = "last.ckpt"


def save_for_ever(checkpoint_io: Any, folder: Path, step: int, linked: bool, told: int) -> None:
    """Saves as a run does that keeps the newest one: it replaces `last.ckpt`, or is linked to by it before the one before is removed."""
    while True:
        before, step = step, step + 1
        path = folder / (f"step={step}.ckpt" if linked else LAST)
        checkpoint_io.save_checkpoint(content(step), path)
        os.write(told, step.to_bytes(8, "little"))  # from here on it is there, whatever happens
        if linked:
            files.link(str(folder / LAST), str(path))
            checkpoint_io.remove_checkpoint(folder / f"step={before}.ckpt")


def content(step: int) -> dict[str, Any]:
    """A checkpoint in which every number tells the step."""
    weight = torch.full((SIZE,), float(step))
    return {"global_step": step, "state_dict": {"weight": weight}, "optimizer_states": [{"exp_avg": weight + 1, "step": step}]}


def kill_one(checkpoint_io: Any, folder: Path, step: int, linked: bool, seconds: float) -> int:
    """Starts a fork that saves, kills it, and returns the last step that it said it had saved, `step` if none."""
    heard, told = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            os.write(told, step.to_bytes(8, "little"))
            save_for_ever(checkpoint_io, folder, step, linked, told)
        finally:
            os._exit(1)
    os.close(told)
    said = os.read(heard, 8)
    time.sleep(seconds)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    while more := os.read(heard, 8 * 1024):
        said = more
    os.close(heard)
    return int.from_bytes(said[-8:], "little")


def newest(checkpoint_io: Any, folder: Path, said: int) -> int:
    """The step of the newest checkpoint; raises for one that cannot be read, is not all of one step, or is older than what was said."""
    named = sorted(folder.glob("step=*.ckpt"), key=lambda path: int(path.stem.partition("=")[2]))
    candidates = [named[-1]] if named else []
    if (folder / LAST).is_symlink() or (folder / LAST).exists():
        candidates.append(folder / LAST)
    assert candidates, f"nothing is left, and step {said} had been saved"
    steps = []
    for path in candidates:
        found = checkpoint_io.load_checkpoint(path)
        step = found["global_step"]
        assert torch.equal(found["state_dict"]["weight"], torch.full((SIZE,), float(step))), f"{path.name} is a mixture"
        assert found["optimizer_states"][0]["step"] == step, f"{path.name} is a mixture"
        steps.append(step)
    assert max(steps) >= said, f"the newest checkpoint is of step {max(steps)}, and step {said} had been saved"
    return int(max(steps))


def main(folder: Path, component: str, kills: int, seed: int) -> dict[str, Any]:
    """Kills as often as it is told, half of the time with checkpoints that replace one another, half with a link to the newest."""
    drawn, checkpoint_io = random.Random(seed), default_manager().registry.checkpoint_io.build(component)
    wrong, while_writing = [], 0
    for linked in (False, True):
        place, step = folder / f"linked-{linked}", 0
        start = time.monotonic()
        checkpoint_io.save_checkpoint(content(0), place / ("step=0.ckpt" if linked else LAST))
        takes = time.monotonic() - start
        for number in range(kills // 2):
            said = kill_one(checkpoint_io, place, step, linked, drawn.uniform(0, 3 * takes))
            left = list(place.glob(".*.tmp"))
            while_writing += bool(left)
            try:
                assert len(left) <= 1, f"{len(left)} files of killed processes are left"
                step = newest(checkpoint_io, place, said)
            except Exception as error:
                wrong.append(f"linked={linked}, kill {number}: {type(error).__name__}: {error}")
                step = said
    return {"kills": kills // 2 * 2, "while_writing": while_writing, "wrong": wrong}


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))))
