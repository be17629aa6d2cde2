"""The checkpoint I/O `torch_io`."""

from typing import Any

from lx.kernel import hookimpl

lx_api = 1


@hookimpl
def lx_register(registry: Any) -> None:
    registry.checkpoint_io.add(
        "torch_io",
        "lx_plugin_torch_io.checkpoint_io:TorchCheckpointIO",
        aliases=("torch",),
        roles={"default": 10},
        summary="one file a checkpoint, written whole or not at all",
    )
