"""The accelerator `mps`."""

from typing import Any

from lx.kernel import hookimpl

lx_api = 1


@hookimpl
def lx_register(registry: Any) -> None:
    registry.accelerator.add(
        "mps", "lx_plugin_mps.accelerator:MPSAccelerator", roles={"auto": 30, "gpu": 30}, summary="the GPU of Apple silicon"
    )
