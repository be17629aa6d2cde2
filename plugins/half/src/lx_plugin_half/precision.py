"""Parameters and arithmetic in 16 bits."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from lx.batch import map_tensors
from lx.interfaces.precision import Precision

DTYPES = {"16-true": torch.float16, "bf16-true": torch.bfloat16}


class HalfPrecision(Precision):
    """`16-true` or `bf16-true`: floating-point parameters, buffers and inputs in 16 bits, and tensors made in a step too.

    Nothing scales the loss, so gradients below 6e-8 vanish in float16; bfloat16 has the range of float32. Complex numbers and
    integers stay as they are.

    >>> HalfPrecision("bf16-true").convert_input([torch.ones(2), torch.arange(2)])
    [tensor([1., 1.], dtype=torch.bfloat16), tensor([0, 1])]
    """

    def __init__(self, precision: str = "16-true") -> None:
        if precision not in DTYPES:
            raise ValueError(f"precision={precision!r}: HalfPrecision takes {' or '.join(map(repr, DTYPES))}.")
        self.precision = precision
        self.dtype = DTYPES[precision]

    def convert_module(self, module: nn.Module) -> nn.Module:
        """The module with its floating-point parameters and buffers in 16 bits, changed in place."""
        # Not module.to(dtype), which would take the imaginary part from complex parameters.
        return module.half() if self.dtype is torch.float16 else module.bfloat16()

    def tensor_init_context(self) -> AbstractContextManager[None]:
        """Floating-point tensors made within have 16 bits, unless they say otherwise."""
        return default_dtype(self.dtype)

    def module_init_context(self) -> AbstractContextManager[None]:
        """Parameters made within have 16 bits."""
        return default_dtype(self.dtype)

    def forward_context(self) -> AbstractContextManager[None]:
        """Floating-point tensors made within have 16 bits, unless they say otherwise."""
        return default_dtype(self.dtype)

    def convert_input(self, data: Any) -> Any:
        """The batch with its floating-point tensors in 16 bits."""
        return map_tensors(self._to_half, data)

    def convert_output(self, data: Any) -> Any:
        """The output with its floating-point tensors in the default dtype."""
        return map_tensors(_to_default, data)

    def _to_half(self, tensor: Tensor) -> Tensor:
        return tensor.to(self.dtype) if tensor.is_floating_point() else tensor


def _to_default(tensor: Tensor) -> Tensor:
    return tensor.to(torch.get_default_dtype()) if tensor.is_floating_point() else tensor


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """Makes `dtype` the type of new floating-point tensors, and puts the former one back, also after an exception."""
    former = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(former)
