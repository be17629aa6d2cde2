"""Where lx logs something else than Lightning on purpose, and why."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Entries = list[Any]


@dataclass(frozen=True)
class Difference:
    """A difference: its id in docs/explain/differences.md, why, and what turns the entries of Lightning into those of lx."""

    id: str
    reason: str
    as_in_lx: Callable[[Entries], Entries]


def sent_once(entries: Entries) -> Entries:
    """Without the values that were sent before; in these scenarios no other value is the same as the one before it."""
    sent: dict[str, Any] = {}
    told = []
    for what, *rest in entries:
        if what == "log":
            step, values = rest
            rest = [step, {name: value for name, value in values.items() if name == "epoch" or sent.get(name) != value}]
            sent |= values
        told.append([what, *rest])
    return told


def of_one_loader_alone(entries: Entries) -> Entries:
    """Without the values of the first loader while the second one is evaluated."""
    return [[moment, name, {}] if moment == "on_validation_batch_end" else [moment, name, values] for moment, name, values in entries]


def refused(entries: Entries) -> Entries:
    """An error in the place of a run."""
    return [["finalize", "failed"], ["sync_dist", "raised", "MisconfigurationException"]]


def refused_for_want_of_a_value(entries: Entries) -> Entries:
    """An error in the place of a run that has no value of the metric."""
    return [["finalize", "failed"], ["nothing", "raised", "ValueError"]]


def rates_like_all_values(entries: Entries) -> Entries:
    """With a `save` after each value, and the last rates among what was logged."""
    told: Entries = []
    for entry in (entry for entry in entries if entry[0] != "save"):
        told.append(entry)
        if entry[0] == "log":
            told.append(["save"])
        elif entry[1:2] == ["logged_metrics"]:
            entry[2]["lr-SGD"] = 0.001
    return told


ONCE = Difference(
    "M82",
    "A step's value is sent once. Lightning sends the last one again whenever other names are due, which draws points that were never"
    " measured.",
    sent_once,
)

DIFFERENCES: dict[str, Difference] = {
    "a_name_logged_now_and_then": ONCE,
    "validation_between_steps": ONCE,
    "the_first_loader_while_the_second_runs": Difference(
        "M80",
        "The epoch values of all loaders are reduced together, in one collective, when the last one was evaluated; Lightning reduces those"
        " of a loader when the next one begins.",
        of_one_loader_alone,
    ),
    "synchronisation_is_an_argument_like_others": Difference(
        "M74",
        "A name that is logged twice in a hook has one set of arguments. Lightning lets sync_dist differ, and obeys the first.",
        refused,
    ),
    "a_metric_that_computes_nothing": Difference(
        "M79",
        "A metric object whose compute() returns None is refused as any other value that is no number; Lightning leaves it out silently.",
        refused_for_want_of_a_value,
    ),
    "learning_rates": Difference(
        "C70",
        "LearningRateMonitor logs through the trainer, so that every value is followed by save() and found in logged_metrics; in Lightning"
        " it goes past both.",
        rates_like_all_values,
    ),
}
