"""The summary as a table of rich: what is printed, when, and on which ranks."""

from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from lx import Trainer
from lx.kernel import PluginManager
from lx.testing import TinyDataModule, TinyModule, fake_plugin_manager
from lx.testing.conformance.callback import CallbackConformance
from lx_plugin_rich.model_summary import RichModelSummary


class TestRichModelSummary(CallbackConformance):
    component = "rich_model_summary"


def trainer_of(rank: int = 0) -> SimpleNamespace:
    neutral = SimpleNamespace(convert_input=lambda data: data, forward_context=nullcontext)
    return SimpleNamespace(is_global_zero=rank == 0, precision_plugin=neutral, optimizers=[])


@pytest.fixture
def model() -> nn.Module:
    return nn.Sequential(nn.Linear(8, 4), nn.Sequential(nn.ReLU(), nn.Linear(4, 2)))


def test_registered_for_the_automatic_choice():
    registry = PluginManager(only=["rich"]).registry
    assert dict(registry.callback.find("rich_model_summary").roles) == {"model-summary": 20}
    assert dict(registry.callback.find("rich_progress_bar").roles) == {"progress-bar": 20}
    assert registry.callback.find("rich").name == "rich_progress_bar"


def test_fit_prints_it_once(log):
    one = Trainer(callbacks=[RichModelSummary()], max_epochs=2, logger=False, manager=fake_plugin_manager(), limit_val_batches=0)
    one.fit(TinyModule(), datamodule=TinyDataModule())
    one.test(TinyModule(), datamodule=TinyDataModule(), verbose=False)
    lines = log.getvalue().splitlines()
    assert sum("┃ Name" in line for line in lines) == 1
    assert "│ 0 │ layer │ Linear │      9 │ train │" in lines


@pytest.mark.parametrize(("max_depth", "rows"), [(1, 2), (2, 4), (-1, 4)])
def test_depth(log, model, max_depth, rows):
    RichModelSummary(max_depth).on_fit_start(trainer_of(), model)
    assert log.getvalue().count("│ train │") == rows
    assert "46  parameters in total\n" in log.getvalue()


def test_sizes_and_flops(log, model):
    model.example_input_array = torch.zeros(4, 8)
    RichModelSummary().on_fit_start(trainer_of(), model)
    assert "│   256 │ [4, 8]   │ [4, 4]    │" in log.getvalue()
    assert "320  FLOPs" in log.getvalue()


def test_the_memory_of_training_stands_under_the_table(log, model):
    trainer = trainer_of()
    trainer.optimizers = [torch.optim.Adam(model.parameters())]
    RichModelSummary().on_fit_start(trainer, model)
    assert log.getvalue().endswith("0.001 MB to train: 0.000 parameters, 0.000 gradients, 0.000 optimizer states,\n    0.000 buffers\n")


def test_depth_zero_listens_to_nothing():
    assert not RichModelSummary(0).listens_to("on_fit_start")


@pytest.mark.parametrize("max_depth", [-2, "all"])
def test_other_depths_are_refused(max_depth):
    with pytest.raises(ValueError, match="max_depth"):
        RichModelSummary(max_depth)


def test_only_rank_zero_prints(log, model):
    RichModelSummary().on_fit_start(trainer_of(rank=1), model)
    assert log.getvalue() == ""


def test_a_log_is_wider_than_a_terminal(log):
    wide = nn.ModuleDict({"a_layer_with_a_long_name_" + "x" * 80: nn.Linear(2, 2)})
    RichModelSummary().on_fit_start(trainer_of(), wide)
    assert "a_layer_with_a_long_name_" + "x" * 80 in log.getvalue()


def test_a_terminal_is_not_exceeded(terminal, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    model = nn.Sequential(nn.Linear(8000, 4000), nn.ReLU())
    model.example_input_array = torch.zeros(64, 8000)
    RichModelSummary().on_fit_start(trainer_of(), model)
    assert max(map(len, terminal.screen())) <= 60
    assert any("32.0 M" in line for line in terminal.screen())


def test_arguments_go_to_the_table(log, model):
    RichModelSummary(title="My model").on_fit_start(trainer_of(), model)
    assert "My model" in log.getvalue()


def test_notes_are_printed(log):
    RichModelSummary().on_fit_start(trainer_of(), nn.Sequential(nn.LazyLinear(3)))
    assert log.getvalue().endswith("2 lazy parameters are not initialised yet and count as 0.\n")


def test_summarize_can_be_overridden(log, model):
    class Mine(RichModelSummary):
        @staticmethod
        def summarize(summary_data, total_parameters, trainable_parameters, model_size, total_training_modes, total_flops, **kwargs):
            print(total_parameters, model_size, kwargs)

    Mine(colour="red").on_fit_start(trainer_of(), model)
    assert log.getvalue().startswith("46 0.000184 {'colour': 'red'}\n")
