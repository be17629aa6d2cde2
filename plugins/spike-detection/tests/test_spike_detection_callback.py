"""Which losses are spikes, what is written of them, and that a run that goes on compares with the same batches."""

import json
import math
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader

from lx import LightningModule, Trainer
from lx.kernel.errors import MisconfigurationException
from lx_plugin_spike_detection.callback import SpikeDetection, TrainingSpikeException

NAN, INF = math.nan, math.inf


@pytest.mark.parametrize(
    ("losses", "arguments", "at"),
    [
        ([1, 1, 1, 5, 1], {}, 3),
        ([5, 1, 1], {}, None),
        ([1, 2, 2.1], {}, None),
        ([1, 3, 1], {}, 1),
        ([1, 2.99], {}, None),
        ([1, 2.5], {"warmup": 0}, None),
        ([1, 1, 30, 1], {"warmup": 3}, None),
        ([1, 1, 30, 1], {"warmup": 2}, 2),
        ([1, 1, NAN, 1], {}, 2),
        ([NAN, 1, 1, 30], {}, 3),
        ([1, 1, NAN, 1, 30], {"finite_only": False}, 4),
        ([1, 1, INF, 1], {"finite_only": False}, 2),
        ([1, 1, 1.6, 1], {"rtol": 0.5}, 2),
        ([1, 1, 1.4, 1], {"rtol": 0.5}, None),
        ([1, 1, 1.6, 1], {"rtol": None, "atol": 0.5}, 2),
        ([1, 1, 1.6, 1], {"rtol": 5.0, "atol": 0.5}, None),
        ([1, 1, 0.2, 1], {"mode": "max", "rtol": 0.5}, 2),
        ([1, 1, 5, 5], {"mode": "max", "rtol": 0.5}, None),
        ([9, 9, 1, 1, 5], {"window": 2}, 4),
        ([-1, -1, -5, -1], {}, None),
        ([-1, -1, 3, -1], {}, 2),
    ],
)
def test_a_spike_is_far_from_the_mean_of_the_losses_before(losses, arguments, at):
    spikes = SpikeDetection(**arguments)
    assert next((place for place, loss in enumerate(losses) if spikes.judge(loss)), None) == at


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"mode": "up"}, "mode='up'"),
        ({"window": 0}, "window=0"),
        ({"warmup": -1}, "warmup=-1"),
        ({"atol": "x"}, "atol='x'"),
        ({"rtol": -1.0}, r"rtol=-1\.0"),
        ({"rtol": NAN}, "rtol=nan"),
        ({"rtol": None, "finite_only": False}, "leave nothing that is a spike"),
    ],
)
def test_arguments_are_checked_at_once(arguments, said):
    with pytest.raises(MisconfigurationException, match=said):
        SpikeDetection(**arguments)


class Given(LightningModule):
    """Has the losses that it is given."""

    def __init__(self, losses, form=lambda loss: loss):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.losses, self.form = losses, form

    def training_step(self, batch, batch_idx):
        return self.form(self.weight * 0 + self.losses[self.trainer.global_step])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def fit(module, spikes, batches=4, path=None, **arguments):
    trainer = Trainer(accelerator="cpu", logger=False, enable_model_summary=False, callbacks=[spikes], **{"max_epochs": 1, **arguments})
    trainer.fit(module, DataLoader(torch.ones(batches)), ckpt_path=path)
    return trainer


@pytest.mark.parametrize("form", [lambda loss: loss, lambda loss: {"loss": loss, "more": 1}])
def test_the_run_ends_and_the_batch_is_kept_with_the_one_before(tmp_path: Path, form):
    module = Given([1.0, 1.0, 5.0, 1.0], form)
    with pytest.raises(TrainingSpikeException, match=r"batch 2 of epoch 0: its loss is 5, and the mean of the 2 before is 1\. .*skip_ba"):
        fit(module, SpikeDetection(), default_root_dir=tmp_path)
    path = tmp_path / "skip_batches.json"
    assert json.loads(path.read_text()) == [1, 2]
    with pytest.raises(TrainingSpikeException):
        fit(Given([1.0, 1.0, 1.0, 9.0]), SpikeDetection(exclude_batches_path=path))
    assert json.loads(path.read_text()) == [1, 2, 3]


def test_a_step_without_a_loss_is_passed_over():
    fit(Given([1.0] * 4, lambda loss: None), SpikeDetection())


def test_a_run_that_goes_on_compares_with_the_same_batches(tmp_path: Path):
    first = fit(Given([1.0] * 4), SpikeDetection(warmup=4))
    path = tmp_path / "first.ckpt"
    first.save_checkpoint(path)
    spikes = SpikeDetection(warmup=4)
    with pytest.raises(TrainingSpikeException, match="batch 0 of epoch 1: its loss is 9, and the mean of the 4 before is 1"):
        fit(Given([1.0] * 4 + [9.0] * 4), spikes, max_epochs=2, path=path, default_root_dir=tmp_path)
    assert json.loads((tmp_path / "skip_batches.json").read_text()) == [0]
    spikes.load_state_dict({"last_batch": 7})
    assert list(spikes.losses) == [1.0] * 4
