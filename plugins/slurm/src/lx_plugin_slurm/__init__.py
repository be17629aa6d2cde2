"""The environment of processes that SLURM started."""

from typing import Any

from lx.kernel import hookimpl

lx_api = 1


@hookimpl
def lx_register(registry: Any) -> None:
    registry.environment.add(
        "slurm",
        "lx_plugin_slurm.environment:SLURMEnvironment",
        roles={"detect": 40},
        summary="Processes that SLURM started, in jobs that are queued again when their time is over",
    )
