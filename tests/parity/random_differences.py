"""Where a drawn training may do otherwise with lx than with Lightning: by id of the specification, why, when, and what is compared then."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatch

import random_patches as patches
import random_rules as rules
from random_draws import TRAINING, Draw
from random_runs import Outcome

ROUNDED = {
    "callback_metrics": 1e-5,
    "logged_metrics": 1e-5,
    "progress_bar_metrics": 1e-5,
    "logs": 1e-5,
    "result": 1e-5,
    "scores": 1e-5,
    "stopping": 1e-5,
    "schedulers": 1e-5,
}
"""What means are among, in which lx sums in double precision, and how near they are to Lightning's; all else has to be equal."""


@dataclass(frozen=True)
class Difference:
    """One difference; a draw falls under it only if it `shows`, and if the outcomes are equal with it, and not without."""

    why: str
    shows: Callable[[Draw], bool]
    patch: Callable[..., None] | None = None
    """Makes Lightning do what lx does; then everything is compared."""
    as_in_lx: Callable[[Draw, Outcome, Outcome], Outcome] | None = None
    """Makes of Lightning's outcome that of lx, which it gets, too; then everything is compared."""
    cut: Callable[[Draw, Outcome], Outcome] | None = None
    """Leaves a part out of both outcomes."""
    apart: tuple[str, ...] = ()
    """The names of the outcome that are not compared."""
    compared: tuple[str, ...] = ()
    """If there are any: no other names are compared."""
    tolerance: float = 0.0
    """How near numbers have to be that are equal otherwise."""

    def leaves_out(self, name: str) -> bool:
        if self.compared and not any(fnmatch(name, pattern) for pattern in self.compared):
            return True
        return any(fnmatch(name, pattern) for pattern in self.apart)


def has_short_window(draw: Draw) -> bool:
    return not draw.manual and draw.window > 1 and draw.really % draw.window != 0


def skips(draw: Draw) -> bool:
    return not draw.manual and any(place < draw.really for place in draw.skipped)


def resumes(draw: Draw) -> bool:
    return draw.resume is not None


def shuffles(draw: Draw) -> bool:
    return any(rows.kind == "shuffled" for rows in draw.train)


def nothing_to_train(draw: Draw) -> bool:
    bounds = () if draw.trainer.get("fast_dev_run") else (draw.trainer.get("max_steps"), draw.trainer.get("max_epochs"))
    return 0 in bounds or draw.really == 0 or (draw.resume is not None and 0 in (draw.resume.more, draw.resume.more_steps))


def may_send_again(draw: Draw) -> bool:
    return any(one.options.get("on_step") is not False if one.hook in TRAINING else one.options.get("on_step") for one in draw.logged)


def keeps_last(draw: Draw) -> bool:
    return draw.checkpoint is not None and bool(draw.checkpoint.get("save_last"))


def takes_no_step(draw: Draw) -> bool:
    given = range(draw.really if draw.ends_before is None else min(draw.ends_before, draw.really))
    return set(given) <= (set() if draw.manual else set(draw.skipped))


def ends_within_window(draw: Draw) -> bool:
    ends = draw.really if draw.ends_before is None else min(draw.ends_before, draw.really)
    return not draw.manual and ends < draw.batches < math.inf and ends % draw.window != 0


def is_unseen_interval(draw: Draw) -> bool:
    """Whether validation comes at other times than the ends of epochs, and there is none."""
    regular = draw.trainer.get("val_check_interval", 1.0) == 1.0 and draw.trainer.get("check_val_every_n_epoch", 1) == 1
    return not regular and not draw.validates


def looks_without_validation(draw: Draw) -> bool:
    return draw.stopping is not None and "check_on_train_epoch_end" not in draw.stopping and is_unseen_interval(draw)


def saves_without_validation(draw: Draw) -> bool:
    return draw.checkpoint is not None and "save_on_train_epoch_end" not in draw.checkpoint and is_unseen_interval(draw)


def goes_on_after_last_batch(draw: Draw) -> bool:
    steps = math.ceil(draw.really / draw.window) * max(1, draw.manual)
    if draw.resume is None or not steps:
        return False
    interval = draw.trainer.get("val_check_interval", 1.0)
    validates_within = draw.validates and (isinstance(interval, int) or interval != 1.0)
    if not saves_after_batch(draw):  # but after a validation, which may be the last thing that a bounded run did
        return draw.checkpoint is not None and validates_within and "max_steps" in draw.trainer and not draw.resume.more_steps
    return draw.resume.at is None or draw.resume.at % steps == 0 or validates_within


def saves_after_batch(draw: Draw) -> bool:
    """Whether the file that a run goes on from is written when a batch ends."""
    by_steps = draw.checkpoint is not None and "every_n_train_steps" in draw.checkpoint
    return draw.resume is not None and (draw.resume.at is not None or by_steps)


def watches_training(draw: Draw) -> bool:
    names = {one.name for one in draw.logged if one.hook in TRAINING}
    return saves_after_batch(draw) and any(
        options is not None and options.get("monitor") in names for options in (draw.checkpoint, draw.stopping)
    )


def waits_for_value(draw: Draw) -> bool:
    return draw.checkpoint is not None and "every_n_train_steps" in draw.checkpoint and "monitor" in draw.checkpoint


def ends_before_limit(draw: Draw) -> bool:
    return draw.really < draw.batches < math.inf and any(rows.kind == "iterable" for rows in draw.train)


DIFFERENCES: dict[str, Difference] = {
    "T100": Difference(
        "a window has the mean gradient of the batches that it holds, also where it is shorter than others, or some were skipped",
        lambda draw: has_short_window(draw) or (draw.window > 1 and skips(draw)),
        patch=patches.whole_windows,
        tolerance=1e-4,
    ),
    "T73": Difference(
        "a batch that training_step skips takes no optimizer step, and does not count as one",
        skips,
        patch=patches.uncounted,
        cut=rules.without_what_goes_on,
    ),
    "M35": Difference(
        "the frequency of a scheduler by steps counts optimizer steps, not batches",
        lambda draw: draw.schedule is not None and draw.schedule.interval == "step" and draw.schedule.frequency > 1 and draw.window > 1,
        patch=patches.by_windows,
    ),
    "M74": Difference(
        "what an optimizer evaluates again within a step is not logged again",
        lambda draw: draw.optimizer == "lbfgs" and any(one.hook == "training_step" for one in draw.logged),
        patch=patches.logged_once,
    ),
    "D20": Difference(
        "a list of batches is a loader, not several",
        lambda draw: any(rows.kind == "list" for rows in (*draw.train, *draw.val)),
        patch=patches.lists_as_loaders,
    ),
    "D32": Difference(
        "a run that goes on within an epoch passes over the batches that were trained on, and does not train on them twice",
        resumes,
        patch=patches.passing_over,
    ),
    "D32 shuffled": Difference(
        "and in the order that the loaders would have had: the states of random generators are in the file",
        lambda draw: resumes(draw) and any(rows.kind == "shuffled" for rows in (*draw.train, *draw.val)),
        compared=("fit *", "resume refused", "resume epoch", "resume step"),
    ),
    "T84": Difference(
        "loaders that are reloaded are asked for once, and begun once; Lightning begins them twice, which moves the generator of a shuffle"
        " on, and asks twice where a run goes on",
        lambda draw: "reload_dataloaders_every_n_epochs" in draw.trainer and (shuffles(draw) or (draw.by_hooks and resumes(draw))),
        patch=patches.begun_once,
    ),
    "T84 validation": Difference(
        "validation loaders are reloaded every so many epochs; Lightning also does it before the first validation of a later epoch",
        lambda draw: bool(
            draw.by_hooks
            and draw.validates
            and "reload_dataloaders_every_n_epochs" in draw.trainer
            and draw.trainer.get("check_val_every_n_epoch", 1) != 1
        ),
        compared=("fit refused", "fit epoch", "fit step", "fit weights", "fit rates"),
    ),
    "X4b": Difference(
        "a run that is bounded by max_steps goes on from the end of an epoch as any other",
        lambda draw: resumes(draw) and draw.trainer.get("max_steps", -1) != -1,
        patch=patches.steps_bound_later,
    ),
    "T78": Difference(
        "a fit that has nothing to train checks nothing, and asks for no loader",
        nothing_to_train,
        as_in_lx=rules.nothing_called,
    ),
    "M82": Difference(
        "the value of a step is sent once; Lightning sends the last one again whenever other names are due",
        may_send_again,
        as_in_lx=rules.sent_once,
    ),
    "X2": Difference(
        "a file that was written within an epoch holds what the epoch has logged so far, and the means are of all of it",
        resumes,
        cut=rules.without_earlier_batches,
    ),
    "C21": Difference(
        "the last checkpoint is written whenever one is due, also with no other beside it, but not before a step was taken, and a run that"
        " goes on has the one that it had",
        lambda draw: keeps_last(draw) and (resumes(draw) or takes_no_step(draw) or (draw.checkpoint or {}).get("save_top_k") == 0),
        cut=rules.without_last,
    ),
    "T75": Difference(
        "a window that is open when the module ends the epoch, or when data end sooner than they said, is stepped with what it holds",
        ends_within_window,
        cut=rules.first_epoch_if_bounded,
        compared=("fit refused", "fit fed", "fit epoch"),
    ),
    "C41": Difference(
        "EarlyStopping looks at the end of training epochs where nothing is validated, whatever the interval",
        looks_without_validation,
        patch=patches.looked_at_after_training,
    ),
    "C17": Difference(
        "ModelCheckpoint saves at the end of training epochs where nothing is validated, whatever the interval",
        saves_without_validation,
        patch=patches.saved_after_training,
    ),
    "M34": Difference(
        "a scheduler by steps moves after steps, not at the batch before which the module ends the epoch",
        lambda draw: draw.ends_before is not None and draw.schedule is not None and draw.schedule.interval == "step",
        patch=patches.moved_after_steps,
    ),
    "C18": Difference(
        "a step is ranked by the validation that follows it, or at the epoch's end; Lightning takes the value of the one before",
        waits_for_value,
        apart=("* files", "* paths", "* scores", "* family"),
    ),
    "M43": Difference(
        "an optimizer that evaluates a window again evaluates all of it, not its last batch alone",
        lambda draw: draw.optimizer == "lbfgs" and draw.window > 1,
        cut=rules.without_steps,
        compared=("fit refused", "fit fed", "fit events"),
    ),
    "X4": Difference(
        "what was still due after the last batch of an epoch comes first when a run goes on, and no epoch is lost",
        goes_on_after_last_batch,
        compared=("fit *", "resume refused"),
    ),
    "M34 resumed": Difference(
        "a plateau scheduler moves as in a run without a break: at the end of an epoch that was gone on within, and where a file was"
        " written before it moved",
        lambda draw: resumes(draw) and draw.schedule is not None and draw.schedule.kind == "plateau",
        compared=("fit *", "resume refused", "resume fed", "resume epoch", "resume step"),
    ),
    "X3": Difference(
        "the values of the batch, or of the epoch, at whose end a file was written are sent when a run goes on from it",
        resumes,
        as_in_lx=rules.sent_again,
    ),
    "T81": Difference(
        "fast_dev_run writes no checkpoint; Lightning writes the last one",
        lambda draw: bool(draw.trainer.get("fast_dev_run")) and keeps_last(draw),
        apart=("fit files", "fit paths"),
    ),
    "T90": Difference(
        "an interval of validation that nobody needs is not refused",
        lambda draw: not draw.validates and "val_check_interval" in draw.trainer,
        patch=patches.interval_unused,
    ),
    "M82 reloaded": Difference(
        "the axis of evaluated batches goes on when loaders are reloaded; Lightning begins it anew, and draws a second line over the first",
        lambda draw: "reload_dataloaders_every_n_epochs" in draw.trainer and any(one.options.get("on_step") for one in draw.logged),
        cut=rules.without_axis,
    ),
    "X2 watched": Difference(
        "and so callbacks that watch a value of training know it at the end of the epoch that a run goes on within",
        watches_training,
        compared=("fit *",),
    ),
    "T74": Difference(
        "a run that goes on from the end of an epoch begins with the number of the next, also where nothing is left to do",
        nothing_to_train,
        apart=("resume epoch",),
    ),
    "C25": Difference(
        "the newest score is known to a run that goes on; Lightning writes it, and does not read it",
        lambda draw: resumes(draw) and draw.checkpoint is not None and "monitor" in draw.checkpoint,
        cut=rules.without_current_score,
    ),
    "X1": Difference(
        "a file holds what callbacks looked at, so that a run that goes on shows it",
        resumes,
        as_in_lx=rules.known_metrics,
    ),
    "D23": Difference(
        "the last batch of a loader without a length is known as such, also where it comes before the limit",
        ends_before_limit,
        cut=rules.without_last_marks,
    ),
    "D23 schedulers": Difference(
        "and so schedulers by epoch move there",
        lambda draw: ends_before_limit(draw) and draw.schedule is not None and draw.schedule.interval == "epoch",
        compared=("fit refused", "fit fed", "fit events"),
    ),
    "D15": Difference(
        "a mode in which several loaders cannot be trained on is refused before anything is called",
        lambda draw: draw.mode == "sequential",
        compared=("fit refused",),
    ),
    "T80": Difference(
        "a fraction of several loaders is one of the batches that they give together; Lightning takes it of each, and refuses it of one"
        " without a length or with few batches",
        lambda draw: len(draw.train) > 1 and isinstance(draw.trainer.get("limit_train_batches"), float) and 0 < draw.batches < math.inf,
        patch=patches.limit_as_number,
    ),
    "T51": Difference(
        "validate and test return every value of an epoch, also those that are kept from loggers",
        lambda draw: bool(draw.then) and any(one.options.get("logger") is False for one in draw.logged),
        apart=("validate * result", "test * result"),
    ),
    "C16": Difference(
        "a value that is missing where a checkpoint by steps is due is refused, at the end of the epoch, and nowhere else; Lightning saves"
        " nothing, and says nothing, or refuses it where none is due",
        lambda draw: waits_for_value(draw),
        as_in_lx=rules.refused_for_want_of_a_value,
    ),
    "T83": Difference(
        "with overfit_batches, validate goes through the loader in order, as fit does, so that it sees the same batches",
        lambda draw: bool(draw.trainer.get("overfit_batches")) and any(rows.kind == "shuffled" for rows in draw.val),
        apart=("validate *",),
    ),
}
