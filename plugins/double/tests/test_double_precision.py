import pytest
import torch
from torch import nn

from lx.kernel.errors import MisconfigurationException
from lx.testing.conformance.component import build
from lx.testing.conformance.precision import PrecisionConformance
from lx_plugin_double.precision import DoublePrecision


class TestDouble(PrecisionConformance):
    component = "64-true"


class Complex(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([1 + 2j]))
        self.real = nn.Parameter(torch.tensor([1.0]))
        self.register_buffer("phase", torch.tensor([1j]))
        self.register_buffer("count", torch.tensor(1))


def test_complex_numbers_have_128_bits() -> None:
    module = DoublePrecision().convert_module(Complex())
    assert {name: tensor.dtype for name, tensor in module.state_dict().items()} == {
        "weight": torch.complex128,
        "real": torch.float64,
        "phase": torch.complex128,
        "count": torch.int64,
    }
    assert module.weight.tolist() == [1 + 2j]  # type: ignore[operator, union-attr]
    (module.weight * DoublePrecision().convert_input(torch.tensor([2j]))).abs().sum().backward()  # type: ignore[operator, union-attr]
    assert module.weight.grad.dtype is torch.complex128  # type: ignore[union-attr]


def test_input_and_output() -> None:
    precision = DoublePrecision()
    data = [torch.ones(1), torch.ones(1).half(), torch.ones(1).cfloat(), torch.ones(1).int()]
    converted = precision.convert_input(data)
    assert [tensor.dtype for tensor in converted] == [torch.float64, torch.float64, torch.complex128, torch.int32]
    assert [tensor.dtype for tensor in precision.convert_output(converted)] == [torch.float32, torch.float32, torch.complex64, torch.int32]


def test_tensors_made_in_a_step_have_64_bits() -> None:
    precision = DoublePrecision()
    for context in (precision.forward_context, precision.tensor_init_context, precision.module_init_context):
        with context():
            assert torch.zeros(1).dtype is torch.float64
    assert torch.zeros(1).dtype is torch.float32


def test_a_device_without_64_bits() -> None:
    with pytest.raises(MisconfigurationException, match="'mps' has no 64-bit floats"):
        DoublePrecision().connect(torch.device("mps"))


def test_alias() -> None:
    assert isinstance(build("64", "precision"), DoublePrecision)
