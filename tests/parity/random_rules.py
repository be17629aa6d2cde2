"""What makes of the outcome of a training with Lightning that with lx, or leaves a part out of both."""

from typing import Any

from random_draws import TRAINING, Draw
from random_runs import Outcome


def nothing_called(draw: Draw, mine: Outcome, theirs: Outcome) -> Outcome:
    """Nothing is called, and nothing of the data refused."""
    if mine["fit events"] == [] and not mine["fit refused"] and theirs["fit refused"]:
        return mine
    found = {}
    for stage in ("fit", "resume"):
        if mine.get(f"{stage} events") == [] and not any("train" in event for event in theirs.get(f"{stage} events", ["train"])):
            found |= {f"{stage} {name}": [] for name in ("events", "fed", "losses", "pace")}
    return {**theirs, **found}


def sent_once(draw: Draw, mine: Outcome, theirs: Outcome) -> Outcome:
    """Without values that were sent before, where lx does not send them."""
    found = {}
    for name in theirs:
        if name.endswith(" logs") and name in mine:
            found[name] = list(of_one_stage(list(mine[name]), theirs[name]))
    return {**theirs, **found}


def of_one_stage(mine: list[Any], theirs: list[Any]) -> Any:
    """The calls of a logger, of Lightning's without the values that were sent before and that lx does not send here."""
    sent: dict[str, Any] = {}
    for what, *rest in theirs:
        if what != "log":
            yield (what, *rest)
            continue
        step, values = rest
        here = mine[0][2] if mine and mine[0][:2] == ("log", step) else {}
        new = {name: value for name, value in values.items() if name in here or name == "epoch" or sent.get(name) != value}
        sent |= values
        if new.keys() - {"epoch"}:
            yield (what, step, new)
            del mine[:1]


def without_earlier_batches(draw: Draw, outcome: Outcome) -> Outcome:
    """Without the values of the training epoch, which Lightning does not know whole when it goes on within one."""
    names = {one.name for one in draw.logged if one.hook in TRAINING and one.options.get("on_epoch")} | {"es"}
    gone = names | {f"{name}_epoch" for name in names}
    found = {}
    for what in ("callback_metrics", "logged_metrics", "progress_bar_metrics"):
        if f"resume {what}" in outcome:
            found[f"resume {what}"] = without(outcome[f"resume {what}"], gone)
    if "resume logs" in outcome:
        calls = [("log", call[1], without(call[2], gone)) for call in outcome["resume logs"] if call[0] == "log"]
        found["resume logs"] = [call for call in calls if call[2].keys() - {"epoch"}]
    return {**outcome, **found}


def without(values: dict[str, Any], names: set[str]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name not in names}


def without_last(draw: Draw, outcome: Outcome) -> Outcome:
    """Without the last checkpoint, and what goes on from it where there is no other."""
    if draw.checkpoint is not None and draw.checkpoint.get("save_top_k") == 0 and draw.resume is not None and draw.resume.at is None:
        outcome = without_what_goes_on(draw, outcome)
    found = {}
    for stage in ("fit", "resume"):
        if f"{stage} files" in outcome:
            files, paths = outcome[f"{stage} files"], outcome[f"{stage} paths"]
            found[f"{stage} files"] = {name: at for name, at in files.items() if not name.startswith("last")}
            found[f"{stage} paths"] = without(paths, {"last_model_path"})
    return {**outcome, **found}


def without_steps(draw: Draw, outcome: Outcome) -> Outcome:
    """Without the evaluations of the loss, of which there may be more or fewer where the loss is another."""
    return {**outcome, "fit events": [event for event in outcome["fit events"] if not event.startswith("step ")]}


def refused_for_want_of_a_value(draw: Draw, mine: Outcome, theirs: Outcome) -> Outcome:
    """As with lx, if a value that is missing is what either of them says."""
    says = mine.get("fit message", "").startswith("MisconfigurationException: ModelCheckpoint(monitor=")
    return mine if says or "could not find the monitored key" in theirs.get("fit message", "") else theirs


def without_what_goes_on(draw: Draw, outcome: Outcome) -> Outcome:
    """Without a second run, since Lightning finds its place by the number of steps, and what follows it."""
    if draw.resume is None:
        return outcome
    return {name: value for name, value in outcome.items() if name.startswith("fit ")}


def without_axis(draw: Draw, outcome: Outcome) -> Outcome:
    """Without where on the axis the values of evaluated batches stand."""
    found = {}
    for name in outcome:
        if name.endswith(" logs"):
            found[name] = [call if call[0] != "log" or "epoch" in call[2] else ("log", None, call[2]) for call in outcome[name]]
    return {**outcome, **found}


def without_current_score(draw: Draw, outcome: Outcome) -> Outcome:
    """Without the newest score."""
    scores = outcome.get("resume scores")
    return {**outcome, "resume scores": without(scores, {"current_score"})} if scores else outcome


def known_metrics(draw: Draw, mine: Outcome, theirs: Outcome) -> Outcome:
    """With the metrics that the file holds, and that were not logged again."""
    if theirs.get("resume refused") and not mine.get("resume refused") and "available" in theirs["resume message"]:
        return mine
    names = [f"resume {what}" for what in ("callback_metrics", "logged_metrics", "progress_bar_metrics")]
    found = {name: {**mine.get(name, {}), **theirs[name]} for name in names if name in theirs}
    return {**theirs, **found}


def sent_again(draw: Draw, mine: Outcome, theirs: Outcome) -> Outcome:
    """With the values of the batch, or of the epoch, that the file was written after, which lx sends and Lightning forgets."""
    ours, others = mine.get("resume logs", []), theirs.get("resume logs", [])
    if ours and ours[0][0] == "log" and len(ours) == len(others) + 1 and (not others or others[0][:2] != ours[0][:2]):
        return {**theirs, "resume logs": [ours[0], *others]}
    return theirs


def without_last_marks(draw: Draw, outcome: Outcome) -> Outcome:
    """Without what says that a batch is the last of its epoch."""
    found = {name: [event.replace(" last", "") for event in outcome[name]] for name in outcome if name.endswith(" events")}
    return {**outcome, **found}


def first_epoch_if_bounded(draw: Draw, outcome: Outcome) -> Outcome:
    """Where steps bound the run: only what was called in its first epoch, but for the steps."""
    if not {"max_steps", "min_steps"} & draw.trainer.keys():
        return outcome
    events = outcome["fit events"]
    end = next((at for at, event in enumerate(events) if event.startswith("epoch done")), len(events))
    return {"fit fed": [event.partition(" e0")[0] for event in events[:end] if not event.startswith("step")]}
