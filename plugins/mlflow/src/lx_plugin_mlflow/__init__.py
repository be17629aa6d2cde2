"""Metrics, hyperparameters and checkpoints of a run in MLflow."""

from typing import Any

from lx.kernel import hookimpl

lx_api = 1


@hookimpl
def lx_register(registry: Any) -> None:
    registry.logger.add("mlflow", "lx_plugin_mlflow.logger:MLFlowLogger", summary="writes runs to MLflow, a server or a local database")
