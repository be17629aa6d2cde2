"""A cluster for one process: the variables that SLURM sets, and a `scontrol` that writes down what it is asked."""

import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lx import Callback, Trainer

ALONE = {
    "SLURM_JOB_ID": "77",
    "SLURM_NTASKS": "1",
    "SLURM_NTASKS_PER_NODE": "1",
    "SLURM_NNODES": "1",
    "SLURM_PROCID": "0",
    "SLURM_LOCALID": "0",
    "SLURM_NODEID": "0",
    "SLURM_STEP_ID": "0",
}


class Cluster:
    """Where a job runs."""

    def __init__(self, folder: Path, environ: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.environ = environ
        self.bin = folder / "bin"
        self.bin.mkdir()
        self.scontrol(f"echo $* >> {folder}/asked")

    def scontrol(self, script: str) -> None:
        """What `scontrol` does."""
        (self.bin / "scontrol").write_text(f"#!/bin/sh\n{script}\n")
        (self.bin / "scontrol").chmod(0o755)

    @property
    def asked(self) -> list[str]:
        """What `scontrol` was asked."""
        file = self.folder / "asked"
        return file.read_text().splitlines() if file.exists() else []

    @property
    def left(self) -> list[str]:
        """The checkpoints that jobs have left."""
        return sorted(path.name for path in self.folder.glob("hpc_ckpt_*"))

    def trainer(self, *callbacks: Callback, **arguments: Any) -> Trainer:
        """A Trainer of a job, quiet and short."""
        quiet = dict.fromkeys(["logger", "enable_progress_bar", "enable_model_summary", "enable_checkpointing"], False)
        given = {"accelerator": "cpu", "max_epochs": 3, "num_sanity_val_steps": 1, **quiet, **arguments}
        return Trainer(callbacks=list(callbacks), default_root_dir=self.folder, **given)


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    for name, value in ALONE.items():
        monkeypatch.setenv(name, value)
    for name in ("SLURM_JOB_NAME", "SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID", "SLURM_NODELIST", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    made = Cluster(tmp_path, monkeypatch)
    monkeypatch.setenv("PATH", f"{made.bin}:/usr/bin:/bin")
    before = signal.getsignal(signal.SIGUSR1)
    yield made
    assert signal.getsignal(signal.SIGUSR1) is before


class Sends(Callback):
    """Does something in a hook, the first time that so many steps were taken."""

    def __init__(self, hook: str, steps: int, act: Callable[[], Any] = lambda: signal.raise_signal(signal.SIGUSR1)) -> None:
        self.hook, self.steps, self.act = hook, steps, act
        self.done = False
        setattr(self, hook, self._act)

    def _act(self, trainer: Any, *args: Any) -> None:
        if trainer.global_step == self.steps and not self.done:
            self.done = True
            self.act()


@pytest.fixture
def sends() -> type[Sends]:
    return Sends
