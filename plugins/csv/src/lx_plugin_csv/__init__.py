"""Metrics of a run as one CSV file, hyperparameters as one YAML file."""

from typing import Any

from lx.kernel import hookimpl

lx_api = 1


@hookimpl
def lx_register(registry: Any) -> None:
    registry.logger.add(
        "csv",
        "lx_plugin_csv.logger:CSVLogger",
        aliases=("csv_logger",),
        roles={"default": 10},
        summary="writes metrics.csv and hparams.yaml",
    )
