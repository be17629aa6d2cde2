"""The accelerator `cpu`."""

from typing import Any

from lx.kernel import hookimpl

lx_api = 1


@hookimpl
def lx_register(registry: Any) -> None:
    registry.accelerator.add("cpu", "lx_plugin_cpu.accelerator:CPUAccelerator", roles={"auto": 0}, summary="the CPU, one or more processes")
