"""The callback `prediction_writer`: writes predictions while they are made, or when all are."""

from typing import Any

from lx.kernel import hookimpl

lx_api = 1


@hookimpl
def lx_register(registry: Any) -> None:
    registry.callback.add(
        "prediction_writer",
        "lx_plugin_prediction_writer.callback:BasePredictionWriter",
        aliases=("base_prediction_writer",),
        summary="Hands predictions, with the indices of their samples, to a subclass that writes them",
    )
