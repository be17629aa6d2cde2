"""A training script of which every part can be chosen: `python resume_script.py '{"workers": 2, "dropout": true}'`.

It is run by `lx verify-resume`, so that a run that fails the tests can be looked at with the command that users have.
"""

import json
import random
import sys
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import lr_scheduler
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, Dataset, IterableDataset, WeightedRandomSampler, get_worker_info

from lx import Callback, LightningModule, Trainer, seed_everything
from lx.callbacks import EarlyStopping, ModelCheckpoint

SAMPLES, BATCH = 30, 4  # eight batches, the last of two; of a stream, four by each of two workers, the last of three

CHOICES: dict[str, tuple[Any, ...]] = {
    "shuffle": (False, True),
    "workers": (0, 2),
    "persistent": (False, True),
    "augmentation": (None, "torch", "numpy", "python"),
    "dropout": (False, True),
    "normalized": (False, True),
    "optimizer": ("adam", "momentum"),
    "schedule": (None, "step", "epoch", "plateau", "plateau by step"),
    "accumulate": (1, 2, 3),
    "average": (False, True),
    "stopping": (False, True),
    "validation": ("none", "each epoch", "within epochs"),
    "checkpoints": ("every step", "every second step", "every fifth step", "each epoch", "the best", "by time"),
    "log_every": (1, 3),
    "io": (None, "async_io", "safetensors_io"),
    "clip": (None, 0.5),
    "sampler": (None, "weighted", "with a generator"),
    "limit": (None, 5),
    "stream": (False, False, True),
}
"""What can be chosen, and between what; what is left out is the first."""

CHECKPOINTS: dict[str, dict[str, Any]] = {
    "every step": {"every_n_train_steps": 1},
    "every second step": {"every_n_train_steps": 2},
    "every fifth step": {"every_n_train_steps": 5, "save_last": True},
    "each epoch": {},
    "the best": {"save_top_k": 2, "save_last": True},
    "by time": {"train_time_interval": timedelta(milliseconds=1)},
}


class Samples(Dataset[tuple[Tensor, Tensor]]):
    """Samples that are changed at random whenever they are read."""

    def __init__(self, augmentation: str | None) -> None:
        self.augmentation = augmentation
        generator = torch.Generator().manual_seed(1)
        self.rows = torch.randn(SAMPLES, 6, generator=generator)

    def __len__(self) -> int:
        return SAMPLES

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        row = self.rows[index]
        if self.augmentation == "torch":
            row = row + torch.randn(6)
        elif self.augmentation == "numpy":
            row = row * np.random.uniform(0.5, 2)
        elif self.augmentation == "python":
            row = row.roll(random.randrange(6))
        return row, self.rows[index].sum()


class Stream(IterableDataset[tuple[Tensor, Tensor]]):
    """The same samples in their order, each worker its part."""

    def __init__(self, samples: Samples) -> None:
        self.samples = samples

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        worker = get_worker_info()
        first, step = (worker.id, worker.num_workers) if worker is not None else (0, 1)
        return (self.samples[index] for index in range(first, SAMPLES, step))


class Net(LightningModule):
    """Two layers, with what was chosen between them."""

    def __init__(self, chosen: dict[str, Any]) -> None:
        super().__init__()
        self.chosen = chosen
        between = [nn.Dropout(0.3)] * chosen["dropout"] + [nn.BatchNorm1d(8)] * chosen["normalized"]
        self.layers = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), *between, nn.Linear(8, 1))

    def loss(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        """The mean square of what is missing."""
        return (self.layers(batch[0]).squeeze(1) - batch[1]).square().mean()

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        loss = self.loss(batch)
        self.log("loss", loss, on_step=True, on_epoch=True)
        self.log("greatest", loss, on_step=False, on_epoch=True, reduce_fx="max")
        if batch_idx % 2:
            self.log("at_times", loss * 2)
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self.log("val", self.loss(batch))

    def configure_optimizers(self) -> Any:
        parameters = self.parameters()
        adam = self.chosen["optimizer"] == "adam"
        optimizer = torch.optim.Adam(parameters, lr=0.02) if adam else torch.optim.SGD(parameters, lr=0.02, momentum=0.9)
        monitor = "loss_epoch" if self.chosen["validation"] == "none" else "val"
        configurations = {
            "step": lambda: {"scheduler": lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=80), "interval": "step"},
            "epoch": lambda: {"scheduler": lr_scheduler.StepLR(optimizer, 1, 0.5)},
            "plateau": lambda: {"scheduler": lr_scheduler.ReduceLROnPlateau(optimizer, patience=0, threshold=0.5), "monitor": monitor},
            "plateau by step": lambda: {
                "scheduler": lr_scheduler.ReduceLROnPlateau(optimizer, patience=0, threshold=0.1),
                "monitor": "loss_step",
                "interval": "step",
                "frequency": 2,
            },
        }
        if self.chosen["schedule"] is None:
            return optimizer
        return {"optimizer": optimizer, "lr_scheduler": configurations[self.chosen["schedule"]]()}


class Average(Callback):
    """Keeps a moving average of the weights, which is what is validated."""

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        self.average = AveragedModel(pl_module.layers, multi_avg_fn=get_ema_multi_avg_fn(0.8), use_buffers=True)
        self.step = 0
        self.swapped = False

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
        if trainer.global_step != self.step:
            self.step = trainer.global_step
            self.average.update_parameters(pl_module.layers)

    def swap(self, trainer: Any, pl_module: Any) -> None:
        """Exchanges the weights and their average."""
        mine = {name: value.clone() for name, value in pl_module.layers.state_dict().items()}
        pl_module.layers.load_state_dict(self.average.module.state_dict())
        self.average.module.load_state_dict(mine)
        self.swapped = not self.swapped

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        """A signal may have ended the run before within a validation, so that the checkpoint has the average for the weights."""
        if self.swapped:
            self.swap(trainer, pl_module)

    on_validation_epoch_start = on_validation_epoch_end = swap

    def state_dict(self) -> dict[str, Any]:
        return {"average": self.average.state_dict(), "step": self.step, "swapped": self.swapped}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.average.load_state_dict(state_dict["average"])
        self.step, self.swapped = state_dict["step"], state_dict["swapped"]


def loader(chosen: dict[str, Any], training: bool) -> Any:
    """The loader of training, or of validation, in which nothing is random."""
    if not training:
        return DataLoader(Samples(None), batch_size=BATCH)
    # A stream is read again; workers that have lived through epochs before would draw other numbers in it, as docs/explain/resume.md says.
    fixed = chosen["stream"] and chosen["workers"] and chosen["persistent"]
    samples, sampler, generator = Samples(None if fixed else chosen["augmentation"]), None, None
    stream = Stream(samples) if chosen["stream"] else None
    if chosen["sampler"] == "weighted":
        sampler = WeightedRandomSampler([float(1 + index % 3) for index in range(SAMPLES)], SAMPLES)
    elif chosen["sampler"] == "with a generator":
        generator = torch.Generator().manual_seed(3)
    return DataLoader(
        samples if stream is None else stream,
        batch_size=BATCH,
        shuffle=chosen["shuffle"] and sampler is None and stream is None,
        sampler=sampler if stream is None else None,
        generator=generator,
        num_workers=chosen["workers"],
        persistent_workers=bool(chosen["workers"]) and chosen["persistent"],
    )


def main(given: dict[str, Any]) -> None:
    """Trains."""
    chosen = {**{name: values[0] for name, values in CHOICES.items()}, **given}
    seed_everything(7, workers=True, verbose=False)
    validates = chosen["validation"] != "none"
    monitor = "val" if validates else "loss_epoch"
    ranked = {"monitor": monitor} if chosen["checkpoints"] == "the best" else {}
    callbacks: list[Any] = [ModelCheckpoint(**CHECKPOINTS[chosen["checkpoints"]], **ranked)]
    callbacks += [Average()] * chosen["average"]
    if chosen["stopping"]:
        callbacks.append(EarlyStopping(monitor, patience=1, min_delta=2.0))
    trainer = Trainer(
        accelerator="cpu",
        logger="csv",
        callbacks=callbacks,
        max_epochs=4 if chosen["stopping"] else 3,
        accumulate_grad_batches=chosen["accumulate"],
        log_every_n_steps=chosen["log_every"],
        val_check_interval=3 if chosen["validation"] == "within epochs" else None,
        plugins=[chosen["io"]] if chosen["io"] else None,
        gradient_clip_val=chosen["clip"],
        limit_train_batches=chosen["limit"],
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Net(chosen), loader(chosen, True), loader(chosen, False) if validates else None)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]) if len(sys.argv) > 1 else {})
