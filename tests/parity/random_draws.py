"""What is drawn: a training with everything that can be chosen about it, small, and mostly one that runs."""

import math
from dataclasses import dataclass, field, fields, replace
from typing import Any

from hypothesis import strategies as st

Options = dict[str, Any]
TRAINING = ("training_step", "on_train_batch_end", "on_train_epoch_start", "on_train_epoch_end")
"""The hooks of training in which something is logged."""


class Drawn:
    """Shows only what is not as usual, so that a failure is short to read."""

    def __repr__(self) -> str:
        usual = type(self)()
        said = [
            f"{part.name}={getattr(self, part.name)!r}" for part in fields(self) if getattr(self, part.name) != getattr(usual, part.name)
        ]  # type: ignore[arg-type]
        return f"{type(self).__name__}({', '.join(said)})"


@dataclass(frozen=True, repr=False)
class Rows(Drawn):
    """A loader: how many rows, how many of them to a batch, and what kind of iterable it is."""

    count: int = 8
    size: int = 2
    kind: str = "map"
    """`map`: a DataLoader; `shuffled`: one with a generator of its own; `iterable`: one without a length; `list`: a list of batches."""

    @property
    def batches(self) -> int:
        return math.ceil(self.count / self.size)


@dataclass(frozen=True, repr=False)
class Logged(Drawn):
    """One call of `self.log`."""

    name: str = "loss"
    hook: str = "training_step"
    value: str = "loss"
    """`loss`: that of the batch; `count`: a number that follows from how often it was logged alone."""
    options: Options = field(default_factory=dict)
    every: int = 1
    """On each so-many-th batch."""


@dataclass(frozen=True, repr=False)
class Schedule(Drawn):
    """A scheduler as `configure_optimizers` returns it."""

    kind: str = "step"
    interval: str = "epoch"
    frequency: int = 1
    monitor: str | None = None
    strict: bool = True


@dataclass(frozen=True, repr=False)
class Resume(Drawn):
    """A second run that goes on from a checkpoint of the first."""

    at: int | None = None
    """Written at the end of the batch that this optimizer step is of; None: the newest that ModelCheckpoint has written."""
    more: int = 1
    """So many more epochs."""
    more_steps: int = 0
    """So many more steps, where they are bounded."""


@dataclass(frozen=True, repr=False)
class Draw(Drawn):
    """One training, and what follows it."""

    trainer: Options = field(default_factory=dict)
    train: tuple[Rows, ...] = (Rows(),)
    mode: str | None = None
    """How several training loaders are combined; None: the trainer does."""
    val: tuple[Rows, ...] = ()
    by_hooks: bool = False
    """Loaders come from hooks of the module, with other rows each time."""
    optimizer: str = "sgd"
    schedule: Schedule | None = None
    manual: int = 0
    """How many optimizers the module steps by itself."""
    returns: str = "tensor"
    skipped: tuple[int, ...] = ()
    """Batches of an epoch for which `training_step` returns None."""
    ends_before: int | None = None
    """The batch of an epoch before which `on_train_batch_start` returns -1."""
    stops_at: int | None = None
    """The training batch, counted from the beginning, at whose end a callback asks to stop."""
    logged: tuple[Logged, ...] = ()
    checkpoint: Options | None = None
    stopping: Options | None = None
    resume: Resume | None = None
    then: tuple[str, ...] = ()
    """Entry points that follow."""

    @property
    def batches(self) -> float:
        """The batches of an epoch; `inf` if the trainer cannot know them."""
        lengths = [math.inf if rows.kind == "iterable" else rows.batches for rows in self.train]
        available: float = min(lengths) if self.mode == "min_size" else max(lengths)
        limit = self.trainer.get("overfit_batches") or self.trainer.get("limit_train_batches", 1.0)
        limit = self.trainer.get("fast_dev_run") or limit
        if isinstance(limit, float) and available == math.inf:
            return available if limit else 0
        return min(available, limit) if isinstance(limit, int) else int(available * limit)

    @property
    def really(self) -> int:
        """The batches that an epoch has in truth."""
        lengths = [rows.batches for rows in self.train]
        return int(min(self.batches, min(lengths) if self.mode == "min_size" else max(lengths)))

    @property
    def window(self) -> int:
        return int(self.trainer.get("accumulate_grad_batches", 1))

    @property
    def validates(self) -> bool:
        limit = self.trainer.get("overfit_batches") or self.trainer.get("limit_val_batches", 1.0)
        return bool(self.val) and bool(limit)


def maybe(strategy: st.SearchStrategy[Any], one_in: int = 3, otherwise: Any = None) -> st.SearchStrategy[Any]:
    """Something else than usual, in one of so many draws."""
    return st.integers(1, one_in).flatmap(lambda number: strategy if number == one_in else st.just(otherwise))


def any_of(options: dict[str, st.SearchStrategy[Any]], one_in: int) -> st.SearchStrategy[Options]:
    """Some of these options."""
    kept = {name: maybe(strategy.map(lambda value: (value,)), one_in, ()) for name, strategy in options.items()}
    return st.fixed_dictionaries(kept).map(lambda found: {name: value[0] for name, value in found.items() if value})


LIMITS = st.sampled_from([1.0, 0.5, 0.25, 1, 2, 3, 5, 100, 0.75, 0, 0.0])


@st.composite
def loaders(draw: Any) -> Rows:
    kind = draw(st.sampled_from(["map"] * 18 + ["shuffled"] * 8 + ["iterable"] * 3 + ["list"]))
    size = draw(st.integers(1, 3))
    return Rows(draw(st.integers(1, 6)) * size + draw(st.integers(0, size - 1)), size, kind)


@st.composite
def trainings(draw: Any) -> Draw:
    train = tuple(draw(st.lists(loaders(), min_size=1, max_size=3))) if draw(st.integers(0, 4)) == 4 else (draw(loaders()),)
    mode = draw(maybe(st.sampled_from(["min_size", "max_size_cycle", "max_size"] * 3 + ["sequential"]), 2)) if len(train) > 1 else None
    val = tuple(draw(st.lists(loaders(), min_size=0, max_size=3))) if draw(st.integers(0, 2)) == 2 else (draw(loaders()),)
    if len(val) > 1 and all(rows.kind == "list" for rows in val):  # which may as well be one list of batches
        val = (replace(val[0], kind="map"), *val[1:])
    batches = Draw(train=train, mode=mode).really
    trainer = draw(durations(batches)) | draw(validation_times(batches)) | draw(others())
    manual = draw(maybe(st.integers(1, 2), 6, 0))
    if manual:
        for name in ("gradient_clip_val", "gradient_clip_algorithm", "accumulate_grad_batches"):
            if name in trainer and draw(st.integers(0, 9)):
                del trainer[name]
    logged = draw(logs())
    names = sorted({one.name for one in logged} | {"v", "missing"})
    checkpoint = draw(maybe(checkpoints(names), 2))
    if trainer.get("barebones"):
        checkpoint = None
        for name in ("fast_dev_run", "log_every_n_steps", "num_sanity_val_steps"):
            trainer.pop(name, None)
    return Draw(
        trainer=trainer,
        train=train,
        mode=mode,
        val=val,
        by_hooks=draw(maybe(st.just(True), 4, False)) or "reload_dataloaders_every_n_epochs" in trainer,
        optimizer=draw(st.sampled_from(["sgd", "sgd", "adam", "adam", "lbfgs"] if not manual else ["sgd", "adam"])),
        schedule=draw(maybe(schedules(names), 2)),
        manual=manual,
        returns=draw(st.sampled_from(["tensor", "mapping"])),
        skipped=tuple(sorted(draw(maybe(st.sets(st.integers(0, 4), min_size=1, max_size=3), 8, ())))),
        ends_before=draw(maybe(st.integers(0, 4), 10)),
        stops_at=draw(maybe(st.integers(0, 8), 6)),
        logged=logged,
        checkpoint=checkpoint,
        stopping=draw(maybe(stoppings(names), 4)),
        resume=None if trainer.get("fast_dev_run") else draw(maybe(resumes(), 3)),
        then=tuple(draw(maybe(st.lists(st.sampled_from(["validate", "test", "predict", "validate best"]), max_size=2), 3, [])))
        if val
        else (),
    )


@st.composite
def durations(draw: Any, batches: int) -> Options:
    epochs = draw(st.sampled_from([1, 2, 2, 3, 3, 2, 1, 2, 3, 2, 2, 3, 3, 0]))
    kind = draw(st.integers(0, 7))
    steps = draw(st.integers(0 if draw(st.integers(0, 9)) == 9 else 1, 3 * batches + 1))
    bounds: Options = {"max_epochs": epochs}
    if kind == 5:
        bounds["max_steps"] = steps
    elif kind == 6:
        bounds = {"max_steps": steps}
    elif kind == 7:
        bounds |= draw(any_of({"min_epochs": st.integers(0, 3), "min_steps": st.integers(0, 2 * batches)}, 2))
    limits = {
        "limit_train_batches": LIMITS,
        "limit_val_batches": LIMITS,
        "overfit_batches": st.sampled_from([1, 2, 0.5, 1.0, 0.0]),
        "fast_dev_run": st.sampled_from([True, 2, False]),
    }
    return bounds | draw(any_of(limits, 9))


@st.composite
def validation_times(draw: Any, batches: int) -> Options:
    kind = draw(st.integers(0, 5))
    count = st.integers(1, max(1, batches) + (draw(st.integers(0, 7)) == 7))
    if kind == 3:
        return {"val_check_interval": draw(st.sampled_from([0.5, 0.3, 0.25, 1.0]))}
    if kind == 4:
        return {"val_check_interval": draw(count)} | draw(any_of({"check_val_every_n_epoch": st.integers(1, 3)}, 3))
    if kind == 5:
        if draw(st.booleans()):
            return {"val_check_interval": draw(st.integers(1, 2 * batches)), "check_val_every_n_epoch": None}
        return {"check_val_every_n_epoch": draw(st.integers(1, 3))}
    return {}


def others() -> st.SearchStrategy[Options]:
    often = {
        "accumulate_grad_batches": st.sampled_from([2, 3, 2, 5]),
        "num_sanity_val_steps": st.sampled_from([0, 1, -1, 2]),
        "log_every_n_steps": st.sampled_from([2, 3, 50, 0]),
    }
    seldom = {
        "gradient_clip_val": st.sampled_from([0.1, 0.5, 1, 0]),
        "gradient_clip_algorithm": st.sampled_from(["norm", "value"]),
        "reload_dataloaders_every_n_epochs": st.integers(1, 2),
        "enable_checkpointing": st.just(False),
        "inference_mode": st.just(False),
    }
    parts = (any_of(often, 4), any_of(seldom, 7), any_of({"barebones": st.just(True)}, 30))
    return st.tuples(*parts).map(lambda found: {**found[0], **found[1], **found[2]})


@st.composite
def logs(draw: Any) -> tuple[Logged, ...]:
    found = {}
    for one in draw(st.lists(log_calls(), max_size=4)):
        found[one.name] = one
    if draw(st.integers(0, 3)):
        found["v"] = Logged("v", "validation_step", "count")
    return tuple(found[name] for name in sorted(found))


@st.composite
def log_calls(draw: Any) -> Logged:
    name, hook = draw(
        st.sampled_from(
            [
                *(("loss", "training_step"), ("t", "training_step"), ("b", "on_train_batch_end"), ("e", "on_train_epoch_end")),
                *(("v", "validation_step"), ("w", "validation_step"), ("ve", "on_validation_epoch_end"), ("es", "on_train_epoch_start")),
            ]
        )
    )
    within = hook in ("training_step", "on_train_batch_end", "validation_step")
    options = draw(any_of({"on_step": st.booleans(), "on_epoch": st.booleans()} if within else {"on_epoch": st.just(True)}, 2))
    if options.get("on_step") is False and options.get("on_epoch", hook == "validation_step") is False:
        options["on_epoch"] = True
    if options.get("on_epoch") is False and not options.get("on_step", hook != "validation_step"):
        options["on_step"] = True
    more = {"prog_bar": st.booleans(), "reduce_fx": st.sampled_from(["mean", "sum", "min", "max"]), "logger": st.booleans()}
    more |= {"batch_size": st.integers(1, 3)} | ({"add_dataloader_idx": st.just(False)} if hook == "validation_step" else {})
    options |= draw(any_of(more, 5))
    return Logged(
        name, hook, draw(st.sampled_from(["count", "loss"])) if within else "count", options, draw(maybe(st.integers(2, 3), 5, 1))
    )


@st.composite
def schedules(draw: Any, names: list[str]) -> Schedule:
    kind = draw(st.sampled_from(["step", "exponential", "plateau"]))
    interval = draw(st.sampled_from(["epoch", "step"]))
    monitor = draw(st.sampled_from(names)) if kind == "plateau" else None
    return Schedule(kind, interval, draw(maybe(st.integers(2, 3), 3, 1)), monitor, draw(maybe(st.just(True), 2, False)))


@st.composite
def checkpoints(draw: Any, names: list[str]) -> Options:
    options: Options = draw(any_of({"monitor": st.sampled_from(["v", *names])}, 2))
    if "monitor" in options:
        options |= draw(any_of({"mode": st.just("max"), "save_top_k": st.sampled_from([2, -1, 3, 0])}, 2))
    else:
        options |= draw(any_of({"save_top_k": st.sampled_from([-1, 0])}, 2))
    options |= draw(maybe(st.sampled_from([{"every_n_train_steps": 2}, {"every_n_train_steps": 3}, {"every_n_epochs": 2}]), 3, {}))
    more = {
        "save_last": st.sampled_from([True, "link"]),
        "save_on_train_epoch_end": st.booleans(),
        "filename": st.sampled_from(["{epoch}-{v:.2f}", "model", "{step}"]),
    }
    return options | draw(any_of(more, 4))


@st.composite
def stoppings(draw: Any, names: list[str]) -> Options:
    more = {
        "patience": st.integers(0, 2),
        "min_delta": st.sampled_from([0.5, 1.0]),
        "mode": st.just("max"),
        "strict": st.just(False),
        "stopping_threshold": st.sampled_from([1.0, 3.0]),
        "divergence_threshold": st.sampled_from([4.0, 2.0]),
        "check_on_train_epoch_end": st.booleans(),
    }
    return {"monitor": draw(st.sampled_from(["v", *names])), "patience": 1} | draw(any_of(more, 4))


@st.composite
def resumes(draw: Any) -> Resume:
    return Resume(draw(maybe(st.integers(1, 6), 2)), draw(st.sampled_from([1, 1, 2, 0])), draw(st.integers(0, 4)))
