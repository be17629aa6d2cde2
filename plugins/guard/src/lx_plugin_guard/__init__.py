"""The callback `guard`: what becomes of a run whose loss is NaN, infinite or a spike."""

from typing import Any

from lx.kernel import hookimpl

lx_api = 1


@hookimpl
def lx_register(registry: Any) -> None:
    registry.callback.add(
        "guard",
        "lx_plugin_guard.callback:Guard",
        summary="Where the loss is NaN, infinite or jumps: stops, skips the batch, or goes back to the last good checkpoint",
    )
