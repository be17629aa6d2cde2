"""The precisions `16-true` and `bf16-true`."""

from typing import Any

from lx.kernel import hookimpl

lx_api = 1


@hookimpl
def lx_register(registry: Any) -> None:
    target = "lx_plugin_half.precision:HalfPrecision"
    registry.precision.add("16-true", target, precision="16-true", summary="parameters and arithmetic in float16")
    registry.precision.add("bf16-true", target, precision="bf16-true", summary="parameters and arithmetic in bfloat16")
