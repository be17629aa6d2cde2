"""The classes of either library that a drawn training is made of; what they see and do is written down."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from random_draws import Draw, Logged, Rows, Schedule
from recording import linear
from torch import Tensor
from torch.optim import lr_scheduler
from torch.utils.data import DataLoader, IterableDataset

COUNTED = (3.0, 1.0, 4.0, 1.0, 5.0, 2.0, 6.0, 2.0, 0.5)
"""What is logged as a `count`: rising and falling, some of it twice."""


Make = Callable[[Rows, int], Any]
"""Makes a loader; the number says of which rows."""


class Unending(Exception):
    """What ends a run that nothing bounds."""


class Stream(IterableDataset[Tensor]):
    """Rows without a length."""

    def __init__(self, rows: Tensor) -> None:
        self.rows = rows

    def __iter__(self) -> Iterator[Tensor]:
        return iter(self.rows)


def made_loader(rows: Rows, seed: int) -> Any:
    """A loader as drawn; `seed` says which rows."""
    data = torch.randn(rows.count, 2, generator=torch.Generator().manual_seed(seed))
    if rows.kind == "list":
        return list(data.split(rows.size))
    if rows.kind == "iterable":
        return DataLoader(Stream(data), batch_size=rows.size)
    if rows.kind == "shuffled":
        return DataLoader(data, batch_size=rows.size, shuffle=True, generator=torch.Generator().manual_seed(seed))  # type: ignore[arg-type]
    return DataLoader(data, batch_size=rows.size)  # type: ignore[arg-type]


def train_loaders(api: Any, draw: Draw, make: Make = made_loader, seed: int = 0) -> Any:
    """What is trained on: one loader, or several by name."""
    if len(draw.train) == 1:
        return make(draw.train[0], seed)
    found = {f"part{place}": make(rows, seed + place) for place, rows in enumerate(draw.train)}
    if draw.mode is None:
        return found
    return (api.utilities if hasattr(api, "utilities") else api).CombinedLoader(found, draw.mode)


def val_loaders(draw: Draw, make: Make = made_loader, seed: int = 50) -> Any:
    """What is validated on: None, one loader, or several."""
    found = [make(rows, seed + place) for place, rows in enumerate(draw.val)]
    return (found if len(found) > 1 else found[0]) if found else None


def features(batch: Any) -> Tensor:
    """The rows in a batch of one loader or of several, of which some may have ended."""
    parts = list(batch.values()) if isinstance(batch, Mapping) else [batch]
    return torch.cat([part for part in parts if part is not None])


def scheduler(schedule: Schedule, optimizer: Any) -> Any:
    """A scheduler with what the library is told of it."""
    made = {
        "step": lambda: lr_scheduler.StepLR(optimizer, 1, 0.7),
        "exponential": lambda: lr_scheduler.ExponentialLR(optimizer, 0.9),
        "plateau": lambda: lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=0, threshold=0.1),
    }[schedule.kind]()
    told = {"scheduler": made, "interval": schedule.interval, "frequency": schedule.frequency, "strict": schedule.strict}
    return told | ({"monitor": schedule.monitor} if schedule.monitor is not None else {})


OPTIMIZERS = {
    "sgd": lambda parameters: torch.optim.SGD(parameters, lr=0.1, momentum=0.9),
    "adam": lambda parameters: torch.optim.Adam(parameters, lr=0.05),
    "lbfgs": lambda parameters: torch.optim.LBFGS(parameters, lr=0.2, max_iter=3),
}


def module(api: Any, draw: Draw) -> Any:
    """A module of a library as drawn."""
    base = api.LightningModule
    Model = type("Model", (Behaviour, base), {})
    unused = [] if draw.by_hooks else ["train_dataloader"]
    unused += [] if draw.by_hooks and draw.val else ["val_dataloader"]
    unused += [] if draw.val else ["validation_step"]
    unused += [] if draw.ends_before is not None else ["on_train_batch_start"]
    for name in unused:
        setattr(Model, name, getattr(base, name))
    made = Model(draw)
    made.api = api
    return made


class Behaviour:
    """What a module of either library does as it was drawn; a base class beside that of the library."""

    api: Any
    trainer: Any
    log: Any
    optimizers: Any
    lr_schedulers: Any
    manual_backward: Any
    parameters: Any
    make: Make = staticmethod(made_loader)
    make_val: Make = staticmethod(made_loader)

    def __init__(self, draw: Draw) -> None:
        super().__init__()
        self.draw = draw
        self.layer, self.other = linear(), linear(2)
        self.automatic_optimization = not draw.manual
        self.served = self.checked = 0
        self.counts: dict[str, int] = {}

    def forward(self, batch: Any) -> Tensor:
        return self.layer(features(batch)) + self.other(features(batch)).mean(1, keepdim=True)

    def loss(self, batch: Any) -> Tensor:
        return (self(batch) - 1).pow(2).mean()

    def log_drawn(self, hook: str, batch_idx: int = 0, loss: Any = None, dataloader_idx: int = 0) -> None:
        for one in self.draw.logged:
            if one.hook == hook and batch_idx % one.every == 0:
                self.log_one(one, loss, dataloader_idx)

    def log_one(self, one: Logged, loss: Any, dataloader_idx: int) -> None:
        name = one.name
        if one.options.get("add_dataloader_idx") is False:
            name = f"{name}{dataloader_idx}"
        value = loss
        if one.value == "count":
            before = self.counts.get(name, 0)
            if not self.trainer.sanity_checking:
                self.counts[name] = before + 1
            value = COUNTED[before % len(COUNTED)]
        self.log(name, value, **one.options)

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> int | None:
        return -1 if batch_idx == self.draw.ends_before else None

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = self.loss(batch)
        self.log_drawn("training_step", batch_idx, loss)
        if self.draw.manual:
            self.optimize(loss)
        if batch_idx in self.draw.skipped:
            return None
        return loss if self.draw.returns == "tensor" else {"loss": loss, "count": batch_idx}

    def optimize(self, loss: Tensor) -> None:
        optimizers = self.optimizers()
        optimizers = optimizers if isinstance(optimizers, list) else [optimizers]
        for optimizer in optimizers:
            optimizer.zero_grad()
        self.manual_backward(loss)
        for optimizer in optimizers:
            optimizer.step()
        schedulers = self.lr_schedulers()
        if schedulers is not None and not isinstance(schedulers, lr_scheduler.ReduceLROnPlateau):
            schedulers.step()

    def on_train_epoch_start(self) -> None:
        self.log_drawn("on_train_epoch_start")

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.log_drawn("on_train_batch_end", batch_idx, float(batch_idx))

    def on_train_epoch_end(self) -> None:
        self.log_drawn("on_train_epoch_end")

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Any:
        loss = self.loss(batch)
        self.log_drawn("validation_step", batch_idx, loss, dataloader_idx)
        return loss

    def on_validation_epoch_end(self) -> None:
        self.log_drawn("on_validation_epoch_end")

    def test_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Any:
        self.log("test", self.loss(batch))

    def predict_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Any:
        return self(batch)

    def configure_optimizers(self) -> Any:
        make = OPTIMIZERS[self.draw.optimizer]
        if self.draw.manual == 2:
            return [make(self.layer.parameters()), make(self.other.parameters())]
        optimizer = make(self.parameters())
        if self.draw.schedule is None:
            return optimizer
        return {"optimizer": optimizer, "lr_scheduler": scheduler(self.draw.schedule, optimizer)}

    def train_dataloader(self) -> Any:
        self.served += 1
        return train_loaders(self.api, self.draw, self.make, 10 * self.served)

    def val_dataloader(self) -> Any:
        self.checked += 1
        return val_loaders(self.draw, self.make_val, 50 + 10 * self.checked)
