import pytest
import torch
from torch import nn

from lx.testing.conformance.precision import PrecisionConformance
from lx_plugin_half.precision import HalfPrecision


class TestFloat16(PrecisionConformance):
    component = "16-true"


class TestBFloat16(PrecisionConformance):
    component = "bf16-true"


@pytest.mark.parametrize(("name", "dtype"), [("16-true", torch.float16), ("bf16-true", torch.bfloat16)])
def test_everything_has_16_bits(name: str, dtype: torch.dtype) -> None:
    precision = HalfPrecision(name)
    module = precision.convert_module(nn.BatchNorm1d(2))
    assert {tensor.dtype for tensor in module.state_dict().values()} == {dtype, torch.int64}
    assert precision.convert_input(torch.ones(1, dtype=torch.float64)).dtype is dtype
    for context in (precision.forward_context, precision.tensor_init_context, precision.module_init_context):
        with context():
            assert torch.zeros(1).dtype is dtype
            assert nn.Linear(1, 1).weight.dtype is dtype
    assert torch.zeros(1).dtype is torch.float32


def test_complex_numbers_keep_their_imaginary_part() -> None:
    class Complex(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.tensor([1 + 2j]))

    module = HalfPrecision("bf16-true").convert_module(Complex())
    assert module.weight.tolist() == [1 + 2j]  # type: ignore[operator, union-attr]
    data = torch.tensor([1j])
    assert HalfPrecision().convert_input(data) is data


def test_another_precision() -> None:
    with pytest.raises(ValueError, match="precision='32-true': HalfPrecision takes '16-true' or 'bf16-true'"):
        HalfPrecision("32-true")
