"""The numbers that each installed precision multiplies, on which the peak of a chip depends."""

import pytest
import torch

from lx import Fabric, registry
from lx.measures.peak_flops import compute_dtype

BITS = {"64": torch.float64, "32": torch.float32, "bf16": torch.bfloat16}


@pytest.mark.parametrize("name", [name for name in registry.precision.names() if name.partition("-")[0] in BITS])
def test_a_precision_multiplies_what_its_name_says(name: str) -> None:
    fabric = Fabric(accelerator="cpu", devices=1, precision=name)
    fabric.setup_environment()
    assert compute_dtype(fabric.precision, fabric.device) is BITS[name.partition("-")[0]]


def test_there_are_precisions() -> None:
    assert {"64-true", "32-true", "bf16-true", "bf16-mixed"} <= set(registry.precision.names())
