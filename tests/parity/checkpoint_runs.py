"""Small trainings of either library for the comparison of checkpoints: what is trained, on what, and what a run leaves behind."""

import math
from collections.abc import Callable
from typing import Any

import torch
from recording import linear, rows
from sides import World, quiet
from torch import Tensor
from torch.optim import lr_scheduler

SCHEDULES: dict[str, Callable[[Any], Any]] = {
    "none": lambda optimizer: optimizer,
    "epoch": lambda optimizer: ([optimizer], [lr_scheduler.StepLR(optimizer, 1, 0.7)]),
    "step": lambda optimizer: (
        [optimizer],
        [{"scheduler": lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=100), "interval": "step"}],
    ),
    "plateau": lambda optimizer: {
        "optimizer": optimizer,
        "lr_scheduler": {"scheduler": lr_scheduler.ReduceLROnPlateau(optimizer, patience=0, threshold=0.5), "monitor": "loss"},
    },
}


def model(world: World, schedule: str = "epoch", manual: bool = False, watched: Any = (), validates: bool = True) -> Any:
    """One layer, Adam, a schedule; with `watched`, it logs the next of these values as `v` in each validation run that counts."""
    Net = net(world.api)
    if not validates:
        del Net.validation_step
    module = Net()
    module.schedule, module.watched, module.automatic_optimization = schedule, list(watched), not manual
    return module


def net(api: Any) -> type[Any]:
    """A module class of a library, with hyperparameters, and with state of its own in the checkpoint."""

    class Net(api.LightningModule):  # type: ignore[misc]
        schedule: str = "none"
        watched: Any = ()

        def __init__(self, width: int = 2, name: str = "net") -> None:
            super().__init__()
            self.save_hyperparameters()
            self.layer = linear()
            self.seen = 0

        def training_step(self, batch: Tensor, batch_idx: int) -> Any:
            self.seen += 1
            loss = (self.layer(batch) - 1).pow(2).mean()
            self.log("loss", loss, on_step=False, on_epoch=True)
            if not self.automatic_optimization:
                optimizer = self.optimizers()
                optimizer.zero_grad()
                self.manual_backward(loss)
                optimizer.step()
            return loss

        def validation_step(self, batch: Tensor, batch_idx: int) -> None:
            self.log("val", (self.layer(batch) - 1).pow(2).mean())

        def on_validation_epoch_end(self) -> None:
            if self.watched and not self.trainer.sanity_checking:
                self.log("v", float(self.watched.pop(0)))

        test_step = validation_step

        def configure_optimizers(self) -> Any:
            return SCHEDULES[self.schedule](torch.optim.Adam(self.parameters(), lr=0.05))

        def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
            checkpoint["seen"] = self.seen

        def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
            self.seen = checkpoint["seen"]

    Net.__qualname__ = "Net"
    return Net


def data(world: World, batches: int = 4, validates: bool = True) -> Any:
    """Rows for training, validation and test, four to a batch, with hyperparameters and a state."""

    class Rows(world.api.LightningDataModule):  # type: ignore[misc]
        def __init__(self, batches: int, source: str = "numbers") -> None:
            super().__init__()
            self.save_hyperparameters()
            self.batches, self.served = batches, 0

        def train_dataloader(self) -> Any:
            self.served += 1
            return rows(4 * self.batches)

        def test_dataloader(self) -> Any:
            return rows(8, seed=2)

        def state_dict(self) -> dict[str, Any]:
            return {"served": self.served}

        def load_state_dict(self, state_dict: dict[str, Any]) -> None:
            self.served = state_dict["served"]

    if validates:
        Rows.val_dataloader = lambda this: rows(8, seed=1)
    Rows.__qualname__ = "Rows"
    return Rows(batches)


def saving(world: World, hook: str, path: Any, step: int) -> Any:
    """A callback that saves a checkpoint in a hook, the first time that so many steps have been taken (0: whenever)."""

    def act(this: Any, trainer: Any, *_: Any) -> None:
        if step in (0, trainer.global_step) and not this.done and not trainer.sanity_checking:
            this.done = True
            trainer.save_checkpoint(path)

    return type("Saving", (world.api.Callback,), {hook: act, "done": False})()


def fit(world: World, module: Any, rows: Any, callbacks: Any = (), ckpt_path: Any = None, **options: Any) -> Any:
    """Fits with a new trainer, and returns it."""
    trainer = made(world, callbacks, **options)
    with quiet(world.side):
        trainer.fit(module, datamodule=rows, ckpt_path=ckpt_path)
    return trainer


def made(world: World, callbacks: Any, **options: Any) -> Any:
    """A trainer for four epochs that writes no checkpoint by itself."""
    with quiet(world.side):
        return world.trainer(callbacks=list(callbacks), **{"enable_checkpointing": bool(callbacks), "max_epochs": 4, **options})


def left_by(trainer: Any) -> dict[str, Any]:
    """What a fit has left behind. Means are to be compared with a tolerance: lx sums in double precision."""
    return {
        "epoch": trainer.current_epoch,
        "step": trainer.global_step,
        "weights": plain(trainer.lightning_module.state_dict()),
        "optimizer": plain([optimizer.state_dict() for optimizer in trainer.optimizers]),
        "schedules": plain([config.scheduler.state_dict() for config in trainer.lr_scheduler_configs]),
        "means": {name: float(value) for name, value in trainer.callback_metrics.items() if name != "v"},
        "seen": trainer.lightning_module.seen,
    }


def plain(value: Any) -> Any:
    """A nested value without tensors, and with NaN as a string, so that equal means equal."""
    if isinstance(value, Tensor):
        return plain(value.tolist())
    if isinstance(value, dict):
        return {key: plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [plain(part) for part in value]
    return "nan" if isinstance(value, float) and math.isnan(value) else value


def flat(value: Any, path: str = "") -> dict[str, str]:
    """A nested value as paths and descriptions of what lies there: types, shapes and numbers."""
    if isinstance(value, dict):
        parts = {f"{path}/{key}".lstrip("/"): part for key, part in value.items()}
    elif isinstance(value, list | tuple):
        parts = {f"{path}[{place}]": part for place, part in enumerate(value)}
    else:
        number = f" {list(value.shape)} {value.dtype} {plain(value)}" if isinstance(value, Tensor) else f" {value!r}"
        return {path: f"{type(value).__name__}{number}"}
    inner = {name: text for key, part in parts.items() for name, text in flat(part, key).items()}
    return inner or {path: f"empty {type(value).__name__}"}
