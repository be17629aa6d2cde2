"""The utilities of both libraries give the same: summaries, seeds, norms, FLOPs, throughput."""

import importlib
import os
import random
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from sides import SIDES, World, quiet
from torch import nn

import lx.utilities
from lx.rng import isolate_rng

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    THEIRS = importlib.import_module("lightning.pytorch.utilities")
    FABRIC = importlib.import_module("lightning.fabric.utilities")


def model(side: str) -> Any:
    class Net(SIDES[side].LightningModule):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Sequential(nn.ReLU(), nn.Flatten()), nn.Dropout())
            self.head = nn.Linear(8 * 4 * 4, 3)
            self.tied = nn.Linear(8 * 4 * 4, 3)
            self.tied.weight = self.head.weight
            self.empty = nn.Sequential()
            self.scale = nn.Parameter(torch.zeros(5))
            self.example_input_array = torch.zeros(2, 3, 6, 6)

        def forward(self, x: Any) -> Any:
            body = self.body(x)
            return self.head(body) + self.tied(body)

    net = Net()
    net.head.requires_grad_(False)
    net.body[1].eval()
    return net


SUMMARY = (
    "layer_names",
    "layer_types",
    "in_sizes",
    "out_sizes",
    "param_nums",
    "training_modes",
    "total_training_modes",
    "total_parameters",
    "trainable_parameters",
    "total_flops",
    "flop_counts",
)


@pytest.mark.parametrize("max_depth", [0, 1, 2, -1])
def test_summaries_have_the_same_numbers(max_depth: int) -> None:
    ours = lx.utilities.ModelSummary(model("lx"), max_depth=max_depth)
    with quiet("lightning"):
        theirs = importlib.import_module("lightning.pytorch.utilities.model_summary").summarize(model("lightning"), max_depth=max_depth)
        expected = {name: getattr(theirs, name) for name in SUMMARY}
    assert {name: getattr(ours, name) for name in SUMMARY} == expected
    assert ours.model_size == pytest.approx(theirs.model_size)
    assert [name for name, _ in ours.named_modules] == ours.layer_names


def test_parameters_of_shared_and_nested_layers_count_once_in_the_sum_of_layers() -> None:
    ours = lx.utilities.ModelSummary(model("lx"), max_depth=-1)
    with quiet("lightning"):
        theirs = importlib.import_module("lightning.pytorch.utilities.model_summary").summarize(model("lightning"), max_depth=-1)
    assert theirs.total_layer_params > theirs.total_parameters
    assert ours.total_layer_params == ours.total_parameters - 5


def drawn(side: str, seed: Any) -> tuple[Any, ...]:
    with isolate_rng(), quiet(side):
        used = SIDES[side].seed_everything(seed, workers=True, verbose=False)
        return (
            used,
            random.random(),
            float(np.random.rand()),
            float(torch.rand(1)),
            os.environ["PL_GLOBAL_SEED"],
            os.environ["PL_SEED_WORKERS"],
        )


@pytest.mark.parametrize("seed", [0, 42, 2**32 - 1, "7", np.int64(5)])
def test_a_seed_leads_to_the_same_numbers(seed: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PL_GLOBAL_SEED", "PL_SEED_WORKERS"):
        monkeypatch.setenv(name, "0")
    assert drawn("lx", seed) == drawn("lightning", seed)


@pytest.mark.parametrize("seed", [-1, 2**32, "x", "1.5"])
def test_what_is_no_seed_is_none(seed: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for side in SIDES:
        monkeypatch.setenv("PL_SEED_WORKERS", "0")
        with pytest.raises(ValueError, match=r"."):
            drawn(side, seed)


@pytest.mark.parametrize("norm_type", [1, 2, "2", 1.5, "inf"])
def test_norms_have_the_same_names_and_values(norm_type: Any) -> None:
    layer = nn.Linear(3, 2)
    layer(torch.ones(1, 3)).pow(2).sum().backward()
    ours, theirs = (side.grad_norm(layer, norm_type, group_separator=".") for side in (lx.utilities, THEIRS))
    assert list(ours) == list(theirs)
    torch.testing.assert_close(ours, theirs)


def test_flops_and_shared_parameters_are_the_same() -> None:
    net, x = model("lx").eval(), torch.zeros(2, 3, 6, 6)
    for loss in (None, torch.sum):
        assert lx.utilities.measure_flops(net, lambda: net(x), loss) == FABRIC.measure_flops(net, lambda: net(x), loss)
    assert lx.utilities.find_shared_parameters(net) == THEIRS.find_shared_parameters(net)
    assert [lx.utilities.suggested_max_num_workers(n) for n in range(1, 9)] == [THEIRS.suggested_max_num_workers(n) for n in range(1, 9)]


@pytest.mark.parametrize(
    "arguments", [{}, {"window_size": 2}, {"window_size": 3, "available_flops": 70, "world_size": 2, "separator": "."}]
)
def test_throughput_is_the_same(arguments: dict[str, Any]) -> None:
    ours, theirs = lx.utilities.Throughput(**arguments), FABRIC.Throughput(**arguments)
    for number in range(1, 6):
        told = {"time": number**1.5, "batches": number, "samples": 3 * number, "lengths": 7 * number**2, "flops": 10 * number}
        ours.update(**told)
        theirs.update(**told)
        assert ours.compute() == pytest.approx(theirs.compute())


class Monitored:
    """What a logger got of a run with a ThroughputMonitor: steps, names, and the numbers that are no times."""

    def __init__(self, side: str, root: Any, fn: str, **settings: Any) -> None:
        world = World(side, root)
        rows: list[Any] = []

        class Log(world.api.loggers.Logger):  # type: ignore[misc, name-defined]
            name, version, experiment = "log", 0, None

            def log_metrics(self, metrics: Any, step: Any = None) -> None:
                counted = {name: value for name, value in metrics.items() if name.endswith(("batches", "samples", "lengths", "epoch"))}
                rows.append((step, sorted(metrics), counted))

            def log_hyperparams(self, *args: Any, **kwargs: Any) -> None: ...

        demos = importlib.import_module("lx.demos" if side == "lx" else "lightning.pytorch.demos.boring_classes")
        with quiet(side):
            monitor = world.callback("ThroughputMonitor", batch_size_fn=len, length_fn=lambda batch: 5 * len(batch), window_size=2)
            trainer = world.trainer(logger=Log(), callbacks=[monitor], enable_checkpointing=False, **settings)
            getattr(trainer, fn)(demos.BoringModel())
        self.rows = rows


@pytest.mark.parametrize(
    ("fn", "settings"),
    [
        ("fit", {"max_epochs": 1, "limit_train_batches": 6, "limit_val_batches": 2, "log_every_n_steps": 2}),
        ("fit", {"max_epochs": 1, "limit_train_batches": 6, "limit_val_batches": 4, "log_every_n_steps": 1, "val_check_interval": 3}),
        ("fit", {"max_epochs": 2, "limit_train_batches": 6, "limit_val_batches": 0, "log_every_n_steps": 3, "accumulate_grad_batches": 2}),
        ("validate", {"limit_val_batches": 4, "log_every_n_steps": 2}),
        ("test", {"limit_test_batches": 4, "log_every_n_steps": 1}),
        ("predict", {"limit_predict_batches": 4, "log_every_n_steps": 2}),
    ],
)
def test_a_monitor_logs_the_same_at_the_same_steps(fn: str, settings: dict[str, Any], tmp_path: Any) -> None:
    ours, theirs = (Monitored(side, tmp_path, fn, **settings).rows for side in SIDES)
    assert ours
    assert ours == theirs
