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
    trainer = run.trainer
    io = trainer.strategy.checkpoint_io
    if not hasattr(io, "report_to"):  # asked by what it can do: the class would bring torch
        return
    io.report_to(run.interrupt)
    if run.fn == "fit" and trainer.is_global_zero and trainer.checkpoint_callbacks and not trainer.fast_dev_run:
        io.expect(trainer)


@hookimpl
def lx_run_ended(run: Any) -> None:
    strategy = run.trainer.strategy
    io = strategy.checkpoint_io
    if not hasattr(io, "report_to"):
        return
    io.report_to(None)
    if run.exception is None:
        strategy.barrier("async_io")  # rank 0 has waited for its files, and the others may look for them now
