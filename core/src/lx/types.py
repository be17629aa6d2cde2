"""Types for annotations in modules and data modules."""

from collections.abc import Mapping, Sequence
from typing import Any, NotRequired, TypedDict

from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from lx.optimizers import LRSchedulerConfig

__all__ = [
    "EVAL_DATALOADERS",
    "STEP_OUTPUT",
    "TRAIN_DATALOADERS",
    "LRSchedulerConfig",
    "LRSchedulerConfigType",
    "LRSchedulerTypeUnion",
    "OptimizerConfig",
    "OptimizerLRScheduler",
    "OptimizerLRSchedulerConfig",
]

STEP_OUTPUT = Tensor | Mapping[str, Any] | None
"""What a step returns: a loss, a mapping that holds it under `"loss"`, or None."""

TRAIN_DATALOADERS = Any
"""What `train_dataloader` returns: an iterable, or any collection of iterables."""

EVAL_DATALOADERS = Any
"""What the loader hooks of validation, test and prediction return: an iterable, or a sequence of iterables."""

LRSchedulerTypeUnion = LRScheduler | ReduceLROnPlateau
"""The schedulers of torch."""


class LRSchedulerConfigType(TypedDict, total=False):
    """The mapping that `configure_optimizers` may return for a scheduler; see `LRSchedulerConfig`."""

    scheduler: Any
    name: str | None
    interval: str
    frequency: int
    reduce_on_plateau: bool
    monitor: str | None
    strict: bool


class OptimizerConfig(TypedDict):
    """The mapping that `configure_optimizers` may return for an optimizer alone."""

    optimizer: Optimizer


class OptimizerLRSchedulerConfig(TypedDict):
    """The mapping that `configure_optimizers` may return for an optimizer and its scheduler."""

    optimizer: Optimizer
    lr_scheduler: LRSchedulerTypeUnion | LRSchedulerConfigType
    monitor: NotRequired[str]


OptimizerLRScheduler = (
    Optimizer
    | Sequence[Optimizer]
    | tuple[Sequence[Optimizer], Sequence[LRSchedulerTypeUnion | LRSchedulerConfig | LRSchedulerConfigType]]
    | OptimizerConfig
    | OptimizerLRSchedulerConfig
    | Sequence[OptimizerConfig]
    | Sequence[OptimizerLRSchedulerConfig]
    | None
)
"""What `configure_optimizers` returns."""
