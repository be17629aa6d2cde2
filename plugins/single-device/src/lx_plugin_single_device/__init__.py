"""The strategy `single_device`."""

from typing import Any

from lx.kernel import hookimpl

lx_api = 1


@hookimpl
def lx_register(registry: Any) -> None:
    registry.strategy.add(
        "single_device",
        "lx_plugin_single_device.strategy:SingleDeviceStrategy",
        roles={"one-device": 10},
        summary="one process, one device",
    )
