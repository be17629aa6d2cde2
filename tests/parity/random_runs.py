"""What a drawn training does with one of the libraries: what is called, trained, logged, saved, returned and refused."""

import os
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from checkpoint_runs import plain
from logging_record import DICTIONARIES, numbers, recording_logger
from random_draws import Draw
from random_model import Unending, features, module, train_loaders, val_loaders
from sides import World
from torch import Tensor


class Lines(list[Any]):
    """What a logger writes its calls into: values, and that a run came to its end."""

    def __init__(self, run: "Run") -> None:
        self.run = run

    def append(self, entry: Any) -> None:
        if entry[0] == "log" or entry == ("finalize", "success"):
            self.run.outcome[f"{self.run.stage} logs"].append(entry)


Outcome = dict[str, Any]
"""By names such as `fit events`: the stage, and what was seen of it."""

FAMILIES = ("MisconfigurationException", "ValueError", "TypeError", "RuntimeError", "KeyError", "AttributeError")
MOST = 60
"""Batches after which a run is ended that nothing ends."""


class Run:
    """One training with one library; `patches` make another of the module and of the trainer's options before they are used."""

    def __init__(self, draw: Draw, world: World, patches: tuple[Callable[..., Any], ...] = ()) -> None:
        self.draw, self.world, self.patches = draw, world, patches
        self.outcome: Outcome = {}
        self.middle = world.root / "middle.ckpt"
        self.stage = ""
        self.trainer: Any = None
        self.model: Any = None
        self.checkpoint: Any = None
        self.stopping: Any = None
        self.takes_step: Callable[[], bool] = lambda: True

    # -- stages ----------------------------------------------------------------------------------------------------------

    def run(self) -> Outcome:
        """Goes through all stages, up to the first that fails."""
        shutil.rmtree(self.world.root, ignore_errors=True)
        self.world.root.mkdir(parents=True)
        stages = [("fit", self._fit), *([("resume", self._resume)] if self.draw.resume is not None else [])]
        stages += [(f"{entry} {place}", lambda entry=entry: self._evaluate(entry)) for place, entry in enumerate(self.draw.then)]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            all(self._attempt(*stage) for stage in stages)
        return self.outcome

    def _attempt(self, stage: str, action: Callable[[], None]) -> bool:
        """Does what a stage is, and writes down whether it is refused."""
        self.stage = stage
        for name in ("events", "fed", "losses", "pace", "logs"):
            self.outcome[f"{stage} {name}"] = []
        self.outcome[f"{stage} refused"] = False
        try:
            action()
        except Exception as raised:
            kinds = [kind.__name__ for kind in type(raised).__mro__]
            self.outcome[f"{stage} refused"] = True
            self.outcome[f"{stage} family"] = [name for name in FAMILIES if name in kinds] or kinds[:1]
            self.outcome[f"{stage} message"] = f"{kinds[0]}: {raised}"
        return not self.outcome[f"{stage} refused"]

    def _fit(self, path: Path | None = None, **more: Any) -> None:
        torch.manual_seed(1)
        draw = self.draw
        self.model, callbacks, options = module(self.world.api, draw), self._callbacks(), {**draw.trainer, **more}
        if not options.get("barebones"):
            options = {"enable_checkpointing": draw.checkpoint is not None, "log_every_n_steps": 1, **options}
            options["logger"] = recording_logger(self.world.side, Lines(self), "")
        for patch in self.patches:
            patch(self, options, callbacks, path)
        self.trainer = self.world.trainer(callbacks=callbacks, **options)
        try:
            self.trainer.fit(self.model, *self.loaders(), ckpt_path=path)
            self._look_at_metrics()
        finally:
            self._look()

    def loaders(self) -> tuple[Any, ...]:
        """What is handed to `fit`."""
        return (
            ()
            if self.draw.by_hooks
            else (train_loaders(self.world.api, self.draw, self.model.make), val_loaders(self.draw, self.model.make_val))
        )

    def _resume(self) -> None:
        resume, trainer = self.draw.resume, self.draw.trainer
        assert resume is not None
        path: Path | None = self.middle if resume.at is not None else None
        if path is None and self.checkpoint is not None:
            path = Path(self.checkpoint.best_model_path or self.checkpoint.last_model_path)
        if path is None or not path.is_file():
            return
        more = {"max_epochs": trainer["max_epochs"] + resume.more} if trainer.get("max_epochs") is not None else {}
        if trainer.get("max_steps", -1) != -1:
            more["max_steps"] = trainer["max_steps"] + resume.more_steps
        self._fit(path, **more)

    def _evaluate(self, entry: str) -> None:
        name, _, path = entry.partition(" ")
        options = {} if name == "predict" else {"verbose": False}
        loaders = val_loaders(self.draw, self.model.make_val, 80)
        result = getattr(self.trainer, name)(None if path else self.model, loaders, ckpt_path=path or None, **options)
        self.outcome[f"{self.stage} result"] = plain(result)
        self._look_at_metrics()

    def _callbacks(self) -> list[Any]:
        draw = self.draw
        self.checkpoint = self.stopping = None
        made = [recorder(self)]
        if draw.stopping is not None:
            self.stopping = self.world.callback("EarlyStopping", **draw.stopping)
            made.append(self.stopping)
        if draw.checkpoint is not None:
            self.checkpoint = self.world.callback("ModelCheckpoint", dirpath=str(self.world.root / "kept"), **draw.checkpoint)
            made.append(self.checkpoint)
        return made

    # -- looking ---------------------------------------------------------------------------------------------------------

    def note(self, event: str, fed: Any = None, loss: Any = None) -> None:
        """Writes down that something happened, on which batch, with which loss, and at which learning rates."""
        trainer = self.trainer
        where = f" e{trainer.current_epoch} s{trainer.global_step}" if trainer.training else ""
        self.outcome[f"{self.stage} events"].append(f"{event}{where}")
        for name, value in (("fed", fed), ("losses", loss)):
            if value is not None:
                self.outcome[f"{self.stage} {name}"].append(float(value))
        if trainer.training:
            self.outcome[f"{self.stage} pace"].append(rates(trainer))

    def _look(self) -> None:
        """Writes down how things stand after a fit."""
        trainer, look = self.trainer, {}
        look["epoch"], look["step"], look["stop"] = trainer.current_epoch, trainer.global_step, bool(trainer.should_stop)
        look["weights"] = plain(self.model.state_dict())
        look["optimizers"] = plain([optimizer.state_dict()["state"] for optimizer in trainer.optimizers])
        look["rates"] = rates(trainer)
        look["schedulers"] = plain([config.scheduler.state_dict() for config in trainer.lr_scheduler_configs])
        if self.stopping is not None:
            names = ("wait_count", "stopped_epoch", "best_score")
            look["stopping"] = plain({name: getattr(self.stopping, name) for name in names})
            look["reason"] = self.stopping.stopping_reason.name
        if self.checkpoint is not None:
            look |= self._saved()
        self.outcome |= {f"{self.stage} {name}": value for name, value in look.items()}

    def _look_at_metrics(self) -> None:
        for name in DICTIONARIES:
            self.outcome[f"{self.stage} {name}"] = plain(numbers(getattr(self.trainer, name)))

    def _saved(self) -> Outcome:
        """What ModelCheckpoint has left."""
        folder, checkpoint = self.world.root / "kept", self.checkpoint
        paths = ("best_model_path", "kth_best_model_path", "last_model_path")
        named = {name: os.path.relpath(path, folder) if (path := getattr(checkpoint, name)) else path for name in paths}
        best = {os.path.relpath(path, folder): float(score) for path, score in checkpoint.best_k_models.items()}
        scores = {name: plain(getattr(checkpoint, name)) for name in ("best_model_score", "current_score", "kth_value")}
        files = {path.name: saved_at(path) for path in sorted(folder.iterdir())} if folder.is_dir() else {}
        return {"files": files, "paths": named, "scores": {"best_k_models": plain(best), **scores}}


def rates(trainer: Any) -> list[float]:
    """The learning rates of all optimizers."""
    return [float(group["lr"]) for optimizer in trainer.optimizers for group in optimizer.param_groups]


def saved_at(path: Path) -> str:
    """Where in a run a file was written."""
    if path.is_symlink():
        return f"link to {os.readlink(path)}"
    content = torch.load(path, weights_only=False)
    return f"epoch {content['epoch']}, step {content['global_step']}"


class Recording:
    """Writes down what happens, asks to stop where that was drawn, and saves where the run is to be resumed from."""

    run: Run
    seen = 0

    def on_sanity_check_start(self, trainer: Any, module: Any) -> None:
        self.run.note("sanity check")

    def on_train_start(self, trainer: Any, module: Any) -> None:
        self.run.note("train")

    def on_train_epoch_start(self, trainer: Any, module: Any) -> None:
        self.seen += 1
        self.run.note("epoch")
        self.bound()

    def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, batch_idx: int) -> None:
        self.run.note(f"batch {batch_idx}{' last' * trainer.is_last_batch}", fed=digest(batch))

    def on_before_optimizer_step(self, trainer: Any, module: Any, optimizer: Any) -> None:
        if self.run.takes_step():
            self.run.note("step")

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.run.note(f"batch {batch_idx} done", loss=outputs.get("loss") if isinstance(outputs, dict) else outputs)
        if self.run.stage == "fit":
            self.act(trainer, self.run.draw)
        self.seen += 1
        self.bound()

    def act(self, trainer: Any, draw: Draw) -> None:
        """Stops and saves, in the first run."""
        if draw.stops_at is not None and self.seen >= draw.stops_at:
            trainer.should_stop = True
        if draw.resume is not None and trainer.global_step == draw.resume.at and not self.run.middle.exists():
            trainer.save_checkpoint(self.run.middle)

    def bound(self) -> None:
        """Ends a run that nothing ends."""
        if self.seen > MOST:
            raise Unending

    def on_validation_start(self, trainer: Any, module: Any) -> None:
        self.run.note("validation")

    def on_validation_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        self.run.note(f"{dataloader_idx}: {batch_idx}", fed=digest(batch), loss=outputs)

    def on_validation_end(self, trainer: Any, module: Any) -> None:
        self.run.note("validation done")

    def on_train_epoch_end(self, trainer: Any, module: Any) -> None:
        self.run.note("epoch done")

    def on_train_end(self, trainer: Any, module: Any) -> None:
        self.run.note("train done")


def recorder(run: Run) -> Any:
    """A callback of a library that records."""
    return type("Recorder", (Recording, run.world.api.Callback), {"run": run})()


def digest(batch: Any) -> Tensor:
    """A number that tells batches apart."""
    rows = features(batch)
    return rows.mul(torch.arange(1.0, rows.numel() + 1).reshape(rows.shape)).sum()
