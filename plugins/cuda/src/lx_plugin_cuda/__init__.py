"""The accelerator `cuda`."""

from typing import Any

from lx.kernel import hookimpl

lx_api = 1


@hookimpl
def lx_register(registry: Any) -> None:
    registry.accelerator.add(
        "cuda",
        "lx_plugin_cuda.accelerator:CUDAAccelerator",
        roles={"auto": 20, "gpu": 20},
        summary="NVIDIA GPUs, or AMD GPUs with a ROCm build of torch",
    )
