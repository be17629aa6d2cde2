"""Checkpoints: the best, the last and the periodic ones, and one when a run fails."""

from typing import Any

from lx.kernel import hookimpl

lx_api = 1


@hookimpl
def lx_register(registry: Any) -> None:
    registry.callback.add(
        "model_checkpoint",
        "lx_plugin_checkpoint.callback:ModelCheckpoint",
        aliases=("checkpoint",),
        roles={"checkpoint": 10},
        summary="Saves the best, the last and periodic checkpoints",
    )
    registry.callback.add(
        "on_exception_checkpoint",
        "lx_plugin_checkpoint.on_exception:OnExceptionCheckpoint",
        summary="Saves one checkpoint when a run fails, and resumes from it",
    )
