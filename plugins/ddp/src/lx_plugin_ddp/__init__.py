"""Distributed data parallel: one process a device, each with the whole model, gradients averaged while they are computed."""

from typing import Any

from lx.kernel import hookimpl

lx_api = 1

_DDP = "lx_plugin_ddp.strategy:DDPStrategy"


@hookimpl
def lx_register(registry: Any) -> None:
    registry.strategy.add("ddp", _DDP, roles={"many-devices": 10}, summary="The whole model on every device, gradients averaged")
    registry.strategy.add(
        "ddp_find_unused_parameters_true", _DDP, summary="ddp that looks for parameters without a gradient", find_unused_parameters=True
    )
    registry.strategy.add(
        "ddp_find_unused_parameters_false", _DDP, summary="ddp that expects a gradient for every parameter", find_unused_parameters=False
    )
    registry.launcher.add(
        "script", "lx_plugin_ddp.launcher:ScriptLauncher", summary="Runs the program's own command again, once for each further device"
    )
    registry.environment.add(
        "local",
        "lx_plugin_ddp.environment:LightningEnvironment",
        aliases=("lightning",),
        roles={"default": 10},
        summary="Processes that lx starts itself, or that are started with LOCAL_RANK",
    )
    registry.layer_sync.add(
        "torch_sync_batchnorm",
        "lx_plugin_ddp.layer_sync:TorchSyncBatchNorm",
        roles={"sync-batchnorm": 10},
        summary="Batch norm with the statistics of all processes",
    )
