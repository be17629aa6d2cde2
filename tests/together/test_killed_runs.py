"""Processes that are killed: what they leave behind is whole, and can be gone on from."""

import signal
import subprocess
import sys
from pathlib import Path
from textwrap import dedent, indent
from typing import Any

import pytest
import torch

from lx import Trainer
from lx.callbacks import ModelCheckpoint
from lx.testing import TinyDataModule, TinyModule

PROGRAM = """
import os, signal, sys
from pathlib import Path
from lx import Callback, Trainer
from lx.callbacks import ModelCheckpoint
from lx.testing import TinyDataModule, TinyModule

folder = Path(sys.argv[1])

{code}

keeps = ModelCheckpoint(folder, "one", save_last=True)
quiet = dict.fromkeys(("logger", "enable_progress_bar", "enable_model_summary"), False)
trainer = Trainer(accelerator="cpu", max_epochs=3, callbacks=[Own(), keeps], default_root_dir=folder, num_sanity_val_steps=0, **quiet)
trainer.{entry}
"""

FIT = "fit(TinyModule(), datamodule=TinyDataModule())"


def run(folder: Path, code: str, entry: str = FIT) -> "subprocess.CompletedProcess[str]":
    """Runs a program with a callback class `Own`."""
    program = PROGRAM.format(code=dedent(code), entry=entry)
    return subprocess.run([sys.executable, "-c", program, str(folder)], capture_output=True, text=True, check=False)


def weights(trainer: Trainer) -> list[Any]:
    return [parameter.tolist() for parameter in trainer.lightning_module.parameters()]


@pytest.fixture
def whole(bare_trainer: Any) -> list[Any]:
    """The weights after three epochs."""
    trainer = bare_trainer(max_epochs=3)
    trainer.fit(TinyModule(), datamodule=TinyDataModule())
    return weights(trainer)


def resumed(bare_trainer: Any, folder: Path, path: Any) -> Trainer:
    """A run that has gone on to the end of three epochs."""
    trainer: Trainer = bare_trainer(max_epochs=3, callbacks=[ModelCheckpoint(folder, "one", save_last=True)], enable_checkpointing=True)
    trainer.fit(TinyModule(), datamodule=TinyDataModule(), ckpt_path=path)
    return trainer


DIES = "os.kill(os.getpid(), signal.SIGKILL)"

MOMENTS = {
    "while it is pickled": f"""
        class Deadly:
            def __reduce__(self):
                {DIES}

        class Own(Callback):
            def state_dict(self):
                return {{"a": Deadly()}} if WRITES else {{"a": 1}}
    """,
    "when it is written and not yet named": f"""
        replace = Path.replace
        def dying(self, target):
            {DIES} if WRITES else replace(self, target)
        Path.replace = dying
        class Own(Callback):
            pass
    """,
    "when it is named": f"""
        replace = Path.replace
        def dying(self, target):
            replace(self, target)
            {DIES} if WRITES else None
        Path.replace = dying
        class Own(Callback):
            pass
    """,
}
"""Programs that kill themselves at some moment of the writing of a checkpoint."""


@pytest.mark.filterwarnings("ignore:the checkpoint holds the states of callbacks")
@pytest.mark.parametrize(
    ("moment", "which"),
    [
        ("while it is pickled", "last"),
        ("when it is written and not yet named", "one"),
        ("when it is written and not yet named", "last"),
        ("when it is named", "one"),
    ],
)
def test_what_a_killed_process_leaves_is_whole(moment: str, which: str, tmp_path: Path, bare_trainer: Any, whole: list[Any]) -> None:
    code = f"""
        import lx_plugin_torch_io.checkpoint_io as io
        save = io.TorchCheckpointIO.save_checkpoint
        def counted(self, checkpoint, path, storage_options=None):
            global WRITES
            WRITES = checkpoint["epoch"] == 1 and Path(path).stem == {which!r}
            save(self, checkpoint, path)
        io.TorchCheckpointIO.save_checkpoint = counted
        WRITES = False
    """
    own = indent(dedent(MOMENTS[moment]), " " * 8).replace("WRITES", 'globals()["WRITES"]')
    done = run(tmp_path, dedent(code) + dedent(own))
    assert done.returncode == -signal.SIGKILL, done.stderr
    for path in tmp_path.glob("*.ckpt"):
        torch.load(path, weights_only=True)
    assert {path.name for path in tmp_path.glob("*.ckpt")} == {"one.ckpt", "last.ckpt"}
    trainer = resumed(bare_trainer, tmp_path, "last")
    assert trainer.global_step == 12
    assert weights(trainer) == whole
    assert sorted(path.name for path in tmp_path.glob("*.ckpt")) == ["last.ckpt", "one.ckpt"]


TERMINATES = "os.kill(os.getpid(), signal.SIGTERM)"


@pytest.mark.parametrize("hook", ["on_train_batch_start", "on_validation_batch_start"])
def test_sigterm_ends_a_fit_after_the_batch(hook: str, tmp_path: Path, bare_trainer: Any, whole: list[Any]) -> None:
    code = f"""
        class Own(Callback):
            calls = 0
            def {hook}(self, *args, **kwargs):
                self.calls += 1
                print("called", self.calls)
                if self.calls == 6:
                    {TERMINATES}
            def on_train_batch_end(self, trainer, *args):
                print("trained on", trainer.fit_loop.progress.batch.total_ready)
            def on_exception(self, trainer, module, exception):
                print(type(exception).__name__, trainer.global_step)
                trainer.save_checkpoint(folder / "rescued.ckpt")
            def on_train_end(self, *args):
                print("over")
    """
    done = run(tmp_path, code)
    assert done.returncode == 143, done.stderr
    lines = done.stdout.splitlines()
    assert lines[-1] == f"SIGTERMException {6 if hook == 'on_train_batch_start' else 8}"
    assert sum(line.startswith("called") for line in lines) == 6
    assert "over" not in lines
    for name in ("last", "rescued"):
        assert weights(resumed(bare_trainer, tmp_path, tmp_path / f"{name}.ckpt")) == whole


@pytest.mark.parametrize(("entry", "hook"), [("validate", "validation"), ("predict", "predict")])
def test_sigterm_ends_an_evaluation_after_the_batch(entry: str, hook: str, tmp_path: Path) -> None:
    code = f"""
        class Own(Callback):
            calls = 0
            def on_{hook}_batch_start(self, *args, **kwargs):
                self.calls += 1
                print("called", self.calls)
                if self.calls == 2:
                    {TERMINATES}
    """
    done = run(tmp_path, code, f"{entry}(TinyModule(), datamodule=TinyDataModule())")
    assert done.returncode == 143, done.stderr
    assert done.stdout.splitlines() == ["called 1", "called 2"]
