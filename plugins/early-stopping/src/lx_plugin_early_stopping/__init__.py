"""Stops a run when a monitored value no longer improves."""

from typing import Any

from lx.kernel import hookimpl

lx_api = 1


@hookimpl
def lx_register(registry: Any) -> None:
    registry.callback.add(
        "early_stopping",
        "lx_plugin_early_stopping.callback:EarlyStopping",
        summary="Stops the run when a monitored value no longer improves",
    )
