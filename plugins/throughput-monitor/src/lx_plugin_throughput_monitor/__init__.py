"""The callback `throughput_monitor`: batches, samples, items and FLOPs per second."""

from typing import Any

from lx.kernel import hookimpl

lx_api = 1


@hookimpl
def lx_register(registry: Any) -> None:
    registry.callback.add(
        "throughput_monitor",
        "lx_plugin_throughput_monitor.callback:ThroughputMonitor",
        summary="Logs batches, samples, items and FLOPs per second, and how much of the chip is used",
    )
