"""The suite of the precisions: the neutral one passes, and each fault is found by the test that is there for it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pickle import UnpicklingError
from typing import Any, ClassVar

import pytest
import torch
from torch import nn
from torch.optim import Optimizer

from lx.interfaces.precision import Precision, PrecisionCapabilities
from lx.kernel import Entry
from lx.testing.conformance.precision import PrecisionConformance


class TestNeutral(PrecisionConformance):
    component = "32-true"


class Scaling(Precision):
    """A whole one that scales by a constant."""

    capabilities = PrecisionCapabilities(scales_loss=True)
    factor = 128.0
    unscaled = False

    def scale_loss(self, loss: torch.Tensor) -> torch.Tensor:
        self.unscaled = False
        return loss * self.factor

    def unscale_gradients(self, optimizer: Optimizer) -> None:
        if not self.unscaled:
            for group in optimizer.param_groups:
                for parameter in group["params"]:
                    if parameter.grad is not None:
                        parameter.grad /= self.factor
        self.unscaled = True

    def optimizer_step(self, optimizer: Optimizer, closure: Callable[[], Any] | None = None) -> Any:
        result = None
        if closure is not None:
            with torch.enable_grad():
                result = closure()
        self.unscale_gradients(optimizer)
        optimizer.step()
        return result

    def state_dict(self) -> dict[str, Any]:
        return {"factor": self.factor}


class TestScaling(PrecisionConformance):
    component = "32-true"

    def build(self, **extra: Any) -> Any:
        return Scaling()


class CalledOtherwise(Precision):
    precision = "other"


class NeverSteps(Precision):
    def optimizer_step(self, optimizer: Optimizer, closure: Callable[[], Any] | None = None) -> Any:
        return closure() if closure is not None else None


class StaysScaled(Scaling):
    def unscale_gradients(self, optimizer: Optimizer) -> None:
        pass


class UnscalesEachTime(Scaling):
    def unscale_gradients(self, optimizer: Optimizer) -> None:
        self.unscaled = False
        super().unscale_gradients(optimizer)


class ScalesUndeclared(Scaling):
    capabilities = PrecisionCapabilities()


class ForgetsItsScale(Scaling):
    def state_dict(self) -> dict[str, Any]:
        return {}


class ClosesTwice(Precision):
    def optimizer_step(self, optimizer: Optimizer, closure: Callable[[], Any] | None = None) -> Any:
        if closure is not None:
            with torch.enable_grad():
                closure()
        return super().optimizer_step(optimizer, closure)


class ClosesWithoutGradients(Precision):
    def optimizer_step(self, optimizer: Optimizer, closure: Callable[[], Any] | None = None) -> Any:
        result = None if closure is None else closure()
        optimizer.step()
        return result


class LosesTheResult(Precision):
    def optimizer_step(self, optimizer: Optimizer, closure: Callable[[], Any] | None = None) -> Any:
        super().optimizer_step(optimizer, closure)


class MovesWithoutGradients(Precision):
    def optimizer_step(self, optimizer: Optimizer, closure: Callable[[], Any] | None = None) -> Any:
        with torch.no_grad():
            optimizer.param_groups[0]["params"][0].add_(1.0)
        return super().optimizer_step(optimizer, closure)


class ConvertsIntegers(Precision):
    def convert_input(self, data: Any) -> Any:
        return {**data, "pair": data["pair"]._replace(y=[data["pair"].y[0].float()])}


class FlattensInput(Precision):
    def convert_input(self, data: Any) -> Any:
        return {**data, "pair": tuple(data["pair"])}


class ConvertsInPlace(Precision):
    def convert_input(self, data: Any) -> Any:
        data["pair"].x.data = data["pair"].x.double()
        return data


class LeavesOutput(Precision):
    def convert_output(self, data: Any) -> Any:
        return {name: value.double() for name, value in data.items()}


class MakesOtherModules(Precision):
    def convert_module(self, module: nn.Module) -> nn.Module:
        return module.double()


class LeavesTheDtype(Precision):
    @contextmanager
    def forward_context(self) -> Iterator[None]:
        before = torch.get_default_dtype()
        torch.set_default_dtype(torch.float64)
        yield  # and an exception passes by what follows
        torch.set_default_dtype(before)


class KeepsTheDtype(Precision):
    def connect(self, device: torch.device) -> None:
        torch.set_default_dtype(torch.float64)

    def convert_module(self, module: nn.Module) -> nn.Module:
        return module.double()

    def convert_input(self, data: Any) -> Any:
        return tuple(tensor.double() for tensor in data)


class Forgetful(Scaling):
    count = 0

    def optimizer_step(self, optimizer: Optimizer, closure: Callable[[], Any] | None = None) -> Any:
        self.count += 1
        return super().optimizer_step(optimizer, closure)

    def state_dict(self) -> dict[str, Any]:
        return {"count": self.count}


class Unsaveable(Scaling):
    state: ClassVar[dict[str, Any]] = {"scale": nn.Linear(1, 1)}

    def state_dict(self) -> dict[str, Any]:
        return self.state


@pytest.mark.parametrize(
    ("faulty", "test"),
    [
        (CalledOtherwise, "test_is_called_what_it_is_registered_as"),
        (NeverSteps, "test_learns"),
        (StaysScaled, "test_gradients_are_right_once_unscaled"),
        (UnscalesEachTime, "test_gradients_are_right_once_unscaled"),
        (ScalesUndeclared, "test_scales_the_loss_if_it_declares_so"),
        (ForgetsItsScale, "test_scales_the_loss_if_it_declares_so"),
        (ClosesTwice, "test_runs_a_closure_once"),
        (ClosesWithoutGradients, "test_runs_a_closure_once"),
        (LosesTheResult, "test_runs_a_closure_once"),
        (NeverSteps, "test_steps_without_a_closure"),
        (MovesWithoutGradients, "test_a_step_without_gradients_changes_nothing"),
        (ConvertsIntegers, "test_input_keeps_its_structure"),
        (FlattensInput, "test_input_keeps_its_structure"),
        (ConvertsInPlace, "test_input_keeps_its_structure"),
        (LeavesOutput, "test_output_is_in_the_default_dtype"),
        (MakesOtherModules, "test_modules_are_made_as_they_are_converted"),
        (LeavesTheDtype, "test_contexts_leave_nothing_behind"),
        (KeepsTheDtype, "test_teardown_restores_what_is_global"),
        (Forgetful, "test_state_goes_through_a_file"),
        (Unsaveable, "test_state_goes_through_a_file"),
    ],
)
def test_a_fault_is_found(faulty: type[Precision], test: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PrecisionConformance, "build", lambda self: faulty())
    method = getattr(PrecisionConformance(), test)
    fixtures = {"built": faulty(), "entry": Entry("precision", "32-true", "lx-core", Precision)}
    expected = {ClosesWithoutGradients: RuntimeError, Unsaveable: UnpicklingError}.get(faulty, AssertionError)
    try:
        with pytest.raises(expected):
            method(**{name: value for name, value in fixtures.items() if name in method.__annotations__})
    finally:
        torch.set_default_dtype(torch.float32)
