"""What a checkpoint holds of an epoch that goes on, beside the counters that Lightning keeps, too.

It lies in `loops.fit_loop.state_dict`, in which Lightning has the states of loaders alone: those, what callbacks and schedulers look
at, the samples seen, the seconds spent in fit, the states of all random generators, and, within an epoch, where in its data it stood, the
sums behind its means, and its accumulation window with the gradients in it. With it, a run that goes on comes to the same values as one
that was never cut off; a file without it, of Lightning, loses them, as it does there.
"""

from collections.abc import Sequence
from typing import Any

import torch

from lx.generators import own_states, restore_own
from lx.logging.meters import Meter, Settings
from lx.rank_zero import rank_zero_warn
from lx.rng import rng_states, set_rng_states
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
    if states := trainer.fit_loop.data.states:
        state["combined_loader"] = states
    state["seconds"] = trainer.log.clock.seconds
    state["samples"] = trainer.samples_seen
    progress, epoch = trainer.fit_loop.progress, trainer.fit_loop.epoch_loop
    within = epoch is not None and progress.epoch["ready"] > progress.epoch["processed"]
    if progress.epoch["processed"] > progress.epoch["completed"]:  # the epoch is over, and its values come after the hooks of its end
        state["unsent"] = trainer.log.unsent()
    state["random"] = _of_all_ranks(trainer, _dump_random(trainer, within))
    if epoch is not None and within:
        state["windows_before"] = progress.windows_before
        state["held"] = epoch.optimize.held
        state["validating"] = trainer.state.stage is RunningStage.VALIDATING
        if trainer.world_size == 1:  # each process has its own of these, and the file is written by one
            state["meters"] = _dump_meters(trainer.train_meters)
            state |= _dump_window(trainer, epoch.optimize)
            state |= _dump_ahead(epoch.ahead)
    return state


def _of_all_ranks(trainer: Any, mine: dict[str, Any]) -> list[dict[str, Any]]:
    """What each process has of something; a few kilobytes of each."""
    if trainer.world_size == 1:
        return [mine]
    return [trainer.strategy.broadcast(mine, src=rank) for rank in range(trainer.world_size)]


def _dump_random(trainer: Any, within: bool) -> dict[str, Any]:
    """The states of the generators of this process and of its loaders, and the place in the data.

    A validation that is not over is run anew, so that its generators are those from its beginning.
    """
    loop = trainer.fit_loop
    state = loop.before_validation if within and loop.validation_is_unfinished else random_states(trainer)
    taken = loop.progress.batch.processed + (len(loop.epoch_loop.ahead) if within else 0)
    return {**state, "passes": loop.data.place(taken) if within else []}


def random_states(trainer: Any) -> dict[str, Any]:
    """The states of the generators of this process, and of those that its loaders hold."""
    training, validation = trainer.fit_loop.generators
    return {"process": rng_states(), "train": own_states(training), "val": own_states(validation)}


def restore_random(trainer: Any, state: dict[str, Any] | None) -> None:
    """Puts back what `random_states` gave; called right before the next batch is fetched."""
    if state is not None:
        training, validation = trainer.fit_loop.generators
        set_rng_states(state["process"])
        restore_own(state["train"], training)
        restore_own(state["val"], validation)


def random_of_rank(trainer: Any, states: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """The part of this process, None where the file has none."""
    if len(states) == trainer.world_size:
        mine: dict[str, Any] = states[trainer.global_rank]
        return mine
    if states:
        rank_zero_warn(
            f"the checkpoint was written by {len(states)} processes, and here are {trainer.world_size}: the data is shared out in another"
            " way, and random numbers are drawn anew, so that the run goes on, but not as it would have."
        )
    return None


def _dump_window(trainer: Any, optimize: Any) -> dict[str, Any]:
    """The gradients that no step has taken yet; of manual optimization, of which nobody knows, all that are there.

    Nothing while a batch is trained on, which will be trained on again.
    """
    progress = trainer.fit_loop.progress
    trains = progress.batch.started > progress.batch.processed
    if trains or not (optimize.keeps_gradients and (optimize.held or progress.manual)):
        return {}
    gradients = {name: each.grad for name, each in trainer.lightning_module.named_parameters() if each.grad is not None}
    return {"gradients": gradients, "window": optimize.window_state()}


def restore_window(trainer: Any, optimize: Any, gradients: dict[str, torch.Tensor], window: dict[str, Any]) -> None:
    """Gives the parameters the gradients of the open window, and the window its counts."""
    for name, parameter in trainer.lightning_module.named_parameters():
        if name in gradients:
            parameter.grad = gradients[name].to(parameter.device, copy=True)
    optimize.restore_window(window)


def _dump_ahead(ahead: tuple[Any, ...]) -> dict[str, Any]:
    """The batch that was fetched to know whether there is one, of a loader without a length; nothing of a batch that is more than data."""
    return {"ahead": list(ahead)} if ahead and _is_data(ahead[0]) else {}


def _is_data(value: Any) -> bool:
    """Whether a value is made of tensors and plain values, which any checkpoint can hold."""
    if type(value) in (list, tuple):
        return all(map(_is_data, value))
    if type(value) is dict:
        return all(map(_is_data, value)) and all(map(_is_data, value.values()))
    return value is None or type(value) in (torch.Tensor, bool, int, float, str, bytes)


def restore(trainer: Any, state: dict[str, Any]) -> dict[str, Any]:
    """Has callbacks and schedulers see again what they saw; returns the state, for the loop that goes on with the epoch."""
    trainer.log.clock.restore(state.get("seconds", 0.0))
    trainer.fit_loop.data.samples.restore(state.get("samples", 0))
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
