"""LearningRateMonitor: what the rates are called, and when they are logged."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch.optim import Optimizer

from lx.interfaces import Callback
from lx.kernel.errors import MisconfigurationException


class Source(NamedTuple):
    """An optimizer whose rates are logged, under a name, with the interval of its scheduler; None without a scheduler."""

    name: str
    optimizer: Optimizer
    interval: str | None


class LearningRateMonitor(Callback):
    """Logs the learning rates of all optimizers to all loggers, on rank 0, and puts them into `trainer.callback_metrics` on every rank.

    A rate is named after its optimizer, `lr-SGD`, or by its scheduler's `name`; further ones of a name are `lr-SGD-1`, `lr-SGD-2`. With
    several parameter groups, a name is `lr-SGD/pg1`, or `lr-SGD/<name>` for a group with a `"name"`. `lrs` keeps what was logged.
    Nothing is logged in `fast_dev_run`.

    Args:
        logging_interval: `"step"`: before each batch whose values go to the loggers; `"epoch"`: when an epoch begins; None: as the
            interval of each scheduler says, and both for an optimizer without one.
        log_momentum: Whether momentum (the first beta, for Adam and its like) is logged as `<name>-momentum`.
        log_weight_decay: Whether weight decay is logged as `<name>-weight_decay`.
        log_key_prefix: What is put before every name.

    Raises:
        MisconfigurationException: for another interval; when training begins without a logger, or with two groups of one name.

    >>> LearningRateMonitor("epoch").listens_to("on_train_batch_start")
    False
    """

    def __init__(
        self,
        logging_interval: str | None = None,
        log_momentum: bool = False,
        log_weight_decay: bool = False,
        log_key_prefix: str | None = None,
    ) -> None:
        if logging_interval not in (None, "step", "epoch"):
            raise MisconfigurationException(f"logging_interval={logging_interval!r}: it must be 'step', 'epoch' or None.")
        self.logging_interval = logging_interval
        self.log_momentum = log_momentum
        self.log_weight_decay = log_weight_decay
        self.log_key_prefix = log_key_prefix or ""
        self.lrs: dict[str, list[float]] = {}
        self._sources: dict[str, list[Source]] = {}
        self._logged_step: int | None = None

    def listens_to(self, event: str) -> bool:
        """Batches or epochs only where rates are logged at them, unless a subclass has its own code for them."""
        idle = {"on_train_batch_start": self.logging_interval == "epoch", "on_train_epoch_start": self.logging_interval == "step"}
        if idle.get(event) and getattr(type(self), event) is getattr(LearningRateMonitor, event):
            return False
        return super().listens_to(event)

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Finds the optimizers, and how they are called."""
        self._sources, self._logged_step = {}, None
        if trainer.fast_dev_run:
            return
        if not trainer.loggers:
            raise MisconfigurationException(
                "LearningRateMonitor has no logger to log to; give the Trainer one, or leave this callback out."
            )
        sources = find_sources(trainer.lr_scheduler_configs, trainer.optimizers)
        for interval in ("step", "epoch"):
            if self.logging_interval in (None, interval):
                self._sources[interval] = [source for source in sources if self.logging_interval or source.interval in (None, interval)]
        self.lrs = {self.log_key_prefix + name: [] for source in sources for name, _ in named_groups(source)}

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Logs the rates that this batch is trained with, if its values go to the loggers; in an accumulation window the first one does."""
        if self._sources.get("step") and trainer.log_step != self._logged_step and trainer.logging_due:
            self._logged_step = trainer.log_step
            self._log(trainer, "step")

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        """Logs the rates with which the epoch begins."""
        if self._sources.get("epoch"):
            self._log(trainer, "epoch")

    def _log(self, trainer: Any, interval: str) -> None:
        logged: dict[str, float] = {}
        for source in self._sources[interval]:
            for name, group in named_groups(source):
                key = self.log_key_prefix + name
                logged[key] = float(group["lr"])
                self.lrs.setdefault(key, []).append(logged[key])
                if self.log_momentum:
                    logged[f"{key}-momentum"] = float(group["betas"][0] if "betas" in group else group.get("momentum", 0.0))
                if self.log_weight_decay:
                    logged[f"{key}-weight_decay"] = float(group.get("weight_decay", 0.0))
        trainer.log_metrics(logged, step=trainer.log_step)
        for key, value in logged.items():
            trainer.callback_metrics[key] = torch.tensor(value)


def find_sources(configs: list[Any], optimizers: list[Optimizer]) -> list[Source]:
    """The optimizers of the schedulers, then those without one, each under a name of its own."""
    found = []
    for config in configs:
        optimizer = getattr(config.scheduler, "optimizer", None)  # a scheduler of the user's own may not tell
        if optimizer is not None:
            found.append((config.name or f"lr-{type(optimizer).__name__}", optimizer, config.interval))
    scheduled = {id(optimizer) for _, optimizer, _ in found}
    found += [(f"lr-{type(optimizer).__name__}", optimizer, None) for optimizer in optimizers if id(optimizer) not in scheduled]
    sources: list[Source] = []
    for name, optimizer, interval in found:
        taken = {source.name for source in sources}
        free = next(new for number in range(len(found)) if (new := f"{name}-{number}" if number else name) not in taken)
        sources.append(Source(free, optimizer, interval))
    return sources


def named_groups(source: Source) -> Iterator[tuple[str, dict[str, Any]]]:
    """The parameter groups as they are now, since more may be added while training, each under its name.

    Raises `MisconfigurationException` where two have the same.
    """
    groups = source.optimizer.param_groups
    if len(groups) == 1:
        yield source.name, groups[0]
        return
    names = [str(group.get("name", f"pg{number}")) for number, group in enumerate(groups, start=1)]
    if len(set(names)) < len(names):
        raise MisconfigurationException(
            f"LearningRateMonitor: {type(source.optimizer).__name__} has parameter groups with the same name ({', '.join(names)}); "
            "give each its own, or none."
        )
    for name, group in zip(names, groups, strict=True):
        yield f"{source.name}/{name}", group
