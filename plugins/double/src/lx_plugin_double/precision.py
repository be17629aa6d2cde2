"""Parameters and arithmetic in 64 bits."""

import itertools
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from lx.batch import map_tensors
from lx.interfaces.precision import Precision
from lx.kernel.errors import MisconfigurationException


class DoublePrecision(Precision):
    """`64-true`: floating-point parameters, buffers and inputs in 64 bits, complex ones in 128, and tensors made in a step too.

    >>> DoublePrecision().convert_input({"x": torch.ones(1), "n": torch.arange(2)})
    {'x': tensor([1.], dtype=torch.float64), 'n': tensor([0, 1])}
    """

    precision = "64-true"

    def connect(self, device: torch.device) -> None:
        """Raises `MisconfigurationException` for a device without 64-bit floats."""
        if device.type == "mps":
            raise MisconfigurationException("precision='64-true': the device 'mps' has no 64-bit floats; use another device or '32-true'.")

    def convert_module(self, module: nn.Module) -> nn.Module:
        """The module with its parameters and buffers in 64 bits (complex: 128), changed in place."""
        module.double()
        for tensor in itertools.chain(module.parameters(), module.buffers()):
            if tensor.is_complex():  # Module.double leaves them, and Module.to would take their imaginary part
                tensor.data = tensor.data.to(torch.complex128)
        return module

    def tensor_init_context(self) -> AbstractContextManager[None]:
        """Floating-point tensors made within have 64 bits, unless they say otherwise."""
        return default_double()

    def module_init_context(self) -> AbstractContextManager[None]:
        """Parameters made within have 64 bits."""
        return default_double()

    def forward_context(self) -> AbstractContextManager[None]:
        """Floating-point tensors made within have 64 bits, unless they say otherwise."""
        return default_double()

    def convert_input(self, data: Any) -> Any:
        """The batch with its floating-point tensors in 64 bits and its complex ones in 128."""
        return map_tensors(_to_double, data)

    def convert_output(self, data: Any) -> Any:
        """The output with its floating-point tensors in the default dtype, and its complex ones in the one that fits."""
        return map_tensors(_to_default, data)


def _to_double(tensor: Tensor) -> Tensor:
    if tensor.is_floating_point():
        return tensor.to(torch.float64)
    return tensor.to(torch.complex128) if tensor.is_complex() else tensor


def _to_default(tensor: Tensor) -> Tensor:
    default = torch.get_default_dtype()
    if tensor.is_floating_point():
        return tensor.to(default)
    return tensor.to(default.to_complex()) if tensor.is_complex() else tensor


@contextmanager
def default_double() -> Iterator[None]:
    """Makes float64 the type of new floating-point tensors, and puts the former one back, also after an exception."""
    former = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(former)
