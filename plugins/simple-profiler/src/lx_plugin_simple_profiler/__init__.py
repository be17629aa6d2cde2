"""How long each action of a run took, and how often it was called."""

from typing import Any

from lx.kernel import hookimpl

lx_api = 1


@hookimpl
def lx_register(registry: Any) -> None:
    registry.profiler.add(
        "simple",
        "lx_plugin_simple_profiler.profiler:SimpleProfiler",
        aliases=("simple_profiler",),
        summary="a table of calls and wall time per action",
    )
