"""Metric objects of torchmetrics in two processes: each updates its own, and the epoch's value is that of all samples."""

import json
import subprocess
import sys
from pathlib import Path

PROGRAM = """
import json
import sys
from pathlib import Path

import torch
from torch.utils.data import DataLoader
from torchmetrics import MaxMetric, MeanMetric, MetricCollection, SumMetric

from lx import LightningModule, Trainer


class Net(LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
        self.mean = MeanMetric()
        self.metrics = MetricCollection([SumMetric(), MaxMetric()], prefix="val_")

    def training_step(self, batch, batch_idx):
        self.mean(batch)
        self.log("mean", self.mean, on_step=True, on_epoch=True)
        return self.layer(batch).mean()

    def validation_step(self, batch, batch_idx):
        self.metrics.update(batch)
        self.log_dict(self.metrics)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


if __name__ == "__main__":
    loader = DataLoader(torch.arange(8.0).reshape(8, 1), batch_size=2)
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = Trainer(accelerator="cpu", strategy="ddp", devices=2, max_epochs=2, num_sanity_val_steps=0, **quiet)
    trainer.fit(Net(), loader, loader)
    values = {name: value.item() for name, value in trainer.callback_metrics.items()}
    Path(sys.argv[1], f"rank_{trainer.global_rank}.json").write_text(json.dumps(values))
"""


def test_the_epochs_value_is_that_of_all_processes(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    done = subprocess.run(
        [sys.executable, "program.py", str(tmp_path)], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    shared = {"mean": 3.5, "mean_epoch": 3.5, "val_SumMetric": 28.0, "val_MaxMetric": 7.0}
    # A step's value is of its own process: the last batches hold 4 and 6, and 5 and 7.
    for rank, last in enumerate((5.0, 6.0)):
        assert json.loads((tmp_path / f"rank_{rank}.json").read_text()) == {**shared, "mean_step": last}
