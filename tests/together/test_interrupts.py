"""What stands on a terminal at last, when a program is cut off: its own exception, or the line that says where the run ended."""

import os
import pty
import re
import select
import signal
import subprocess
import sys
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from lx.testing.requires import requires

PROGRAM = """
import signal, sys, time, warnings

import torch
from torch.utils.data import DataLoader, TensorDataset

from lx import Callback, Trainer
from lx.callbacks import ModelCheckpoint
from lx.testing import TinyDataModule, TinyModule


class Rows(torch.utils.data.Dataset):
    def __len__(self):
        return 16

    def __getitem__(self, index):
        return torch.ones(8)


def waits(*args):
    print("WAITING", flush=True)
    while True:
        time.sleep(60)


class Model(TinyModule):
    def training_step(self, batch, batch_idx):
        if self.trainer.global_step == 5:
            self.ends()
        return super().training_step(batch, batch_idx)


class Own(Callback):
    pass


workers = 0
{code}

if __name__ == "__main__":
    quiet = dict.fromkeys(("logger", "enable_model_summary"), False)
    bar = {{"callbacks": [Own(), {bar!r}]}} if {bar!r} else {{"callbacks": [Own()], "enable_progress_bar": False}}
    trainer = Trainer(accelerator="cpu", max_epochs=3, num_sanity_val_steps=0, **quiet, **bar)
    trainer.fit(Model(), DataLoader(Rows(), batch_size=4, num_workers=workers), TinyDataModule().val_dataloader())
"""


class Terminal:
    """A program on a terminal of its own."""

    def __init__(self, folder: Path, code: str, bar: str = "") -> None:
        (folder / "program.py").write_text(PROGRAM.format(code=dedent(code), bar=bar))
        self.screen, far = pty.openpty()
        settings = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
        self.process = subprocess.Popen(
            [sys.executable, "program.py"],
            cwd=folder,
            stdin=far,
            stdout=far,
            stderr=far,
            env=settings,
            preexec_fn=_take_terminal,  # noqa: PLW1509 -- no thread runs here that could hold a lock
            start_new_session=True,
        )
        os.close(far)
        self.text = ""

    def wait_for(self, words: str) -> None:
        """Reads until the words have appeared."""
        while words not in self.text:
            assert self._read(), f"it ended without {words!r}:\n{self.text}"

    def press(self) -> None:
        """Ctrl-C."""
        os.write(self.screen, b"\x03")

    def end(self) -> list[str]:
        """Reads to the end; returns the lines as they stand there, without empty ones."""
        while self._read():
            pass
        os.close(self.screen)
        self.process.wait()
        plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.text).replace("\r\n", "\n").replace("^C", "")  # the echo of the key
        lines = [line.rpartition("\r")[2].rstrip() for line in plain.splitlines() for line in [line.rstrip("\r")]]
        return [line for line in lines if line]

    def _read(self) -> bool:
        ready, _, _ = select.select([self.screen], [], [], 120)
        assert ready, f"nothing came for two minutes:\n{self.text}"
        try:
            got = os.read(self.screen, 65536)
        except OSError:  # the far side is closed
            return False
        self.text += got.decode()
        return bool(got)


def _take_terminal() -> None:
    import fcntl
    import termios

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


FAILS = """
def fails(self):
    raise ZeroDivisionError("the user's own")

def fails_too(self, *args):
    warnings.warn("a warning")
    raise OSError("another one")

Model.ends = fails
Own.on_exception = Own.teardown = fails_too
"""


@pytest.mark.parametrize("bar", ["", "tqdm", "rich"])
def test_the_exception_of_the_user_is_the_last_thing_on_the_screen(tmp_path: Path, bar: str) -> None:
    terminal = Terminal(tmp_path, FAILS, bar)
    lines = terminal.end()
    assert lines[-1] == "ZeroDivisionError: the user's own"
    assert terminal.process.returncode == 1
    (begins,) = (place for place, line in enumerate(lines) if line.startswith("Traceback"))
    said = "\n".join(lines[:begins])
    assert "Own.on_exception failed, too: OSError: another one" in said
    assert "Own.teardown failed, too: OSError: another one" in said
    assert not re.search(r"Epoch \d|UserWarning", "\n".join(lines[begins:]))


def test_the_exception_of_a_worker_is_the_last_thing_on_the_screen(tmp_path: Path) -> None:
    code = """
    workers = 2

    def fails(self, index):
        if index == 9:
            raise LookupError("row 9 is broken")
        return torch.ones(8)

    Rows.__getitem__ = fails
    """
    lines = Terminal(tmp_path, code, "tqdm").end()
    assert lines[-1] == "LookupError: row 9 is broken"
    assert sum("in fails" in line for line in lines) == 1


@pytest.mark.parametrize("bar", ["tqdm", "rich"])
def test_ctrl_c_ends_with_a_line_that_says_how_to_go_on(tmp_path: Path, bar: str) -> None:
    terminal = Terminal(tmp_path, "workers = 2; Model.ends = waits", bar)
    terminal.wait_for("WAITING")
    terminal.press()
    lines = terminal.end()
    path = tmp_path / "checkpoints" / "epoch=0-step=4.ckpt"
    said = f"lx: Ctrl-C ended the run in epoch 1, after 5 steps. To go on: trainer.fit(..., ckpt_path={str(path)!r})"
    assert lines[-1] == said
    assert path.exists()
    assert terminal.process.returncode == 130
    assert "Traceback" not in terminal.text


def test_a_clean_up_that_hangs_is_ended_by_the_third_ctrl_c(tmp_path: Path) -> None:
    code = """
    def hangs(self, *args):
        print("HANGS", flush=True)
        while True:
            time.sleep(60)

    Model.ends = waits
    Own.teardown = hangs
    """
    terminal = Terminal(tmp_path, code, "tqdm")
    for words in ("WAITING", "HANGS\r\n", "undone.\r\n"):
        terminal.wait_for(words)
        terminal.press()
    lines = terminal.end()
    assert lines[-1].startswith("lx: the run is ending (Own.teardown); Ctrl-C once more ends the process at once")
    assert terminal.process.returncode == -signal.SIGINT


TWO = """
import os, signal, sys, time

from lx import Callback, Trainer
from lx.testing import TinyDataModule, TinyModule


class Model(TinyModule):
    def on_train_batch_start(self, batch, batch_idx):
        if batch_idx == 1:
            self.trainer.strategy.barrier()
            if self.trainer.global_rank == 0:
                os.killpg(os.getpgrp(), signal.SIGINT)
            while True:  # not in a collective, which cannot be interrupted
                time.sleep(0.01)

    def on_exception(self, exception):
        with open(f"told_{self.trainer.global_rank}", "w") as file:
            file.write(type(exception).__name__)


if __name__ == "__main__":
    trainer = Trainer(accelerator="cpu", devices=2, strategy="ddp", barebones=True)
    trainer.fit(Model(), datamodule=TinyDataModule())
"""


@requires(processes=2)
def test_ctrl_c_ends_both_processes_of_a_run(tmp_path: Path) -> None:
    (tmp_path / "two.py").write_text(TWO)
    done: Any = subprocess.run(
        [sys.executable, "two.py"], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120, start_new_session=True
    )
    assert done.returncode == 130, done.stderr
    said = [line for line in done.stderr.splitlines() if line.startswith("lx:")]
    assert said == ["lx: Ctrl-C ended the run in epoch 0, after 1 steps. No checkpoint was written."]
    assert [(tmp_path / f"told_{rank}").read_text() for rank in (0, 1)] == ["KeyboardInterrupt"] * 2
