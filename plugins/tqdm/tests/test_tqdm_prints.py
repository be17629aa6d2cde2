"""What a program prints while there is a bar."""

import os
import sys
from contextlib import redirect_stderr

import pytest

from lx import Trainer
from lx.testing import TinyDataModule, TinyModule, fake_plugin_manager
from lx_plugin_tqdm.above import Above
from lx_plugin_tqdm.callback import TQDMProgressBar


class Talks(TinyModule):
    """Calls functions in its steps."""

    def __init__(self, training=lambda idx: None, validation=lambda idx: None):
        super().__init__()
        self.training_call, self.validation_call = training, validation

    def training_step(self, batch, batch_idx):
        self.training_call(batch_idx)
        return self.loss(batch)

    def validation_step(self, batch, batch_idx):
        self.validation_call(batch_idx)


def fit(module):
    bar = TQDMProgressBar()
    settings = {"logger": False, "num_sanity_val_steps": 0, "manager": fake_plugin_manager()}
    Trainer(max_epochs=1, callbacks=[bar], **settings).fit(module, datamodule=TinyDataModule())


def test_it_stands_above_the_bar_line_by_line(terminal):
    def halves(idx):
        print(f"batch {idx}", end="; " if idx % 2 == 0 else "\n")

    with redirect_stderr(terminal):
        fit(Talks(halves, lambda idx: sys.stderr.write("mind this\n") if idx == 0 else None))
        assert sys.stderr is terminal
    assert sys.stdout is terminal
    *printed, last = terminal.screen()
    assert printed == ["batch 0; batch 1", "batch 2; batch 3", "mind this"]
    assert last.startswith("Epoch 0/0: 100%|")


def test_the_standard_output_is_given_back_after_a_failure(terminal):
    with pytest.raises(ZeroDivisionError):
        fit(Talks(lambda idx: print("half a line", end="") or 1 / 0))
    assert sys.stdout is terminal
    assert terminal.screen()[-1] == "half a line"


def test_what_was_put_in_its_place_meanwhile_stays(terminal, monkeypatch):
    class Mine:
        write = flush = print

    mine = Mine()
    fit(Talks(lambda idx: monkeypatch.setattr(sys, "stdout", mine)))
    assert sys.stdout is mine


def test_a_bar_of_somebody_else_and_another_process_are_let_through(terminal, monkeypatch):
    above = Above(terminal, terminal, blank=False)
    for text in ("\n", "\r50%", "\x1b[A"):
        above.write(text)
    assert terminal.getvalue() == "\n\r50%\x1b[A"
    monkeypatch.setattr(os, "getpid", lambda: -1)
    above.write("from a worker")
    assert terminal.getvalue().endswith("from a worker")
    assert above.isatty()
