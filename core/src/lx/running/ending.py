"""How a run ends: what devices give back, and, where an exception cuts it off, who is told and what stands on the screen."""

import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import torch

from lx.batch import move_to
from lx.kernel.errors import SIGTERMException
from lx.running.signals import cleaning_up, say
from lx.state import TrainerFn, TrainerStatus


def release(optimizers: Iterable[Any]) -> None:
    """Moves what optimizers keep to the CPU, so that a fit that is over holds no memory of a device; a checkpoint may still be written."""
    for optimizer in optimizers:
        for state in getattr(optimizer, "state", {}).values():
            state.update(move_to(dict(state), torch.device("cpu")))


def cut_off(run: Any, error: BaseException) -> None:
    """Tells everybody, and lets them clean up; the error that ended the run stays the one that is raised.

    on_exception (callbacks, data module, module)
    module back on the CPU
    teardown (data module, callbacks, module)
    checkpoints written to their end
    loggers finalized as failed, profiler closed
    submodules back in the modes in which they were

    Where a signal ended a fit, one of the checkpoint callbacks saves before all that. Where the job is queued again, `Requeue` does, and
    queues it after; loggers are finalized as finished.
    """
    trainer = run.trainer
    run.exception = error
    trainer.state.status = TrainerStatus.INTERRUPTED
    asked = isinstance(error, KeyboardInterrupt | SIGTERMException)
    place = whereabouts(run) if asked else ""  # while it is known
    if run.began:  # otherwise it was refused, and nobody has taken part in it
        trainer.log.site = "on_exception"  # where nothing can be logged any more
        with cleaning_up(trainer) as clean_up:
            for name, tell in _told(run, error):
                clean_up.doing = name
                try:
                    tell()
                except Exception as second:
                    if second is not error:
                        _mention(error, name, second)
        trainer.log.site = None
    for bring_back in run.when_cut_off:
        bring_back()
    trainer.state.stage = None
    if asked and trainer.is_global_zero:
        cause = "Ctrl-C" if isinstance(error, KeyboardInterrupt) else run.termination.cause
        say(f"lx: {cause} ended the run {place}.{run.requeue.report or _advice(run)}")


def _told(run: Any, error: BaseException) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Each call that is due, with its name; lazily, since one may change what the next ones are."""
    trainer, module, datamodule = run.trainer, run.module, run.datamodule
    requeue = run.requeue if isinstance(error, SIGTERMException) and run.requeue.asked else None
    if isinstance(error, SIGTERMException):  # first, since the process may not be left the time for more
        yield from _saved(run)
    yield "on_exception", partial(trainer.dispatch.announce, "on_exception", [*trainer.callbacks, module])
    for callback in trainer.callbacks:
        yield f"{type(callback).__name__}.on_exception", partial(callback.on_exception, trainer, module, error)
    if datamodule is not None:
        yield f"{type(datamodule).__name__}.on_exception", partial(datamodule.on_exception, error)
    yield f"{type(module).__name__}.on_exception", partial(module.on_exception, error)
    yield "moving the model to the CPU", run.leave_devices
    if run.to_tear_down:
        yield "teardown", partial(trainer.dispatch.announce, "teardown", run.owners())
    while run.to_tear_down:
        owner, tear_down = run.to_tear_down.pop(0)
        yield f"{type(owner).__name__}.teardown", tear_down
    if trainer.strategy.checkpoint_io is not None and requeue is None:  # which waits itself, and must know of what has failed
        yield "writing checkpoints", trainer.strategy.checkpoint_io.teardown
    for logger in trainer.loggers if trainer.is_global_zero else []:
        yield f"{type(logger).__name__}.finalize", partial(logger.finalize, "failed" if requeue is None else "finished")
    if trainer.profiler is not None:
        yield f"{type(trainer.profiler).__name__}.teardown", partial(trainer.profiler.teardown, stage=run.fn.value)
    yield "lx_run_ended", partial(trainer.manager.hook.lx_run_ended, run=run)
    if requeue is not None:
        yield "queueing the job again", requeue.submit


def _saved(run: Any) -> Iterator[tuple[str, Callable[[], Any]]]:
    """What saves a fit that a signal ends: the job that is queued again, or else the first checkpoint callback that does."""
    if run.requeue.asked:
        yield "saving for the next job", run.requeue.save
    elif run.fn is TrainerFn.FITTING and run.termination.ends_together:
        saved: list[str] = []
        for callback in sorted(run.trainer.checkpoint_callbacks, key=_must_be_told_to_resume):
            if not saved:
                yield f"{type(callback).__name__}.rescue", partial(_rescue, callback, run.trainer, saved)


def _must_be_told_to_resume(callback: Any) -> bool:
    return not getattr(callback, "resumes_automatically", False)


def _rescue(callback: Any, trainer: Any, saved: list[str]) -> None:
    rescue = getattr(callback, "rescue", None)
    path = "" if rescue is None else rescue(trainer)
    if path:
        saved.append(path)


def _mention(error: BaseException, name: str, second: Exception) -> None:
    """Shows another error ahead of the one that ended the run, or, where warnings are errors, as a note of it."""
    at = traceback.extract_tb(second.__traceback__)[-1]
    text = (
        f"while the run was ended by {type(error).__name__}, {name} failed, too: {type(second).__name__}: {second}"
        f" ({at.filename}, line {at.lineno})"
    )
    try:
        warnings.warn(text, stacklevel=2)
    except UserWarning:
        error.add_note(text)


def whereabouts(run: Any) -> str:
    """Where a run stands, to be read after "it ended"."""
    trainer = run.trainer
    if not run.began:
        return f"before {run.fn} began"
    if run.fn is not TrainerFn.FITTING:
        return f"in {run.fn}"
    doing = {"validate": ", while validating", "sanity_check": ", in the sanity check"}.get(trainer.state.stage or "", "")
    return f"in epoch {trainer.current_epoch}, after {trainer.global_step} steps{doing}"


def _advice(run: Any) -> str:
    """How to go on from the newest checkpoint that is there."""
    if run.fn is not TrainerFn.FITTING:
        return ""
    path = newest_checkpoint(run)
    if path is None:
        return " No checkpoint was written." if run.began else ""
    return f" To go on: trainer.fit(..., ckpt_path={path!r})"


def newest_checkpoint(run: Any) -> str | None:
    """The newest file that the trainer's callbacks have written and kept, None if there is none; not one of an earlier program."""
    io = run.trainer.strategy.checkpoint_io
    kept: list[str] = []
    for callback in run.trainer.checkpoint_callbacks:
        kept += filter(None, (getattr(callback, name, "") for name in ("best_model_path", "last_model_path")))
        kept += getattr(callback, "best_k_models", ())
        find_last = getattr(callback, "find_last", None)
        last = () if find_last is None else _answer((), partial(find_last, run.trainer))
        kept += [path for path in last if _modified(io, path) >= run.since]
    times = {path: _modified(io, path) for path in kept}
    newest = max(times, key=lambda path: times[path], default=None)
    return newest if newest is not None and times[newest] else (kept[-1] if kept else None)


def _modified(io: Any, path: str) -> float:
    """When a checkpoint was written, 0 if that cannot be said."""
    return float(_answer(0.0, lambda: io.modified(path)))


def _answer(otherwise: Any, ask: Callable[[], Any]) -> Any:
    """What is asked for, or something else if that cannot be had: a storage may be what failed, and the report of it must not."""
    try:
        return ask()
    except Exception:
        return otherwise
