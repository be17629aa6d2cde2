"""Measures the time that the stages of a run take, and ends training after a set time."""

from typing import Any

from lx.kernel import hookimpl

lx_api = 1


@hookimpl
def lx_register(registry: Any) -> None:
    registry.callback.add(
        "timer",
        "lx_plugin_timer.callback:Timer",
        roles={"timer": 10},
        summary="Measures stages, and ends training after a set time",
    )
