"""The checkpoint I/O `safetensors_io`."""

from typing import Any

from lx.kernel import hookimpl

lx_api = 1


@hookimpl
def lx_register(registry: Any) -> None:
    registry.checkpoint_io.add(
        "safetensors_io",
        "lx_plugin_safetensors_io.checkpoint_io:SafetensorsCheckpointIO",
        aliases=("safetensors",),
        roles={".safetensors": 10},
        summary="one file a checkpoint, safetensors and JSON, with no pickle in it",
    )
