"""The callback `watchdog`: finds a step that hangs, prints the stacks of all threads, and ends the run or lets it go on."""

from typing import Any

from lx.kernel import hookimpl

lx_api = 1


@hookimpl
def lx_register(registry: Any) -> None:
    registry.callback.add(
        "watchdog",
        "lx_plugin_watchdog.callback:Watchdog",
        summary="Finds a step that hangs: stacks of all threads, and the run ends or goes on",
    )
