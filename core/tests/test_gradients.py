"""Norms of gradients, and the operations that a model takes."""

import math

import pytest
import torch
from torch import nn

from lx.measures.flops import measure_flops
from lx.measures.gradients import grad_norm


def trained():
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    model[0].weight.grad = torch.tensor([[3.0, 4.0], [0.0, 0.0], [0.0, 0.0]])
    model[1].bias.grad = torch.tensor([-12.0])
    return model


@pytest.mark.parametrize(
    ("norm_type", "key", "norms"),
    [
        (2, "2.0", (5.0, 12.0, 13.0)),
        ("2", "2.0", (5.0, 12.0, 13.0)),
        (1, "1.0", (7.0, 12.0, 19.0)),
        ("inf", "inf", (4.0, 12.0, 12.0)),
        (math.inf, "inf", (4.0, 12.0, 12.0)),
    ],
)
def test_norms_by_parameter_and_of_all(norm_type, key, norms):
    found = grad_norm(trained(), norm_type)
    assert {name: value.item() for name, value in found.items()} == pytest.approx(
        dict(zip([f"grad_{key}_norm/0.weight", f"grad_{key}_norm/1.bias", f"grad_{key}_norm_total"], norms, strict=True))
    )
    assert all(isinstance(value, torch.Tensor) and not value.ndim for value in found.values())


def test_the_separator_and_what_has_no_gradient():
    assert next(iter(grad_norm(trained(), 1.5, group_separator="."))) == "grad_1.5_norm.0.weight"
    assert grad_norm(nn.Linear(2, 2), 2) == {}


def test_gradients_of_half_precision_are_added_up_in_float32():
    model = nn.Linear(1, 1).half()
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, 60000.0)
    assert grad_norm(model, 1)["grad_1.0_norm_total"].item() == 120000.0


@pytest.mark.parametrize("norm_type", [0, -1, "two", None, math.nan])
def test_other_norms_are_refused(norm_type):
    with pytest.raises(ValueError, match=r"norm_type=.*positive number, or 'inf'"):
        grad_norm(trained(), norm_type)


def test_flops_of_forward_and_backward():
    with torch.device("meta"):
        model, x = nn.Sequential(nn.Linear(10, 5), nn.ReLU(), nn.Linear(5, 1)), torch.randn(2, 10)
    forward = 2 * 2 * (10 * 5 + 5 * 1)
    assert measure_flops(model, lambda: model(x)) == forward
    assert measure_flops(model, lambda: model(x), torch.sum) == 2 * forward + 2 * 2 * 5 * 1  # the input needs no gradient


def test_measuring_leaves_no_trace():
    model = nn.Sequential(nn.Linear(4, 4), nn.Dropout(), nn.Linear(4, 1))
    model(torch.ones(2, 4)).sum().backward()
    before, state = [parameter.grad.clone() for parameter in model.parameters()], torch.get_rng_state()
    with torch.no_grad():  # which does not keep the backward from being measured
        measure_flops(model, lambda: model(torch.ones(2, 4)), torch.sum)
    assert all(torch.equal(parameter.grad, gradient) for parameter, gradient in zip(model.parameters(), before, strict=True))
    assert torch.equal(torch.get_rng_state(), state)
    with pytest.raises(RuntimeError):
        measure_flops(model, lambda: model(torch.ones(2, 3)), torch.sum)
    assert all(parameter.grad is not None for parameter in model.parameters())
