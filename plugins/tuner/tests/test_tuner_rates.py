"""Learning rates that are moved together, and schedules that go on from there."""

import pytest
import torch
from torch.optim import SGD, Adam
from torch.optim.lr_scheduler import CosineAnnealingLR, CyclicLR, ExponentialLR, LambdaLR, OneCycleLR, StepLR

from lx.kernel.errors import MisconfigurationException
from lx_plugin_tuner.rates import Rates


def optimizer_of(*rates, kind=SGD):
    return kind([{"params": [torch.nn.Parameter(torch.ones(1))], "lr": rate} for rate in rates])


def rates_of(*optimizers):
    return [float(group["lr"]) for optimizer in optimizers for group in optimizer.param_groups]


@pytest.mark.parametrize(
    ("held", "ratios"),
    [
        (0.1, [1.0, 4.0, 0.1]),
        (0.01, [10.0, 40.0, 1.0]),
        (7.0, [0.25, 1.0, 0.025]),  # nobody has it, so the largest leads
        (None, [0.25, 1.0, 0.025]),
    ],
)
def test_every_rate_keeps_its_ratio_to_the_one_that_is_held(held, ratios):
    optimizers = [optimizer_of(0.1, 0.4), optimizer_of(0.01, kind=Adam)]
    Rates(optimizers, held).set(2.0)
    assert rates_of(*optimizers) == pytest.approx([2 * ratio for ratio in ratios])


def test_a_warm_up_hides_no_rate():
    optimizer = optimizer_of(0.1, 0.2)
    LambdaLR(optimizer, lambda step: 0.0)
    rates = Rates([optimizer], 0.1)
    rates.set(1.0)
    assert rates_of(optimizer) == [1.0, 2.0]


def test_a_rate_may_be_a_tensor_or_nothing():
    optimizer = Adam([torch.nn.Parameter(torch.ones(1))], lr=torch.tensor(0.5))
    tensor = optimizer.param_groups[0]["lr"]
    Rates([optimizer], 0.5).set(2.0)
    assert optimizer.param_groups[0]["lr"] is tensor
    assert tensor.item() == 2.0
    resting = optimizer_of(0.0)
    Rates([resting], None).adopt(0.3, [])
    assert rates_of(resting) == [0.3]


@pytest.mark.parametrize(("optimizers", "message"), [([], "no optimizer"), ([optimizer_of(0.1)], "lr=None")])
def test_without_a_rate_there_is_nothing_to_find(optimizers, message):
    for optimizer in optimizers:
        optimizer.param_groups[0]["lr"] = None
    with pytest.raises(MisconfigurationException, match=message):
        Rates(optimizers, None)


@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step")
@pytest.mark.parametrize(
    "schedule",
    [
        lambda optimizer: StepLR(optimizer, 3, 0.5),
        lambda optimizer: ExponentialLR(optimizer, 0.9),
        lambda optimizer: LambdaLR(optimizer, lambda step: 1 / (step + 1)),
        lambda optimizer: CosineAnnealingLR(optimizer, 20),
        lambda optimizer: OneCycleLR(optimizer, [0.1, 0.2], total_steps=20),
        lambda optimizer: CyclicLR(optimizer, [0.1, 0.2], [0.5, 1.0], 4, cycle_momentum=False),
    ],
)
def test_a_schedule_goes_on_in_proportion(schedule):
    def go_on(factor):
        optimizer = SGD([{"params": [torch.nn.Parameter(torch.ones(1))], "lr": rate} for rate in (0.1, 0.2)], momentum=0.9)
        scheduler = schedule(optimizer)
        rates, seen = Rates([optimizer], None), []
        for _ in range(4):
            scheduler.step()
        rates.adopt(factor * max(rates_of(optimizer)), [scheduler])
        for _ in range(10):
            seen.append(rates_of(optimizer))
            scheduler.step()
        return seen

    assert go_on(3.0) == [pytest.approx([3 * rate for rate in rates]) for rates in go_on(1.0)]
