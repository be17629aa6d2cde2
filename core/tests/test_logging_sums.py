"""Means and sums over an epoch lose nothing, however many values there are, and whatever they weigh."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from lx import LightningModule, Trainer
from lx.kernel import PluginManager
from lx.logging.meters import CHUNK, Meter, Settings, reduce_meters

MILLION = 1_000_000


def meter(reduce: str = "mean", exact: torch.dtype = torch.float64) -> Meter:
    shown = {"on_step": False, "on_epoch": True, "prog_bar": False, "logger": True, "sync": False}
    return Meter("loss", (), Settings(**shown, reduce=reduce, group=None, dataloader_idx=None, keep_graph=False, exact=exact))


def value_of(one: Meter) -> float:
    reduce_meters([one], lambda row, group: row, 1)
    assert one.value is not None
    return one.value.item()


def fill(one: Meter, values: Tensor, weights: list[float] | None = None) -> None:
    """Takes values up as steps do, but in whole chunks, for speed."""
    one.seen = True
    for start in range(0, len(values), CHUNK):
        one._chunk = values[start : start + CHUNK]
        one._weights = [1.0] * len(one._chunk) if weights is None else weights[start : start + CHUNK]
        one.fold()


@pytest.mark.parametrize("exact", [torch.float64, torch.float32], ids=["float64", "float32"])
def test_a_million_values(exact: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    values = torch.rand(MILLION, generator=generator) * torch.logspace(4, -4, MILLION)  # a loss that falls
    one = meter(exact=exact)
    fill(one, values)
    expected = math.fsum(values.tolist()) / MILLION
    assert value_of(one) == pytest.approx(expected, rel=2e-7 if exact is torch.float32 else 6e-8)


@pytest.mark.parametrize("exact", [torch.float64, torch.float32], ids=["float64", "float32"])
def test_a_million_small_values_beside_a_large_one(exact: torch.dtype) -> None:
    values = torch.full((MILLION,), 0.001)
    values[0] = 1e6
    one = meter("sum", exact)
    fill(one, values)
    assert value_of(one) == pytest.approx(math.fsum(values.tolist()), rel=3e-7)


@pytest.mark.parametrize("exact", [torch.float64, torch.float32], ids=["float64", "float32"])
def test_a_million_weights(exact: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(1)
    values, sizes = torch.rand(MILLION, generator=generator), torch.randint(1, 64, (MILLION,), generator=generator)
    one = meter(exact=exact)
    fill(one, values, sizes.tolist())
    expected = math.fsum(value * size for value, size in zip(values.tolist(), sizes.tolist(), strict=True)) / int(sizes.sum())
    assert one.weight == int(sizes.sum())
    assert value_of(one) == pytest.approx(expected, rel=2e-7)


@pytest.mark.parametrize("exact", [torch.float64, torch.float32], ids=["float64", "float32"])
def test_what_a_checkpoint_holds_goes_on(exact: torch.dtype) -> None:
    values = torch.rand(5000, generator=torch.Generator().manual_seed(2))
    whole, first, second = meter(exact=exact), meter(exact=exact), meter(exact=exact)
    for value in values:
        whole.record(value, 3)
    for value in values[:2560]:
        first.record(value, 3)
    first.fold()
    second.take_over(first)
    for value in values[2560:]:
        second.record(value, 3)
    assert value_of(second) == value_of(whole)


class Weighted(LightningModule):
    """Logs a mean over the tokens of each batch, which has as many as its number says; of none, the mean is no number."""

    def __init__(self, sizes: list[int], kind: Any) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(()))
        self.sizes, self.kind = sizes, kind

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        size = self.sizes[batch_idx]
        values = torch.arange(float(size)) + batch_idx
        self.log("value", values.mean(), on_epoch=True, batch_size=self.kind(size))
        return self.weight * 1.0

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1)


@pytest.mark.parametrize("kind", [int, float, torch.tensor])
@pytest.mark.parametrize("sizes", [[3, 1, 5], [0, 2, 7], [4, 0, 0], [2, 2, 2]])
def test_the_epoch_value_is_the_mean_over_all_items(plugin_manager: PluginManager, sizes: list[int], kind: Any) -> None:
    trainer = Trainer(manager=plugin_manager, max_epochs=1, logger=False, enable_checkpointing=False)
    trainer.fit(Weighted(sizes, kind), [torch.zeros(9, 1)] * 3)
    expected = torch.cat([torch.arange(float(size)) + place for place, size in enumerate(sizes)]).mean()
    torch.testing.assert_close(trainer.callback_metrics["value_epoch"], expected)


def test_the_mean_over_nothing_is_no_number(plugin_manager: PluginManager) -> None:
    trainer = Trainer(manager=plugin_manager, max_epochs=1, logger=False, enable_checkpointing=False)
    trainer.fit(Weighted([0, 0], int), [torch.zeros(9, 1)] * 2)
    assert trainer.callback_metrics["value_epoch"].isnan()
