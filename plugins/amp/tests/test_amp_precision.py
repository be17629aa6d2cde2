from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.amp import GradScaler

from lx.kernel.errors import MisconfigurationException
from lx.testing.conformance.component import build
from lx.testing.conformance.precision import PrecisionConformance
from lx_plugin_amp.precision import MixedPrecision

CPU = torch.device("cpu")


class TestBFloat16(PrecisionConformance):
    component = "bf16-mixed"


class TestFloat16WithoutAScaler(PrecisionConformance):
    component = "16-mixed"


class TestFloat16(PrecisionConformance):
    """With a scaler of its own, float16 is kept on the CPU too, so that scaling can be tested without a GPU."""

    component = "16-mixed"

    def build(self, **extra: Any) -> Any:
        return super().build(scaler=GradScaler("cpu", init_scale=2.0**10, growth_interval=4))


def scaled(**options: Any) -> MixedPrecision:
    """`16-mixed` on the CPU."""
    precision = MixedPrecision("16-mixed", scaler=GradScaler("cpu", **{"init_scale": 1024.0, **options}))
    precision.connect(CPU)
    return precision


def parameter(value: float = 1.0) -> nn.Parameter:
    return nn.Parameter(torch.tensor([value]))


def test_aliases() -> None:
    assert build("16", "precision").precision == "16-mixed"
    assert build("bf16", "precision").precision == "bf16-mixed"


def test_forward_runs_in_16_bits_and_parameters_keep_32() -> None:
    precision = MixedPrecision("bf16-mixed", device="cpu")
    layer = precision.convert_module(nn.Linear(2, 1))
    with precision.forward_context():
        output = layer(torch.ones(1, 2))
    assert (output.dtype, layer.weight.dtype) == (torch.bfloat16, torch.float32)
    with scaled().forward_context():
        assert layer(torch.ones(1, 2)).dtype is torch.float16


def test_float16_on_the_cpu_becomes_bfloat16() -> None:
    precision = MixedPrecision("16-mixed")
    assert precision.capabilities.scales_loss
    with pytest.warns(UserWarning, match="precision='16-mixed': float16 gains nothing on the CPU.*'bf16-mixed'"):
        precision.connect(CPU)
    assert (precision.precision, precision.scaler) == ("bf16-mixed", None)
    assert not precision.capabilities.scales_loss
    with precision.forward_context():
        assert nn.Linear(2, 1)(torch.ones(1, 2)).dtype is torch.bfloat16
    precision.connect(CPU)  # of a second run, without another warning


def test_a_scaler_is_made_for_a_gpu() -> None:
    precision = MixedPrecision("16-mixed")
    precision.connect(torch.device("mps"))
    made = precision.scaler
    assert isinstance(made, GradScaler)
    assert (precision.device, precision.precision) == ("mps", "16-mixed")
    precision.connect(torch.device("mps"))
    assert precision.scaler is made, "a second run must go on with the scale that was found"


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match="precision='32-true': MixedPrecision takes '16-mixed' or 'bf16-mixed'"):
        MixedPrecision("32-true")
    with pytest.raises(MisconfigurationException, match="scaler was given with precision='bf16-mixed'"):
        MixedPrecision("bf16-mixed", scaler=GradScaler("cpu"))
    with pytest.raises(MisconfigurationException, match="made for device='cuda', and the run is on 'cpu'"):
        MixedPrecision("bf16-mixed", device="cuda").connect(CPU)
    with pytest.raises(RuntimeError, match="does not know its device"):
        MixedPrecision("bf16-mixed").forward_context()


def test_gradients_are_scaled_until_they_are_unscaled() -> None:
    precision, weight = scaled(), parameter()
    optimizer = torch.optim.SGD([weight], lr=1.0)
    precision.backward((weight * 3).sum())
    assert weight.grad.tolist() == [3 * 1024.0]  # type: ignore[union-attr]
    precision.unscale_gradients(optimizer)
    assert weight.grad.tolist() == [3.0]  # type: ignore[union-attr]
    nn.utils.clip_grad_norm_([weight], 1.0)
    precision.optimizer_step(optimizer)
    assert weight.tolist() == pytest.approx([0.0], abs=1e-5)


@pytest.mark.parametrize("fused", [False, True])
def test_a_fused_optimizer_can_be_clipped(fused: bool) -> None:
    precision, weight = scaled(), parameter()
    optimizer = torch.optim.SGD([weight], lr=1.0, fused=fused)
    precision.backward((weight * 8).sum())
    precision.unscale_gradients(optimizer)
    nn.utils.clip_grad_value_([weight], 0.5)
    precision.optimizer_step(optimizer)
    assert weight.tolist() == [0.5]


def test_a_step_that_overflows_is_left_out() -> None:
    precision, weight = scaled(), parameter()
    optimizer = torch.optim.SGD([weight], lr=1.0)
    for factor, expected in ((float("inf"), 1.0), (0.25, 0.75)):
        optimizer.zero_grad()
        loss = precision.optimizer_step(optimizer, closure_of(precision, lambda factor=factor: (weight * factor).sum()))  # type: ignore[misc]
        assert loss.item() == pytest.approx(factor)
        assert weight.tolist() == [expected]
    assert precision.state_dict()["scale"] == 512.0


def closure_of(precision: MixedPrecision, loss: Callable[[], Tensor]) -> Callable[[], Tensor]:
    def closure() -> Tensor:
        value = loss()
        precision.backward(value)
        return value

    return closure


def test_optimizers_that_step_after_one_backward_unscale_alike() -> None:
    precision = scaled(growth_interval=1)
    first, second = parameter(), parameter()
    optimizers = [torch.optim.SGD([weight], lr=1.0) for weight in (first, second)]
    for _ in range(3):
        for optimizer in optimizers:
            optimizer.zero_grad()
        precision.backward((first * 0.125 + second * 0.125).sum())
        for optimizer in optimizers:
            precision.optimizer_step(optimizer)
    assert first.tolist() == second.tolist() == [1 - 3 * 0.125]
    assert precision.state_dict()["scale"] == 1024.0 * 2**3


def test_two_backwards_before_two_steps() -> None:
    precision = scaled()
    first, second = parameter(), parameter()
    optimizers = [torch.optim.SGD([weight], lr=1.0) for weight in (first, second)]
    for weight, optimizer in zip((first, second), optimizers, strict=True):
        precision.backward((weight * 0.125).sum())
        precision.unscale_gradients(optimizer)
    for optimizer in optimizers:
        precision.optimizer_step(optimizer)
    assert first.tolist() == second.tolist() == [1 - 0.125]


def test_a_step_that_the_caller_leaves_out() -> None:
    precision, weight = scaled(), parameter()
    optimizer = torch.optim.SGD([weight], lr=1.0)
    precision.backward((weight * 0.5).sum())
    precision.unscale_gradients(optimizer)  # and no step
    optimizer.zero_grad()
    precision.backward((weight * 0.125).sum())
    precision.unscale_gradients(optimizer)
    assert weight.grad.tolist() == [0.125]  # type: ignore[union-attr]
    precision.optimizer_step(optimizer)
    assert weight.tolist() == [1 - 0.125]


def test_gradients_accumulate_under_one_scale() -> None:
    precision, weight = scaled(growth_interval=1), parameter()
    optimizer = torch.optim.SGD([weight], lr=1.0)
    for _ in range(2):
        optimizer.zero_grad()
        precision.backward((weight * 0.125).sum())
        precision.optimizer_step(optimizer, closure_of(precision, lambda: (weight * 0.125).sum()))
    assert weight.tolist() == [1 - 4 * 0.125]


def test_an_optimizer_that_demands_a_closure() -> None:
    weight = parameter()
    optimizer = torch.optim.LBFGS([weight])
    with pytest.raises(MisconfigurationException, match=r"LBFGS .* precision='16-mixed' cannot be used"):
        scaled().optimizer_step(optimizer, lambda: None)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = (weight - 3).pow(2).sum()
        precision.backward(loss)
        return loss

    precision = MixedPrecision("bf16-mixed", device="cpu")
    precision.optimizer_step(optimizer, closure)
    assert weight.item() == pytest.approx(3.0)


def test_a_scaler_that_is_switched_off_changes_nothing() -> None:
    precision, weight = scaled(enabled=False), parameter()
    optimizer = torch.optim.SGD([weight], lr=1.0)
    for _ in range(2):
        optimizer.zero_grad()
        precision.backward((weight * 0.25).sum())
        precision.unscale_gradients(optimizer)
        precision.optimizer_step(optimizer)
    assert weight.tolist() == [0.5]
    assert precision.state_dict() == {}


def test_state_between_the_two_precisions() -> None:
    state = scaled().state_dict()
    assert state["scale"] == 1024.0
    mixed = MixedPrecision("bf16-mixed", device="cpu")
    mixed.load_state_dict(state)
    assert mixed.state_dict() == {}
    other = scaled(init_scale=8.0)
    other.load_state_dict({})
    assert other.state_dict()["scale"] == 8.0
    other.load_state_dict(state)
    assert other.state_dict() == state
