"""Finds the learning rate and the batch size by trying them out: two callbacks, and `lx.tuner.Tuner`."""

from typing import Any

from lx.kernel import hookimpl

lx_api = 1


@hookimpl
def lx_extend(manager: Any) -> None:
    manager.registry.add_kind("tuner", interface="lx_plugin_tuner.tuner:Tuner")


@hookimpl
def lx_register(registry: Any) -> None:
    registry.callback.add(
        "learning_rate_finder",
        "lx_plugin_tuner.learning_rate:LearningRateFinder",
        aliases=("lr_finder",),
        summary="Finds a learning rate before training, from a sweep over rates",
    )
    registry.callback.add(
        "batch_size_finder",
        "lx_plugin_tuner.batch_size:BatchSizeFinder",
        summary="Finds the largest batch size that the memory holds, before a run",
    )
    registry.tuner.add("by_trial", "lx_plugin_tuner.tuner:Tuner", summary="Finds learning rate and batch size apart from a run")
