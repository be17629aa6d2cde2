"""The conformance suite of the precisions."""

import io
import warnings
from collections import namedtuple
from typing import Any, ClassVar

import pytest
import torch
from torch import nn
from torch.optim import Optimizer

from lx.interfaces.precision import Precision, PrecisionCapabilities
from lx.kernel import Entry, normalise
from lx.testing.conformance.component import Conformance

Pair = namedtuple("Pair", ["x", "y"])
CONTEXTS = ("forward_context", "tensor_init_context", "module_init_context")
CLOSE = 0.05
"""How far a gradient may be from the one in float64, relative to its norm: an eight-bit mantissa and a few sums."""


class PrecisionConformance(Conformance):
    """The suite of the precisions: a small model is trained on `device` under one; a subclass sets `component`.

    >>> class TestBFloat16(PrecisionConformance):
    ...     component = "bf16-true"
    """

    kind = "precision"
    device: ClassVar[torch.device] = torch.device("cpu")

    def connected(self, built: Precision) -> Precision:
        """The precision, told its device."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it may say that it is of little use there
            built.connect(self.device)
        return built

    def model(self, precision: Precision) -> nn.Module:
        """A small model, the same each time, converted."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
        return precision.convert_module(model).to(self.device)

    def batch(self) -> tuple[torch.Tensor, torch.Tensor]:
        """16 inputs of 4 features, and a function of them."""
        x = torch.randn(16, 4, generator=torch.Generator().manual_seed(1))
        return x.to(self.device), (x.sum(1, keepdim=True) / 4).to(self.device)

    def loss(self, precision: Precision, model: nn.Module, factor: float = 1.0) -> torch.Tensor:
        """The loss of the model, as the engine computes it."""
        x, y = precision.convert_input(self.batch())
        with precision.forward_context():
            return nn.functional.mse_loss(model(x), y) * factor

    def step(self, precision: Precision, model: nn.Module, optimizer: Optimizer) -> Any:
        """One step with a closure, as the engine takes it."""

        def closure() -> torch.Tensor:
            loss = self.loss(precision, model)
            optimizer.zero_grad()
            precision.backward(loss)
            precision.unscale_gradients(optimizer)
            return loss

        return precision.optimizer_step(optimizer, closure)

    def test_is_called_what_it_is_registered_as(self, built: Precision, entry: Entry) -> None:
        assert normalise(built.precision) == entry.spellings[0]
        assert isinstance(built.capabilities, PrecisionCapabilities)

    def test_learns(self, built: Precision) -> None:
        precision = self.connected(built)
        model = self.model(precision)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        losses = [self.step(precision, model, optimizer).item() for _ in range(60)]
        assert losses[-1] < 0.5 * losses[0], f"the loss went from {losses[0]} to {losses[-1]} only"
        assert all(parameter.isfinite().all() for parameter in model.parameters())

    def test_gradients_are_right_once_unscaled(self, built: Precision) -> None:
        precision = self.connected(built)
        reference = self.model(Precision()).double()
        x, y = self.batch()
        (nn.functional.mse_loss(reference(x.double()), y.double()) * 0.01).backward()
        model = self.model(precision)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        precision.backward(self.loss(precision, model, 0.01))  # small, so that a scaled one does not overflow
        precision.unscale_gradients(optimizer)
        once = [_gradient(parameter) for parameter in model.parameters()]
        for got, parameter in zip(once, reference.parameters(), strict=True):
            wanted = _gradient(parameter)
            assert (got - wanted).norm() <= CLOSE * wanted.norm(), "the gradients are not those of the loss"
        precision.unscale_gradients(optimizer)
        twice = [_gradient(parameter) for parameter in model.parameters()]
        assert all(map(torch.equal, once, twice)), "unscaling a second time changed the gradients"

    def test_scales_the_loss_if_it_declares_so(self, built: Precision) -> None:
        precision = self.connected(built)
        if precision.capabilities.scales_loss:
            assert precision.state_dict(), "it scales the loss, and keeps nothing of that for a checkpoint"
            return
        model = self.model(precision)
        loss = self.loss(precision, model)
        assert precision.scale_loss(loss) is loss
        precision.backward(loss)
        before = [_gradient(parameter) for parameter in model.parameters()]
        precision.unscale_gradients(torch.optim.SGD(model.parameters(), lr=0.1))
        assert all(map(torch.equal, before, map(_gradient, model.parameters()))), "it declares that gradients are never scaled"

    def test_runs_a_closure_once(self, built: Precision) -> None:
        precision = self.connected(built)
        model = self.model(precision)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        seen = []

        def closure() -> str:
            seen.append(torch.is_grad_enabled())
            precision.backward(self.loss(precision, model))
            return "the result"

        with torch.no_grad():
            assert precision.optimizer_step(optimizer, closure) == "the result"
        assert seen == [True], "the closure must run once, with gradients enabled"

    def test_steps_without_a_closure(self, built: Precision) -> None:
        precision = self.connected(built)
        model = self.model(precision)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
        before = [parameter.detach().clone() for parameter in model.parameters()]
        precision.backward(self.loss(precision, model, 0.5))
        precision.optimizer_step(optimizer)
        assert not any(map(torch.equal, before, model.parameters())), "the step left parameters as they were"

    def test_a_step_without_gradients_changes_nothing(self, built: Precision) -> None:
        precision = self.connected(built)
        model = self.model(precision)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        before = [parameter.detach().clone() for parameter in model.parameters()]
        precision.unscale_gradients(optimizer)
        precision.optimizer_step(optimizer, lambda: None)
        precision.optimizer_step(optimizer)
        assert all(map(torch.equal, before, model.parameters()))

    def test_input_keeps_its_structure(self, built: Precision) -> None:
        precision = self.connected(built)
        x, index, flag = torch.ones(2), torch.arange(2), torch.tensor([True])
        data = {"pair": Pair(x, [index]), "rest": (flag, "text", None, 3)}
        converted = precision.convert_input(data)
        assert type(converted["pair"]) is Pair
        assert converted["pair"].x.is_floating_point()
        assert converted["pair"].y[0].dtype is torch.int64
        assert converted["rest"][0].dtype is torch.bool
        assert converted["rest"][1:] == ("text", None, 3)
        assert data["pair"][0] is x, "the input itself was changed"
        assert x.dtype is torch.float32, "the input itself was changed"

    def test_output_is_in_the_default_dtype(self, built: Precision) -> None:
        precision = self.connected(built)
        model = self.model(precision)
        with precision.forward_context():
            output = {"prediction": model(precision.convert_input(self.batch()[0])), "index": torch.arange(2)}
        converted = precision.convert_output(output)
        assert converted["prediction"].dtype is torch.get_default_dtype()
        assert converted["index"].dtype is torch.int64

    def test_modules_are_made_as_they_are_converted(self, built: Precision) -> None:
        precision = self.connected(built)
        with precision.module_init_context():
            made = nn.Linear(2, 2)
        converted = precision.convert_module(nn.Linear(2, 2))
        assert {parameter.dtype for parameter in made.parameters()} == {parameter.dtype for parameter in converted.parameters()}

    def test_contexts_leave_nothing_behind(self, built: Precision) -> None:
        precision = self.connected(built)
        before = self.globals()
        for name in CONTEXTS:
            with getattr(precision, name)(), getattr(precision, name)():
                torch.ones(1)
            assert self.globals() == before, f"{name} leaves something behind"
            with pytest.raises(ZeroDivisionError), getattr(precision, name)():
                raise ZeroDivisionError
            assert self.globals() == before, f"{name} leaves something behind after an exception"

    def test_teardown_restores_what_is_global(self, built: Precision) -> None:
        before = self.globals()
        try:
            precision = self.connected(built)
            model = self.model(precision)
            self.step(precision, model, torch.optim.SGD(model.parameters(), lr=0.1))
            precision.teardown()
            precision.teardown()
            assert self.globals() == before
        finally:
            torch.set_default_dtype(before[0])  # what a faulty precision left would fail the tests that follow

    def test_state_goes_through_a_file(self, built: Precision) -> None:
        precision = self.connected(built)
        model = self.model(precision)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for _ in range(3):
            self.step(precision, model, optimizer)
        state = precision.state_dict()
        file = io.BytesIO()
        torch.save(state, file)
        file.seek(0)
        other = self.connected(self.build())
        other.load_state_dict(torch.load(file, weights_only=True))
        assert other.state_dict() == state == precision.state_dict()
        self.step(other, model, optimizer)

    def globals(self) -> tuple[Any, ...]:
        """What a precision might change for the whole process; the default dtype comes first."""
        return (
            torch.get_default_dtype(),
            torch.is_autocast_enabled(self.device.type),
            torch.is_grad_enabled(),
            torch.backends.cuda.matmul.fp32_precision,
        )


def _gradient(parameter: nn.Parameter) -> torch.Tensor:
    assert parameter.grad is not None, "a parameter has no gradient"
    return parameter.grad.detach().double().clone()
