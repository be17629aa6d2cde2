"""The precisions `16-mixed` and `bf16-mixed`."""

from typing import Any

from lx.kernel import hookimpl

lx_api = 1


@hookimpl
def lx_register(registry: Any) -> None:
    target = "lx_plugin_amp.precision:MixedPrecision"
    registry.precision.add(
        "16-mixed",
        target,
        aliases=("16",),
        precision="16-mixed",
        summary="float32 parameters, float16 where it is safe, with a scaled loss",
    )
    registry.precision.add(
        "bf16-mixed", target, aliases=("bf16",), precision="bf16-mixed", summary="float32 parameters, bfloat16 where it is safe"
    )
