"""Where a checkpoint left off, between two epochs or within one, and what was still to be done there."""

import math
from dataclasses import dataclass, field, replace
from typing import Any

from lx.checkpoints.unfinished import random_of_rank
from lx.data.combined import as_combined, length_of
from lx.kernel.errors import MisconfigurationException
from lx.loops.schedule import Schedule
from lx.rank_zero import rank_zero_warn


@dataclass(frozen=True, slots=True)
class Resumption:
    """What comes first when a fit goes on.

    `within_epoch`: an epoch is gone on with. `held`: so many batches, the last that were trained on, lie in a window without a step yet.
    `after_batch`: not all was done that comes after the last batch; of that, `sends` is its values to the loggers, and `validates` its
    validation. `owes_plateaus`: the epoch is over but for its plateau schedulers; `unsent`: what the loggers have not got of it. `meters`:
    what the epoch had logged. `loaders_go_on`: the loaders themselves go on where they were. `random`: the states of the generators, and
    how the passes over the loaders began. `gradients` and `window`: those of the batches that are held; None where the file has none, so
    that these batches come again. `ahead`: the batch that had been fetched and not trained on, if any.
    """

    within_epoch: bool = False
    owes_plateaus: bool = False
    unsent: dict[str, Any] = field(default_factory=dict)
    held: int = 0
    after_batch: bool = False
    sends: bool = False
    validates: bool = False
    meters: tuple[Any, ...] = ()
    loaders_go_on: bool = False
    random: dict[str, Any] | None = None
    gradients: dict[str, Any] | None = None
    window: dict[str, Any] | None = None
    ahead: tuple[Any, ...] = ()

    @property
    def again(self) -> int:
        """How many batches come again, since their gradients are lost."""
        return 0 if self.loaders_go_on or self.gradients is not None else self.held


def find_place(trainer: Any, progress: Any, carried: dict[str, Any] | None, max_epochs: int | None) -> Resumption:
    """Reads from the counters where training goes on, and brings them there.

    `carried` is what a checkpoint holds beside the counters, None where the counters are those of an earlier fit of this trainer. Raises
    `MisconfigurationException` if the place lies beyond `max_epochs`.
    """
    epoch = progress.epoch
    random = random_of_rank(trainer, (carried or {}).get("random", ()))
    if carried is None:  # an epoch that an earlier fit left midway begins anew
        epoch["ready"] = epoch["started"] = epoch["processed"] = epoch["completed"]
    if max_epochs not in (None, -1) and epoch["completed"] > (max_epochs or 0):
        raise MisconfigurationException(
            f"the checkpoint was written in epoch {epoch['completed']}, and max_epochs={max_epochs} is less; raise max_epochs to go on."
        )
    over = epoch["processed"] > epoch["completed"]  # written at the end of an epoch, before it was counted
    if over:
        epoch["completed"] = epoch["processed"]
    if epoch["ready"] <= epoch["processed"]:
        unsent = (carried or {}).get("unsent", {}) if over else {}
        return Resumption(owes_plateaus=over and not progress.batch.cut_short, unsent=unsent, random=random)
    epoch["started"] = epoch["ready"]
    return replace(_find_batch(trainer, progress, carried), random=random)


def _find_batch(trainer: Any, progress: Any, carried: dict[str, Any] | None) -> Resumption:
    batch, validation, known = progress.batch, progress.val_batch, carried or {}
    between = batch.ready == batch.processed > 0  # no batch was being trained on
    in_hooks = between and batch.processed > batch.completed  # those at the end of the batch
    # Where a file does not say it: a window is counted after the validation that follows it.
    after_batch = in_hooks or (between and known.get("validating", progress.manual or progress.windows < progress.steps))
    validates = after_batch and (in_hooks or not 0 < validation.ready == validation.completed or not validation.is_last_batch)
    if validates and not in_hooks:
        validation.discard()
    size = trainer.accumulate_grad_batches
    held = known.get("held", batch.processed % size if isinstance(size, int) and not batch.is_last_batch else 0)
    if carried is not None and "windows_before" not in carried and not progress.manual:
        progress.windows = progress.steps - (after_batch and not held)  # in Lightning, each window is a step
    batch.rewind()
    return Resumption(
        within_epoch=True,
        held=held,
        after_batch=after_batch,
        sends=in_hooks,
        validates=validates,
        meters=tuple(known.get("meters", ())),
        gradients=known.get("gradients"),
        window=known.get("window"),
        ahead=tuple(known.get("ahead", ())),
    )


def restore_loaders(loader: Any, place: Resumption, carried: dict[str, Any] | None) -> Resumption:
    """Gives the loaders that keep a state the one of the checkpoint.

    Within an epoch only if all keep one, since otherwise they would go on at different places. Of those without a length a batch more was
    fetched than was trained on, which must be in the file, too.
    """
    states = (carried or {}).get("combined_loader")
    loaders = as_combined(loader)
    lost = length_of(loader) == math.inf and not place.ahead
    if not states or (place.within_epoch and (len(states) < len(loaders.flattened) or lost)):
        return place
    loaders.load_state_dict(states)
    return replace(place, loaders_go_on=place.within_epoch)


def settle_epoch(trainer: Any, place: Resumption) -> None:
    """Does what the epoch of the checkpoint still owes, if it is over."""
    progress = trainer.fit_loop.progress
    if place.owes_plateaus:
        schedule = Schedule(trainer)
        settle_plateaus(trainer, schedule, schedule.plateau_by_epoch, progress.completed_epochs)
    if place.unsent and trainer.log.muted is None:
        with progress.at_last_batch():
            trainer.log.send(place.unsent)


def settle_plateaus(trainer: Any, schedule: Any, configs: list[Any], index: int) -> None:
    """Moves plateau schedulers that had not moved yet when the checkpoint was written."""
    for config in configs:
        if config.monitor is None or config.monitor in trainer.callback_metrics:
            schedule.move([config], index)
        else:
            rank_zero_warn(
                f"{type(config.scheduler).__name__} misses one value: the checkpoint does not say what {config.monitor!r} was when it was"
                " written. Those that lx writes do."
            )
