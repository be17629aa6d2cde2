"""Logs learning rates, and momentum and weight decay if wanted."""

from typing import Any

from lx.kernel import hookimpl

lx_api = 1


@hookimpl
def lx_register(registry: Any) -> None:
    registry.callback.add(
        "lr_monitor",
        "lx_plugin_lr_monitor.callback:LearningRateMonitor",
        aliases=("learning_rate_monitor",),
        summary="Logs learning rates, and momentum and weight decay if wanted",
    )
