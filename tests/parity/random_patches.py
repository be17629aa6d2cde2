"""Makes Lightning do what lx does, so that all else can still be compared: each changes the model, the options or the data of one run."""

import itertools
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from random_draws import Draw, Rows
from random_model import Make
from random_runs import Run
from torch.utils.data import DataLoader


def members(draw: Draw, batch_idx: int) -> tuple[int, int]:
    """For how many batches of a window lx divides its losses, and how many of them give a loss."""
    first = batch_idx - batch_idx % draw.window
    left = draw.batches - first
    end = min(first + draw.window, draw.really)
    return int(min(draw.window, left)), sum(place not in draw.skipped for place in range(first, end))


def whole_windows(run: Run, *_: Any) -> None:
    """A window has the mean gradient of the batches that gave a loss."""
    Model, draw = type(run.model), run.draw
    step = Model.training_step

    def training_step(self: Any, batch: Any, batch_idx: int) -> Any:
        self.at = batch_idx
        output, (divisor, _) = step(self, batch, batch_idx), members(draw, batch_idx)
        if isinstance(output, torch.Tensor):
            return output * (draw.window / divisor)
        return output and {**output, "loss": output["loss"] * (draw.window / divisor)}

    def on_before_optimizer_step(self: Any, optimizer: Any) -> None:
        divisor, giving = members(draw, self.at)
        if giving not in (0, divisor):
            for parameter in self.parameters():
                if parameter.grad is not None:
                    parameter.grad.mul_(divisor / giving)

    Model.training_step, Model.on_before_optimizer_step = training_step, on_before_optimizer_step


def uncounted(run: Run, *_: Any) -> None:
    """A window of which every batch was skipped takes no step."""
    Model, draw = type(run.model), run.draw
    step, original = Model.training_step, Model.optimizer_step

    def training_step(self: Any, batch: Any, batch_idx: int) -> Any:
        self.at = batch_idx
        return step(self, batch, batch_idx)

    def optimizer_step(self: Any, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any = None) -> None:
        def closure() -> Any:
            loss = optimizer_closure()
            if loss is not None:
                return loss
            for parameter in self.parameters():
                parameter.grad = None
            return torch.zeros(())

        original(self, epoch, batch_idx, optimizer, closure if draw.optimizer == "lbfgs" else optimizer_closure)
        if not members(draw, batch_idx)[1]:
            progress = self.trainer.fit_loop.epoch_loop.automatic_optimization.optim_progress.optimizer.step
            progress.total.completed -= 1
            progress.current.completed -= 1

    Model.training_step, Model.optimizer_step = training_step, optimizer_step
    run.takes_step = lambda: bool(members(draw, run.model.at)[1])


def by_windows(run: Run, *_: Any) -> None:
    """A scheduler by steps with a frequency counts the windows of the epoch."""
    Model, draw = type(run.model), run.draw
    assert draw.schedule is not None
    frequency, step = draw.schedule.frequency, Model.training_step

    def training_step(self: Any, batch: Any, batch_idx: int) -> Any:
        due = math.ceil((batch_idx + 1) / draw.window) % frequency == 0
        self.trainer.lr_scheduler_configs[0].frequency = 1 if due else 10**9
        return step(self, batch, batch_idx)

    Model.training_step = training_step


def logged_once(run: Run, *_: Any) -> None:
    """What is evaluated again within a step is not logged again."""
    Model = type(run.model)
    step, log = Model.training_step, Model.log

    def training_step(self: Any, batch: Any, batch_idx: int) -> Any:
        here = (self.trainer.current_epoch, batch_idx)
        self.repeats, self.here = here == getattr(self, "here", None), here
        try:
            return step(self, batch, batch_idx)
        finally:
            self.repeats = False

    def log_unless_again(self: Any, *args: Any, **kwargs: Any) -> None:
        if not getattr(self, "repeats", False):
            log(self, *args, **kwargs)

    Model.training_step, Model.log = training_step, log_unless_again


class Batches:
    """A list of batches that Lightning does not take for several loaders."""

    def __init__(self, batches: list[Any], passed: int = 0) -> None:
        self.batches, self.passed = batches, passed

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Any]:
        passed, self.passed = self.passed, 0
        yield from self.batches[passed:]


class Patched(DataLoader[Any]):
    """A loader that begins, once, behind the batches that were `passed`, and that an iterator of which nobody took a batch leaves alone."""

    passed = 0
    idle: Any = None

    def __iter__(self) -> Any:
        if self.generator is not None:
            if self.idle is not None:
                self.generator.set_state(self.idle)
            self.idle = self.generator.get_state()
        return self._batches(super().__iter__())

    def _batches(self, batches: Any) -> Iterator[Any]:
        passed, self.passed, self.idle = self.passed, 0, None
        yield from itertools.islice(batches, passed, None)


def patched(loader: Any, passed: int = 0) -> Any:
    """A loader of the same kind that `Patched` or `Batches` is about; `passed` adds to what it passes over already."""
    if isinstance(loader, list):
        loader = Batches(loader)
    elif not isinstance(loader, Batches):
        loader.__class__ = Patched
    loader.passed += passed
    return loader


def lists_as_loaders(run: Run, *_: Any) -> None:
    """A list of batches is one loader."""
    run.model.make, run.model.make_val = (wrapped(make) for make in (run.model.make, run.model.make_val))


def wrapped(make: Make) -> Make:
    """The same loaders, with lists wrapped."""

    def make_wrapped(rows: Rows, seed: int) -> Any:
        loader = make(rows, seed)
        return Batches(loader) if isinstance(loader, list) else loader

    return make_wrapped


def passing_over(run: Run, options: Any, callbacks: Any, path: Path | None) -> None:
    """A run that goes on within an epoch passes over the batches that were trained on."""
    loops = torch.load(path, weights_only=False)["loops"]["fit_loop"] if path is not None else None
    passed = 0
    if loops is not None and loops["epoch_progress"]["current"]["processed"] <= loops["epoch_progress"]["current"]["completed"]:
        passed = loops["epoch_loop.batch_progress"]["current"]["ready"]
    first: set[int] = set()
    make = run.model.make

    def make_passing(rows: Rows, seed: int) -> Any:
        loader = make(rows, seed)
        if len(first) < len(run.draw.train):
            first.add(seed)
        if seed not in first:
            return loader
        cycles = run.draw.mode in (None, "max_size_cycle") and len(run.draw.train) > 1
        return patched(loader, passed % rows.batches if cycles else min(passed, rows.batches))

    run.model.make = make_passing


def begun_once(run: Run, *_: Any) -> None:
    """A loader is asked for once before it is trained on, and gone through once, not begun and begun again."""
    Model, make = type(run.model), run.model.make
    step, serve = Model.training_step, Model.train_dataloader
    run.model.make = lambda rows, seed: patched(make(rows, seed))

    def training_step(self: Any, batch: Any, batch_idx: int) -> Any:
        self.unused = False
        return step(self, batch, batch_idx)

    def train_dataloader(self: Any) -> Any:
        self.served -= getattr(self, "unused", False)
        self.unused = True
        return serve(self)

    Model.training_step = training_step
    if run.draw.by_hooks:
        Model.train_dataloader = train_dataloader


def steps_bound_later(run: Run, options: Any, callbacks: Any, path: Path | None) -> None:
    """A run that goes on is bounded by max_steps when it has found its place."""
    bound = options.get("max_steps", -1)
    if path is None or bound == -1 or torch.load(path, weights_only=False)["global_step"] >= bound:
        return
    if options.get("max_epochs") is None:
        options["max_epochs"] = -1
    del options["max_steps"]

    def on_train_start(this: Any, trainer: Any, module: Any) -> None:
        trainer.fit_loop.epoch_loop.max_steps = bound

    callbacks.append(type("Bound", (run.world.api.Callback,), {"on_train_start": on_train_start})())


def looked_at_after_training(run: Run, options: Any, *_: Any) -> None:
    """Where nothing is validated, EarlyStopping looks at the end of training epochs."""
    run.stopping._check_on_train_epoch_end = True


def saved_after_training(run: Run, *_: Any) -> None:
    """Where nothing is validated, ModelCheckpoint saves at the end of training epochs."""
    run.checkpoint._save_on_train_epoch_end = True


def moved_after_steps(run: Run, *_: Any) -> None:
    """A scheduler by steps does not move at the batch before which the module ends the epoch."""
    Model = type(run.model)
    start, move = Model.on_train_batch_start, Model.lr_scheduler_step

    def on_train_batch_start(self: Any, batch: Any, batch_idx: int) -> Any:
        answer = start(self, batch, batch_idx)
        self.ended = answer == -1
        return answer

    def lr_scheduler_step(self: Any, scheduler: Any, metric: Any) -> None:
        if not (self.ended and metric is None):
            move(self, scheduler, metric)

    Model.on_train_batch_start, Model.lr_scheduler_step = on_train_batch_start, lr_scheduler_step


def interval_unused(run: Run, options: Any, *_: Any) -> None:
    """An interval of validation means nothing where nothing is validated."""
    options.pop("val_check_interval", None)


def limit_as_number(run: Run, options: Any, *_: Any) -> None:
    """A fraction of several loaders is one of the batches that they give together."""
    options["limit_train_batches"] = int(run.draw.batches)
