"""The callback `model_summary`: the layers of the model as a table of text."""

from typing import Any

from lx.kernel import hookimpl

lx_api = 1


@hookimpl
def lx_register(registry: Any) -> None:
    registry.callback.add(
        "model_summary",
        "lx_plugin_summary.callback:ModelSummary",
        roles={"model-summary": 10},
        summary="Prints the layers, parameters, sizes and FLOPs of the model when fit begins",
    )
