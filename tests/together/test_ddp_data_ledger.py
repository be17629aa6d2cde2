"""The data ledger in two processes, of which each writes its own part, in a run that goes on within an accumulation window."""

import os
import subprocess
import sys
from pathlib import Path

from lx_plugin_data_ledger import read, verify

PROGRAM = """
import torch
from torch.utils.data import DataLoader, TensorDataset

from lx import Callback, Trainer
from lx.testing import TinyModule


class Saves(Callback):
    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if batch_idx == 2:
            trainer.save_checkpoint("within.ckpt")


def fit(callbacks, **more):
    off = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = Trainer(
        accelerator="cpu", strategy="ddp", devices=2, accumulate_grad_batches=2, callbacks=[*callbacks, "data_ledger"],
        default_root_dir="runs", limit_val_batches=0, **off, **more["trainer"],
    )
    rows = torch.randn(25, 8)
    data = TensorDataset(rows, rows.sum(dim=1, keepdim=True))
    trainer.fit(TinyModule(), DataLoader(data, batch_size=4, shuffle=True), DataLoader(data), ckpt_path=more.get("ckpt_path"))


if __name__ == "__main__":
    fit([Saves()], trainer={"max_epochs": 1})
    fit([], trainer={"max_epochs": 2}, ckpt_path="within.ckpt")
"""


def test_two_processes_have_one_account(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    environ = {name: value for name, value in os.environ.items() if name != "PL_GLOBAL_SEED"}
    done = subprocess.run(
        [sys.executable, "program.py"], cwd=tmp_path, env={**environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    report = verify(tmp_path / "runs")
    assert report.ok, str(report)
    made_equal = "24 of 25 samples exactly once and 1 more often, to make the shares of 2 processes equal"
    assert str(report).splitlines() == [f"epoch 0: {made_equal}, 1 restart", f"epoch 1: {made_equal}"]
    ledger = read(tmp_path / "runs")
    assert {(entry.run[:4], entry.rank) for entry in ledger.entries()} == {(run, rank) for run in ("0001", "0002") for rank in (0, 1)}
    assert [(entry.batch, entry.rank) for entry in ledger.of_step(2) if entry.epoch == 0] == [(2, 0), (2, 1), (3, 0), (3, 1)]
