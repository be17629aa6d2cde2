"""The callbacks `rich_progress_bar` and `rich_model_summary`: progress and the model's layers, drawn by rich."""

from typing import Any

from lx.kernel import hookimpl

lx_api = 1


@hookimpl
def lx_register(registry: Any) -> None:
    registry.callback.add(
        "rich_progress_bar",
        "lx_plugin_rich.progress_bar:RichProgressBar",
        aliases=("rich",),
        roles={"progress-bar": 20},
        summary="A progress bar for training, validation, test and prediction, drawn by rich",
    )
    registry.callback.add(
        "rich_model_summary",
        "lx_plugin_rich.model_summary:RichModelSummary",
        roles={"model-summary": 20},
        summary="Prints the layers, parameters, sizes and FLOPs of the model when fit begins, as a table drawn by rich",
    )
