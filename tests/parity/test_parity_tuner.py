"""What the two libraries find for the same model and data, by learning rate and by batch size."""

import logging
from typing import Any

import pytest
import torch
from sides import SIDES, World, quiet
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

ROWS = torch.randn(256, 4, generator=torch.Generator().manual_seed(3))
OUT_OF_MEMORY = "CUDA out of memory. Tried to allocate 2.00 GiB."


def model_of(side: str, fits: float) -> Any:
    """A model that learns a sum, and runs out of memory with batches of more than `fits` rows."""

    class Net(SIDES[side].LightningModule):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(5)
            self.layers = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 1))
            self.lr, self.batch_size = 0.01, 2

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            (rows,) = batch
            if len(rows) > fits:
                raise RuntimeError(OUT_OF_MEMORY)
            return (self.layers(rows) - rows.sum(1, keepdim=True)).square().mean()

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=self.lr, momentum=0.9)

        def train_dataloader(self) -> Any:
            return DataLoader(TensorDataset(ROWS), batch_size=self.batch_size, shuffle=True)

    return Net()


def tuner_of(world: World, **options: Any) -> Any:
    logging.getLogger("lightning.pytorch.tuner").setLevel(logging.ERROR)
    trainer = world.trainer(max_epochs=1, enable_checkpointing=False, **options)
    if world.side == "lx":
        from lx.tuner import Tuner
    else:
        from lightning.pytorch.tuner import Tuner
    return Tuner(trainer)


@pytest.mark.parametrize(
    ("options", "stops"),
    [
        ({"num_training": 100}, True),
        ({"num_training": 30, "mode": "linear", "early_stop_threshold": None, "max_lr": 0.05}, False),
        ({"num_training": 60, "min_lr": 1e-4, "max_lr": 10}, True),
    ],
    ids=["by default", "linear", "up to where it diverges"],
)
def test_the_curve_and_the_suggestion_are_those_of_lightning(tmp_path, options, stops):
    found = {}
    for side in SIDES:
        with quiet(side):
            model = model_of(side, float("inf"))
            before = [weight.tolist() for weight in model.parameters()]
            torch.manual_seed(11)
            curve = tuner_of(World(side, tmp_path)).lr_find(model, **options)
            assert [weight.tolist() for weight in model.parameters()] == before
            found[side] = curve.results["lr"], curve.results["loss"], curve.suggestion(), curve.suggestion(5, 3), model.lr
    for ours, theirs in zip(found["lx"], found["lightning"], strict=True):
        assert ours == pytest.approx(theirs, rel=1e-5)
    assert found["lx"][2] is not None
    assert (len(found["lx"][0]) < options["num_training"]) is stops


@pytest.mark.parametrize(
    ("options", "fits"),
    [
        ({"max_trials": 4}, float("inf")),
        ({"max_trials": 4, "mode": "binsearch"}, float("inf")),
        ({}, 20),
        ({"mode": "binsearch"}, 20),
        ({"mode": "binsearch", "margin": 0.3}, 37),
        ({"init_val": 3}, 37),
        ({"max_val": 64}, float("inf")),
        ({}, float("inf")),  # the data set has as many rows as a power of two
    ],
)
def test_the_batch_size_is_that_of_lightning(tmp_path, options, fits):
    found = {}
    for side in SIDES:
        with quiet(side):
            model = model_of(side, fits)
            found[side] = tuner_of(World(side, tmp_path)).scale_batch_size(model, **options), model.batch_size
    assert found["lx"] == found["lightning"]
    if options == {"max_trials": 4}:
        assert found["lx"] == (16, 16)
