"""Metrics, hyperparameters and graphs of a run as TensorBoard event files."""

from typing import Any

from lx.kernel import hookimpl

lx_api = 1


@hookimpl
def lx_register(registry: Any) -> None:
    registry.logger.add(
        "tensorboard", "lx_plugin_tensorboard.logger:TensorBoardLogger", roles={"default": 20}, summary="writes event files for TensorBoard"
    )
