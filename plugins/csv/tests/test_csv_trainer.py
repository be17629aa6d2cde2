import csv
import os
from pathlib import Path

import pytest
import torch

from lx import LightningModule, Trainer
from lx.kernel.errors import MisconfigurationException
from lx_plugin_csv.logger import CSVLogger


class Net(LightningModule):
    def __init__(self, width=3, fail_at=None):
        super().__init__()
        self.save_hyperparameters()
        self.layer = torch.nn.Linear(width, 1)

    def training_step(self, batch, batch_idx):
        if self.hparams.fail_at == self.trainer.global_step:
            raise ZeroDivisionError
        loss = self.layer(batch).mean()
        self.log("loss", loss, on_step=True, on_epoch=True)
        return loss

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", self.layer(batch).mean())

    def test_step(self, batch, batch_idx):
        self.log("test_loss", self.layer(batch).mean())

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


LOADER = torch.utils.data.DataLoader(torch.ones(8, 3), batch_size=2)


def trainer(folder, **arguments):
    options = {"accelerator": "cpu", "default_root_dir": folder, "max_epochs": 2, "log_every_n_steps": 2}
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False, "num_sanity_val_steps": 0}
    return Trainer(**{**options, **quiet, **arguments})


def rows(folder):
    with open(os.path.join(folder, "metrics.csv"), newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_it_is_the_default_logger_and_a_trainer_alone_writes_nothing(tmp_path):
    made = trainer(tmp_path)
    assert isinstance(made.logger, CSVLogger)
    assert made.log_dir == str(tmp_path / "lightning_logs" / "version_0")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("logger", ["csv", "csv(flush_logs_every_n_steps=1)"])
def test_what_a_fit_and_a_test_leave(tmp_path, logger):
    made, model = trainer(tmp_path, logger=logger), Net()
    made.fit(model, LOADER, LOADER)
    made.test(model, LOADER, verbose=False)
    assert sorted(os.listdir(made.log_dir)) == ["hparams.yaml", "metrics.csv"]
    found = [
        (int(row["step"]), sorted(name for name, value in row.items() if value and name not in ("step", "epoch")))
        for row in rows(made.log_dir)
    ]
    epochs = [[(2 * n + 1, ["loss_step"]) for n in (2 * epoch, 2 * epoch + 1)] for epoch in range(2)]
    ends = [[(4 * epoch + 3, ["val_loss"]), (4 * epoch + 3, ["loss_epoch"])] for epoch in range(2)]
    assert found == [*epochs[0], *ends[0], *epochs[1], *ends[1], (8, ["test_loss"])]
    assert Path(made.log_dir, "hparams.yaml").read_text("utf-8") == "width: 3\nfail_at: null\n"


def test_each_run_has_a_version_of_its_own(tmp_path):
    for number in range(3):
        made = trainer(tmp_path)
        made.fit(Net(), LOADER, LOADER)
        assert made.log_dir == str(tmp_path / "lightning_logs" / f"version_{number}")
        assert len(rows(made.log_dir)) == 8


def test_a_run_that_fails_keeps_its_rows(tmp_path):
    made = trainer(tmp_path)
    with pytest.raises(ZeroDivisionError):
        made.fit(Net(fail_at=5), LOADER, LOADER)
    assert [row["step"] for row in rows(made.log_dir)] == ["1", "3", "3", "3"]


def test_a_resumed_run_continues_its_file_without_a_warning(tmp_path):
    made, model = trainer(tmp_path), Net()
    made.fit(model, LOADER, LOADER)
    made.save_checkpoint(tmp_path / "last.ckpt")
    resumed = trainer(tmp_path, logger="csv(version=0)", max_epochs=3)
    resumed.fit(Net(), LOADER, LOADER, ckpt_path=tmp_path / "last.ckpt")
    assert [row["epoch"] for row in rows(resumed.log_dir) if row["loss_epoch"]] == ["0", "1", "2"]
    with pytest.warns(UserWarning, match="exists and is not empty"):
        trainer(tmp_path, logger="csv(version=0)").fit(Net(), LOADER, LOADER)


def test_columns_say_where_a_row_stands_on_the_axes_that_were_asked_for(tmp_path):
    logger = CSVLogger(tmp_path, axes=("epoch", "samples", "seconds", "walltime"))
    made, model = trainer(tmp_path, logger=logger), Net()
    made.fit(model, LOADER, LOADER)
    made.test(model, LOADER, verbose=False)
    found = rows(made.log_dir)
    # A test stands where training ended.
    assert [(row["step"], row["epoch"], row["samples"]) for row in found if row["loss_step"]] == [
        ("1", "0", "4"),
        ("3", "0", "8"),
        ("5", "1", "12"),
        ("7", "1", "16"),
    ]
    assert [row["samples"] for row in found if row["val_loss"] or row["loss_epoch"] or row["test_loss"]] == ["8", "8", "16", "16", "16"]
    seconds, times = ([float(row[axis]) for row in found] for axis in ("seconds", "walltime"))
    assert seconds == sorted(seconds)
    assert seconds[0] > 0
    assert times == sorted(times)
    assert found[-1]["test_loss"] != ""
    assert logger.point is None


def test_seconds_and_samples_go_on_where_a_run_was_left(tmp_path):
    first = trainer(tmp_path, logger="csv(axes='seconds')", max_epochs=1)
    first.fit(Net(), LOADER, LOADER)
    first.save_checkpoint(tmp_path / "half.ckpt")
    second = trainer(tmp_path, logger="csv(axes=['seconds', 'samples'])")
    second.fit(Net(), LOADER, LOADER, ckpt_path=tmp_path / "half.ckpt")
    assert float(rows(second.log_dir)[0]["seconds"]) > float(rows(first.log_dir)[-1]["seconds"])
    assert [row["samples"] for row in rows(second.log_dir)] == ["12", "16", "16", "16"]


def test_a_metric_of_the_name_of_an_axis_keeps_its_value_and_calls_of_ones_own_have_no_point(tmp_path):
    class Says(Net):
        def on_train_epoch_end(self):
            self.log("samples", 7.0)
            self.logger.log_metrics({"own": 1.0}, step=0)

    made = trainer(tmp_path, logger=CSVLogger(tmp_path, axes=["samples"]), max_epochs=1)
    made.fit(Says(), LOADER, LOADER)
    assert [(row["own"], row["samples"]) for row in rows(made.log_dir)] == [("", "4"), ("", "8"), ("", "8"), ("1.0", ""), ("", "7.0")]


def test_axes_that_there_are_not_are_refused():
    with pytest.raises(MisconfigurationException, match="axes=\\['time'\\]: there is no axis 'time'; beside step there are"):
        CSVLogger(axes=["time"])
