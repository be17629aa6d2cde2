from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lx import LightningModule, Trainer
from lx.kernel.errors import MisconfigurationException
from lx_plugin_tensorboard.logger import TensorBoardLogger


class Net(LightningModule):
    def __init__(self, width=3):
        super().__init__()
        self.save_hyperparameters()
        self.layer = torch.nn.Linear(width, 1)
        self.example_input_array = torch.ones(1, width)

    def forward(self, x):
        return self.layer(x)

    def training_step(self, batch, batch_idx):
        loss = self.layer(batch).mean()
        self.log("loss", loss, on_step=True, on_epoch=True)
        self.logger.experiment.add_histogram("weights", self.layer.weight, self.global_step)
        return loss

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


LOADER = torch.utils.data.DataLoader(torch.ones(8, 3), batch_size=2)


def trainer(folder, **arguments):
    options = {"accelerator": "cpu", "default_root_dir": folder, "max_epochs": 1, "log_every_n_steps": 2}
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    return Trainer(**options, **quiet, **arguments)


def test_it_is_the_default_logger_and_a_trainer_alone_writes_nothing(tmp_path):
    made = trainer(tmp_path)
    assert isinstance(made.logger, TensorBoardLogger)
    assert made.log_dir == str(tmp_path / "lightning_logs" / "version_0")
    assert list(tmp_path.iterdir()) == []


def test_what_tensorboard_reads_after_a_fit(tmp_path):
    made = trainer(tmp_path, logger="tensorboard(log_graph=True)")
    made.fit(Net(), LOADER)
    accumulator = EventAccumulator(made.log_dir, size_guidance={"histograms": 0})
    accumulator.Reload()
    steps = {tag: [event.step for event in accumulator.Scalars(tag)] for tag in accumulator.Tags()["scalars"]}
    assert steps == {"hp_metric": [0], "loss_step": [1, 3], "loss_epoch": [3], "epoch": [1, 3, 3]}
    assert [event.step for event in accumulator.Histograms("weights")] == [0, 1, 2, 3]
    assert any(node.name.startswith("Net/Linear[layer]/") for node in accumulator.Graph().node)
    assert Path(made.log_dir, "hparams.yaml").read_text("utf-8") == "width: 3\n"


@pytest.mark.parametrize(("axis", "expected"), [("epoch", [0, 0, 1, 1]), ("samples", [4, 8, 12, 16]), ("seconds", [0, 0, 0, 0])])
def test_values_are_drawn_over_the_axis_that_was_chosen(tmp_path, monkeypatch, axis, expected):
    monkeypatch.setattr("time.monotonic", lambda: 3.0)
    made = trainer(tmp_path, logger=TensorBoardLogger(tmp_path, axis=axis))
    made.fit_loop.max_epochs = 2
    made.fit(Net(), LOADER)
    made.logger.log_metrics({"own": 1.0}, step=5)
    made.logger.finalize("success")
    accumulator = EventAccumulator(made.log_dir)
    accumulator.Reload()
    assert [event.step for event in accumulator.Scalars("loss_step")] == expected
    assert [event.step for event in accumulator.Scalars("own")] == [5]  # where it stands, only whoever logged it knows


def test_an_axis_that_there_is_not_is_refused():
    with pytest.raises(MisconfigurationException, match="axis='time': it must be one of step, epoch, samples, seconds"):
        TensorBoardLogger(axis="time")
