"""The precision `64-true`."""

from typing import Any

from lx.kernel import hookimpl

lx_api = 1


@hookimpl
def lx_register(registry: Any) -> None:
    registry.precision.add(
        "64-true", "lx_plugin_double.precision:DoublePrecision", aliases=("64",), summary="parameters and arithmetic in float64"
    )
