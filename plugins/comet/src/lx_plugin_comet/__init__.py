"""Metrics, hyperparameters and graphs of a run as an experiment of Comet."""

from typing import Any

from lx.kernel import hookimpl

lx_api = 1


@hookimpl
def lx_register(registry: Any) -> None:
    registry.logger.add("comet", "lx_plugin_comet.logger:CometLogger", summary="writes experiments to Comet, online or as archives")
