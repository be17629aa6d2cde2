"""The summary as plain text: what is printed, when, and on which ranks."""

from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from lx import Trainer
from lx.kernel import PluginManager
from lx.testing import TinyDataModule, TinyModule, fake_plugin_manager
from lx.testing.conformance.callback import CallbackConformance
from lx_plugin_summary.callback import ModelSummary


class TestModelSummary(CallbackConformance):
    component = "model_summary"


class Precision:
    """Halves what it is given, to be seen in the sizes."""

    def __init__(self):
        self.entered = 0

    def convert_input(self, data):
        return data[:2]

    def forward_context(self):
        self.entered += 1
        return nullcontext()


def trainer_of(rank: int = 0) -> SimpleNamespace:
    return SimpleNamespace(is_global_zero=rank == 0, precision_plugin=Precision(), optimizers=[])


@pytest.fixture
def model() -> nn.Module:
    return nn.Sequential(nn.Linear(8, 4), nn.Sequential(nn.ReLU(), nn.Linear(4, 2)))


def test_registered_for_the_automatic_choice():
    registry = PluginManager(only=["summary"]).registry
    entry = registry.callback.find("model_summary")
    assert dict(entry.roles) == {"model-summary": 10}
    assert registry.callback.build("Model-Summary(max_depth=3)").max_depth == 3


def test_fit_prints_it_once(capsys):
    one = Trainer(
        callbacks=["model_summary"],
        max_epochs=2,
        logger=False,
        limit_val_batches=0,
        manager=fake_plugin_manager(installed=True),
        accelerator="fake",
        strategy="fake",
        enable_checkpointing=False,
        enable_progress_bar=False,
    )
    one.fit(TinyModule(), datamodule=TinyDataModule())
    one.test(TinyModule(), datamodule=TinyDataModule(), verbose=False)
    lines = capsys.readouterr().out.splitlines()
    assert lines.count("  | Name  | Type   | Params | Mode") == 1
    assert "0 | layer | Linear |      9 | train" in lines


def test_prints_at_fit_start(model, capsys):
    ModelSummary().on_fit_start(trainer_of(), model)
    out = capsys.readouterr().out
    assert "0 | 0    | Linear     |     36 | train" in out
    assert "46  parameters in total" in out
    assert "1.0" not in out


@pytest.mark.parametrize(("max_depth", "rows"), [(1, 2), (2, 4), (-1, 4)])
def test_depth(model, capsys, max_depth, rows):
    ModelSummary(max_depth).on_fit_start(trainer_of(), model)
    assert sum(line.endswith(("train", "eval")) for line in capsys.readouterr().out.splitlines()) == rows


def test_depth_zero_listens_to_nothing():
    assert not any(ModelSummary(0).listens_to(event) for event in ("on_fit_start", "setup"))


@pytest.mark.parametrize("max_depth", [-2, "all"])
def test_other_depths_are_refused(max_depth):
    with pytest.raises(ValueError, match="max_depth"):
        ModelSummary(max_depth)


def test_only_rank_zero_prints(model, capsys):
    model.example_input_array = torch.zeros(4, 8)
    trainer = trainer_of(rank=1)
    ModelSummary().on_fit_start(trainer, model)
    assert capsys.readouterr().out == ""
    assert trainer.precision_plugin.entered == 2, "a sharded model needs every rank in its forward"


def test_example_goes_through_the_precision(model, capsys):
    model.example_input_array = torch.zeros(4, 8)
    ModelSummary().on_fit_start(trainer_of(), model)
    out = capsys.readouterr().out
    assert "[2, 8]   | [2, 4]" in out
    assert "FLOPs" in out


def test_notes_are_printed(capsys):
    ModelSummary().on_fit_start(trainer_of(), nn.Sequential(nn.LazyLinear(3)))
    assert capsys.readouterr().out.endswith("2 lazy parameters are not initialised yet and count as 0.\n")


def test_the_memory_of_training_stands_under_the_table(capsys):
    model = nn.Linear(1000, 500, bias=False)
    model.example_input_array = torch.zeros(4, 1000)
    trainer = trainer_of()
    trainer.optimizers = [torch.optim.Adam(model.parameters())]
    ModelSummary().on_fit_start(trainer, model)
    said = " ".join(capsys.readouterr().out.split())
    kept = "0.016 activations of the example input"  # which is kept whole, though the precision gave the forward a part
    assert f"8.016 MB to train: 2.000 parameters, 2.000 gradients, 4.000 optimizer states, 0.000 buffers, {kept}" in said


def test_a_terminal_is_not_exceeded(model, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    model.example_input_array = torch.zeros(4, 8)
    model.append(nn.ModuleDict({"a_layer_with_a_name_that_is_long": nn.Linear(2, 2)}))
    ModelSummary(-1).on_fit_start(trainer_of(), nn.ModuleDict({"model": model}))
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 60
    assert any("with_a_" in line for line in lines)


def test_summarize_can_be_overridden(model):
    seen = {}

    class Mine(ModelSummary):
        @staticmethod
        def summarize(summary_data, total_parameters, trainable_parameters, model_size, total_training_modes, total_flops, **kwargs):
            seen.update(columns=dict(summary_data), total=total_parameters, modes=total_training_modes, more=kwargs)

    Mine(colour="red").on_fit_start(trainer_of(), model)
    assert seen["columns"]["Type"] == ["Linear", "Sequential"]
    assert seen["total"] == 46
    assert seen["modes"] == {"train": 4, "eval": 0}
    assert seen["more"] == {"colour": "red"}
