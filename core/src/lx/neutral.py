"""What lx-core itself registers, through the same door as every plugin: the components that do nothing."""

from typing import Any

from lx.kernel import hookimpl

lx_api = 1


@hookimpl
def lx_register(registry: Any) -> None:
    registry.precision.add(
        "32-true", "lx.interfaces.precision:Precision", aliases=("32",), roles={"default": 0}, summary="float32, nothing converted"
    )
    registry.profiler.add("passthrough", "lx.interfaces.profiler:PassThroughProfiler", roles={"default": 0}, summary="measures nothing")
