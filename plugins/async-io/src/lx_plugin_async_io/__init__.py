"""The checkpoint I/O `async_io`: training goes on while checkpoints are written."""

from typing import Any

from lx.kernel import hookimpl

lx_api = 1


@hookimpl
def lx_register(registry: Any) -> None:
    registry.checkpoint_io.add(
        "async_io",
        "lx_plugin_async_io.checkpoint_io:AsyncCheckpointIO",
        aliases=("async",),
        summary="another checkpoint I/O, in the background: training waits only while its state is copied",
    )


@hookimpl
def lx_run_started(run: Any) -> None:
    # Asked by what it can do: the class would bring torch, and another I/O may stand around it.
    report_to = getattr(run.trainer.strategy.checkpoint_io, "report_to", None)
    if report_to is not None:
        report_to(run.interrupt)


@hookimpl
def lx_run_ended(run: Any) -> None:
    strategy = run.trainer.strategy
    report_to = getattr(strategy.checkpoint_io, "report_to", None)
    if report_to is None:
        return
    report_to(None)
    if run.exception is None:
        strategy.barrier("async_io")  # rank 0 has waited for its files, and the others may look for them now
