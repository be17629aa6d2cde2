"""The callback `spike_detection`: ends a run at a batch whose loss jumps."""

from typing import Any

from lx.kernel import hookimpl

lx_api = 1


@hookimpl
def lx_register(registry: Any) -> None:
    registry.callback.add(
        "spike_detection",
        "lx_plugin_spike_detection.callback:SpikeDetection",
        summary="Ends a run at a batch whose loss jumps, and keeps which batch it was",
    )
