"""What a checkpoint holds of an epoch that goes on, beside the counters that Lightning keeps, too.

It lies in `loops.fit_loop.state_dict`, in which Lightning has the states of loaders alone: those, what callbacks and schedulers look
at, the samples seen, the seconds spent in fit, and, within an epoch, the sums behind its means and where its accumulation window stood.
With it, a run that goes on comes to the same values as one that was never cut off; a file without it, of Lightning, loses them, as it
does there.
"""

from collections.abc import Sequence
from typing import Any

import torch

from lx.logging.meters import Meter, Settings
from lx.state import RunningStage, TrainerFn

METER = ("on_step", "on_epoch", "prog_bar", "logger", "reduce", "sync")


def dump(trainer: Any) -> dict[str, Any]:
    """The part for a checkpoint, empty if there is nothing to keep."""
    if trainer.state.fn is not TrainerFn.FITTING:
        return {}
    state: dict[str, Any] = {}
    metrics = {name: value.detach().clone() for name, value in trainer.callback_metrics.items() if isinstance(value, torch.Tensor)}
    if metrics:
        state["metrics"] = metrics
    if states := trainer.fit_loop.loader_states:
        state["combined_loader"] = states
    state["seconds"] = trainer.log.clock.seconds
    state["samples"] = trainer.samples_seen
    progress, epoch = trainer.fit_loop.progress, trainer.fit_loop.epoch_loop
    if epoch is not None and progress.epoch["ready"] > progress.epoch["processed"]:
        state["windows_before"] = progress.windows_before
        state["held"] = epoch.optimize.held
        state["validating"] = trainer.state.stage is RunningStage.VALIDATING
        # Each process has sums of its own, and the file is written by one.
        state["meters"] = _dump_meters(trainer.train_meters) if trainer.world_size == 1 else []
    return state


def restore(trainer: Any, state: dict[str, Any]) -> dict[str, Any]:
    """Has callbacks and schedulers see again what they saw; returns the state, for the loop that goes on with the epoch."""
    trainer.log.clock.restore(state.get("seconds", 0.0))
    trainer.fit_loop.samples.restore(state.get("samples", 0))
    device = trainer.strategy.root_device
    trainer.log.published.callback.update({name: value.to(device) for name, value in state.get("metrics", {}).items()})
    return state


def _dump_meters(meters: dict[Any, Meter]) -> list[dict[str, Any]]:
    states = []
    for (site, name, dataloader_idx), meter in meters.items():
        if not meter.seen or meter.metric is not None or dataloader_idx is not None:  # metric objects have states of their own
            continue
        meter.fold()
        own = {key: getattr(meter, key) for key in METER}
        values = {"total": meter.total, "weight": meter.weight, "step_value": meter.step_value}
        copies = {key: value.detach().clone() if isinstance(value, torch.Tensor) else value for key, value in values.items()}
        states.append({"site": site, "name": name, **own, **copies, "sent": meter.sent is not None and meter.sent is meter.step_value})
    return states


def restore_meters(trainer: Any, states: Sequence[dict[str, Any]]) -> None:
    """Gives the running epoch the sums that it had; called when the epoch goes on."""
    device = trainer.strategy.root_device
    for state in states:
        total, step_value = (None if state[key] is None else state[key].to(device) for key in ("total", "step_value"))
        exact = torch.float32 if total is None else total.dtype
        settings = Settings(**{key: state[key] for key in METER}, group=None, dataloader_idx=None, keep_graph=False, exact=exact)
        meter = Meter(state["name"], (), settings)
        meter.seen, meter.total, meter.weight, meter.step_value = True, total, state["weight"], step_value
        meter.sent = step_value if state["sent"] else None
        trainer.train_meters[state["site"], state["name"], None] = meter
