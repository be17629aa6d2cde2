"""Where lx differs from Lightning on purpose: what Lightning's calls have to be changed to, and why lx does otherwise."""

import re
from collections.abc import Callable
from dataclasses import dataclass

Lines = list[str]

NUMBERS = ("loss", "outputs", "grads", "weights")


@dataclass(frozen=True)
class Difference:
    """One thing that lx does otherwise in a scenario; docs/explain/differences.md lists it under its id."""

    id: str
    why: str
    as_in_lx: Callable[[Lines, Lines], Lines] | None = None
    """Makes lx's calls of Lightning's; its second argument are Lightning's calls in the scenario `beside`."""
    beside: str | None = None
    """A scenario whose calls by Lightning are those of lx here, or hold a part of them."""
    apart: tuple[str, ...] = ()
    """Values that are not compared, from the line on that `since` matches, which has to be the first where they differ."""
    since: str = ""


# -- changing lines ------------------------------------------------------------------------------------------------------------


def replaced(pattern: str, by: str | Callable[[re.Match[str]], str], start: str = "", end: str = "\0") -> Callable[[Lines, Lines], Lines]:
    """Replaces `pattern` in the lines from the first that matches `start` up to the next that matches `end`."""

    def change(lines: Lines, _: Lines) -> Lines:
        first = place(lines, start)
        last = next((at for at in range(first, len(lines)) if re.search(end, lines[at])), len(lines))
        return [re.sub(pattern, by, line) if first <= at < last else line for at, line in enumerate(lines)]

    return change


def without(pattern: str, start: str = "", end: str = "\0") -> Callable[[Lines, Lines], Lines]:
    """Leaves out the lines that match `pattern`, among those from the first that matches `start` up to the next that matches `end`."""

    def change(lines: Lines, _: Lines) -> Lines:
        first = place(lines, start)
        last = next((at for at in range(first, len(lines)) if re.search(end, lines[at])), len(lines))
        return [line for at, line in enumerate(lines) if not (first <= at < last and re.search(pattern, line))]

    return change


def between(after: str, before: str) -> Callable[[Lines, Lines], Lines]:
    """Leaves out what stands between the last line that matches `after` and the last that matches `before`."""

    def change(lines: Lines, _: Lines) -> Lines:
        first, last = (max(at for at, line in enumerate(lines) if re.search(pattern, line)) for pattern in (after, before))
        return lines[: first + 1] + lines[last:]

    return change


def inserted(calls: Lines, before: str) -> Callable[[Lines, Lines], Lines]:
    """Inserts calls before the first line that matches, with the standing of that line."""

    def change(lines: Lines, _: Lines) -> Lines:
        at = place(lines, before)
        return lines[:at] + [f"{call} | {lines[at].split(' | ', 1)[1]}" for call in calls] + lines[at:]

    return change


def both(*changes: Callable[[Lines, Lines], Lines]) -> Callable[[Lines, Lines], Lines]:
    """One change after the other; each has to change something."""

    def change(lines: Lines, other: Lines) -> Lines:
        for one in changes:
            changed = one(lines, other)
            assert changed != lines, "one of the listed changes changes nothing"
            lines = changed
        return lines

    return change


def place(lines: Lines, pattern: str) -> int:
    """The index of the first line that matches."""
    return next(at for at, line in enumerate(lines) if re.search(pattern, line))


def apart(line: str, names: tuple[str, ...]) -> str:
    """A line without the values of these names."""
    for name in names:
        line = re.sub(rf"\b{name}=(\[.*?\]|\{{.*?\}}|[^,)| ]+)", f"{name}=?", line)
    return line


def counted_on(step: int) -> Callable[[re.Match[str]], str]:
    """A replacement of `step=(\\d+)` by a number that is greater by `step`."""
    return lambda match: f"step={int(match[1]) + step}"


def next_epoch(match: re.Match[str]) -> str:
    """A replacement of `epoch=(\\d+)` by the one after."""
    return f"epoch={int(match[1]) + 1}"


# -- reasons -------------------------------------------------------------------------------------------------------------------

LOADERS = Difference(
    "T120",
    "loaders are asked for outside of no_grad and inference mode, so that what is made with them can be trained on later",
    replaced(r"^([DM]\.\w+_dataloader\(\) \|.*? weights=\[.*?\])(?: grad)?(?: inference)?", r"\1 grad"),
)
"""Holds in every scenario."""


def torn_down(stage: str, *owners: str) -> Difference:
    """`teardown` of those whose `setup` has begun."""

    def change(lines: Lines, _: Lines) -> Lines:
        at = place(lines, r"^D\.on_exception") + 1
        standing = lines[at - 1].split(" | ", 1)[1]
        return lines[:at] + [f"{owner}.teardown(stage='{stage}') | {standing}" for owner in owners] + lines[at:]

    return Difference("M4", "whose setup has begun is torn down after a failure, too, so that files and processes are closed", change)


FAILED = [torn_down("fit", "D", "C", "M")]

_PARTS = "callbacks epoch global_step loops lr_schedulers optimizer_states pytorch-lightning_version state_dict"
_HELD = f"checkpoint={_PARTS.split()}"
SAVED = ["C.state_dict()", "D.state_dict()", f"C.on_save_checkpoint({_HELD})", f"M.on_save_checkpoint({_HELD})"]

NOTHING = Difference(
    "T78", "a fit that has nothing to train checks nothing, and asks for no loader", between(r"^M\.on_fit_start", r"^C\.on_fit_end")
)

EPOCH = Difference(
    "T74",
    "the number of the epoch that comes is right from the beginning of a run that is resumed",
    replaced(r"epoch=(\d+)", next_epoch, start=r"^\w\.on_sanity_check_start\(\) \| epoch=\d+ step=[1-9]", end=r"^\w\.on_train_start"),
)


SHORT = "a window that holds fewer batches than it should has the mean gradient of what it holds"


def short(beside: str) -> Difference:
    """As where the module scales its loss up for the batches of such a window."""
    return Difference("T100", SHORT, lambda lines, other: other, beside=beside)


FINISHED = [
    "M.optimizer_step(epoch=0, batch_idx=2, optimizer=Adam, optimizer_closure=a function)",
    "C.on_before_optimizer_step(optimizer=Adam)",
    "M.on_before_optimizer_step(optimizer=Adam)",
    "M.configure_gradient_clipping(optimizer=Adam, gradient_clip_val=None, gradient_clip_algorithm=None)",
]
"""The calls of the step that takes the third batch, which was left alone in its window."""


def finished(before: str) -> list[Difference]:
    """The step of a window that was left open, before the line that matches; it counts."""
    change = both(inserted(FINISHED, before), replaced(r"step=(\d+)", counted_on(1), start=before))
    since = r"^C\.on_before_optimizer_step.* step=1 "
    return [
        Difference("T75", "a window that is open when the epoch ends early is stepped with what it holds", change),
        Difference("T100", SHORT, apart=NUMBERS, since=since),
    ]


def evaluated_whole(lines: Lines, _: Lines) -> Lines:
    """Each further evaluation of a window begins with its first batch, for which gradients are cleared."""
    made: Lines = []
    first: Lines = []
    for at, line in enumerate(lines):
        if line.startswith("M.training_step("):
            if lines[at - 1].startswith("M.configure_gradient_clipping"):
                made += [
                    re.sub(r"(?<=M.optimizer_zero_grad\(epoch=0, batch_idx=)\d+", lambda match: str(int(match[0]) + 1), one)
                    for one in first
                ]
            elif not lines[at - 1].startswith("M.optimizer_step"):
                first = lines[at : at + 9]
        made.append(line)
    return made


def after_last_batch(lines: Lines, whole: Lines) -> Lines:
    """What comes before training, and then all that came after the last batch of the epoch in a run without a break."""
    head = [line.replace("epoch=1", "epoch=0") for line in lines[: place(lines, r"^M\.on_train_start") + 1]]
    first, *tail = whole[place(whole, r"^M\.on_validation_model_zero_grad") :]
    return [*head, re.sub(r"grads=\[.*?\]", "grads=[None, None]", first), *tail]


def gathered_again(lines: Lines, whole: Lines) -> Lines:
    """What comes before training, then the batch of the open window without its start and end, and then all as without a break."""
    head = lines[: place(lines, r"^M\.on_train_start") + 1]
    start, end, following = (place(whole, rf"^C\.on_train_batch_{which}\)") for which in ("start.*=2", "end.*=2", "start.*=3"))
    batch = [line for line in whole[start - 3 : end] if "on_train_batch_start" not in line]
    cleared = place(batch, r"^M\.optimizer_zero_grad") + 1
    unset = [re.sub(r"grads=\[.*?\]", "grads=[None, None]", line) for line in batch[:cleared]]
    return [*head, *unset, *batch[cleared:], *whole[following - 3 :]]


def owed_plateau(lines: Lines, whole: Lines) -> Lines:
    """What comes before training, in it the plateau scheduler's move, and then the next epoch as in a run without a break."""
    before, start = place(lines, r"^C\.on_train_start"), place(lines, r"^C\.on_train_epoch_start")
    move = whole[place(whole, r"ReduceLROnPlateau.* epoch=0 ")].replace("epoch=0", "epoch=1")
    return [*lines[:before], move, *lines[before:start], *whole[place(whole, r"^C\.on_train_epoch_start\(\) \| epoch=1") :]]


# -- scenarios -----------------------------------------------------------------------------------------------------------------

SKIPPED = Difference(
    "T73",
    "a batch that training_step skips takes no optimizer step, and does not count as one",
    both(
        without(r"zero_grad|before_optimizer_step|clipping", start=r"^M\.training_step\(.*batch_idx=1\)", end=r"on_train_batch_end"),
        replaced(r"step=(\d+)", counted_on(-1), start=r"^C\.on_train_batch_end\(.*batch_idx=1\)"),
    ),
)

DIFFERENCES: dict[str, list[Difference]] = {
    "a_window_cut_short": [short("a_window_cut_short_and_scaled")],
    "windows_longer_than_the_epoch": [short("windows_longer_than_the_epoch_and_scaled")],
    "training_without_a_length_and_an_open_window": [
        Difference("T100", SHORT, apart=NUMBERS, since=r"^C\.on_before_optimizer_step.* step=1 ")
    ],
    "a_step_that_skips_a_batch_of_a_window": [
        Difference(
            "T100",
            "a window has the mean gradient of the batches that were not skipped",
            apart=NUMBERS,
            since=r"^C\.on_before_optimizer_step",
        )
    ],
    "training_that_ends_early_within_a_window": finished(r"^C\.on_train_epoch_end"),
    "a_module_that_ends_the_epoch_within_a_window": finished(r"^M\.lr_scheduler_step"),
    "a_step_that_skips_a_batch": [SKIPPED],
    "an_optimizer_that_calls_the_closure_of_a_window_again": [
        Difference("M43", "an optimizer that evaluates a window again evaluates all of it, not its last batch alone", evaluated_whole),
        Difference("M43", "so it finds other weights", apart=("batch", *NUMBERS), since=r"^M\.training_step"),
    ],
    "no_optimizer": [
        Difference("M30", "where there is no optimizer, hooks that are handed one are not called", without(r"optimizer=Optimizer\b"))
    ],
    "a_scheduler_by_window_at_a_frequency": [
        Difference(
            "M35",
            "the frequency of a scheduler by steps counts optimizer steps, not batches",
            lambda lines, other: other,
            beside="a_scheduler_at_twice_the_frequency",
        )
    ],
    "training_without_a_length_under_a_limit_too_high": [
        Difference(
            "M34",
            "schedulers by epoch move at the end of a loader that is shorter than limit_train_batches, too",
            inserted(["M.lr_scheduler_step(scheduler=StepLR, metric=None)"], before=r"^C\.on_train_batch_end\(.*batch_idx=3\)"),
        )
    ],
    "no_training_batches": [NOTHING],
    "no_epochs": [NOTHING],
    "no_steps": [NOTHING],
    "no_time": [NOTHING],
    "stopping_when_fit_starts": [NOTHING],
    "resuming_when_all_is_done": [NOTHING],
    "failure_in_verification": [Difference("T130", "what cannot run is refused before anything is prepared", lambda lines, _: [])],
    "failure_in_setup": [torn_down("fit", "D", "C")],
    "failure_in_teardown": [torn_down("fit", "M")],
    "failure_in_test": [torn_down("test", "D", "C", "M")],
    "failure_in_predict": [torn_down("predict", "D", "C", "M")],
    "interruption_of_validation": [torn_down("validate", "D", "C", "M")],
    "interruption": FAILED,
    "failure_in_a_batch": FAILED,
    "failure_in_validation": FAILED,
    "failure_in_training_step": FAILED,
    "failure_in_configure_optimizers": FAILED,
    "failure_at_the_start_of_fit": FAILED,
    "failure_in_the_sanity_check": FAILED,
    "failure_in_backward": FAILED,
    "failure_at_the_end_of_an_epoch": FAILED,
    "failure_while_saving": FAILED,
    "failure_at_the_end_of_fit": FAILED,
    "another_fit_after_a_failure": FAILED,
    "a_callback_and_a_data_module_with_a_state": [
        EPOCH,
        Difference(
            "D6",
            "a checkpoint says of which class the state of the data module is, so that another one of the same name does not get it",
            replaced(r"'callbacks', 'epoch'", "'callbacks', 'datamodule_class', 'epoch'"),
        ),
    ],
    "states_of_the_module": [EPOCH],
    "resuming_after_an_epoch": [EPOCH],
    "resuming_after_two_epochs_with_schedulers": [EPOCH],
    "resuming_within_epochs": [EPOCH],
    "resuming_a_plateau_scheduler": [
        EPOCH,
        Difference(
            "X4",
            "a checkpoint is written before plateau schedulers move, so that the move is still due when a run goes on from it",
            owed_plateau,
            beside="a_plateau_scheduler_for_three_epochs",
        ),
    ],
    "resuming_manual_optimization": [EPOCH],
    "resuming_with_loaders_that_are_reloaded": [EPOCH],
    "resuming_within_steps": [
        Difference(
            "X4b",
            "a run that is bounded by max_steps goes on as one that is bounded by max_epochs, and loses no epoch",
            lambda lines, other: other,
            beside="resuming_within_epochs",
        ),
        EPOCH,
    ],
    "resuming_before_the_last_batch_ended": [
        Difference(
            "X4",
            "after the last batch of an epoch, what was still due comes first, and no epoch is lost",
            after_last_batch,
            beside="two_epochs_of_a_stateful_loader",
        )
    ],
    "fit_again_for_nothing": [NOTHING],
    "another_fit_after_a_failure_in_validation": FAILED,
    "a_signal_to_terminate": [
        *FAILED,
        Difference("T152", "what was trained is saved before everybody is told of the signal", inserted(SAVED, r"^C\.on_exception\(")),
    ],
    "a_model_by_hand_and_then_another": [
        Difference(
            "T73",
            "global_step goes on counting where the next model is optimized in another way",
            replaced(r"step=(\d+)", counted_on(2), start=r"^M\.configure_callbacks\(\) \| epoch=1"),
        )
    ],
    "resuming_within_a_window": [
        Difference(
            "X4", "the gradients of a window that a checkpoint cut are gathered again", gathered_again, beside="windows_without_a_break"
        )
    ],
    "resuming_within_a_window_with_a_loader_that_goes_on": [
        Difference(
            "X4",
            "gradients are cleared for the first batch of a window that is there",
            inserted(
                [
                    "C.on_before_zero_grad(optimizer=Adam)",
                    "M.on_before_zero_grad(optimizer=Adam)",
                    "M.optimizer_zero_grad(epoch=0, batch_idx=3, optimizer=Adam)",
                ],
                before=r"^C\.on_before_backward",
            ),
        ),
        Difference("T100", SHORT, apart=NUMBERS, since=r"^C\.on_before_optimizer_step"),
    ],
    "resuming_midway_with_a_plain_loader": [
        Difference(
            "D32",
            "a loader without a state goes on behind the batches that were trained on, and does not repeat them",
            lambda lines, other: other,
            beside="resuming_midway",
        )
    ],
}
