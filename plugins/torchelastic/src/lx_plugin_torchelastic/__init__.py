"""The environment of processes that torchrun started."""

from typing import Any

from lx.kernel import hookimpl

lx_api = 1


@hookimpl
def lx_register(registry: Any) -> None:
    registry.environment.add(
        "torchelastic",
        "lx_plugin_torchelastic.environment:TorchElasticEnvironment",
        roles={"detect": 50},
        summary="Processes that torchrun started",
    )
