"""A request for the parts of a run, and the answer to it: data, without the way from one to the other."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch


@dataclass(frozen=True, slots=True)
class Request:
    """What was asked for, as the arguments of `Trainer` and `Fabric` state it. `trainer` is False for a bare Fabric."""

    accelerator: Any = "auto"
    strategy: Any = "auto"
    devices: Any = "auto"
    num_nodes: int = 1
    precision: Any = None
    plugins: Any = None
    callbacks: Any = None
    logger: Any = None
    profiler: Any = None
    enable_checkpointing: bool | None = None
    enable_progress_bar: bool | None = None
    enable_model_summary: bool | None = None
    sync_batchnorm: bool = False
    max_time: Any = None
    default_root_dir: str | None = None
    quiet: bool = False
    keeps_bar: bool = False
    trainer: bool = True


@dataclass(slots=True)
class Choice:
    """One component that will be used: who provides it, why, and how it is made."""

    topic: str
    kind: str
    name: str
    provider: str
    reason: str
    cls: Any
    make: Callable[..., Any]


@dataclass(slots=True)
class Resolution:
    """All that a run is made of, decided and not yet built."""

    request: Request
    accelerator: Choice
    devices: list[int]
    parallel_devices: list[torch.device]
    strategy: Choice
    precision: Choice
    environment: Choice | None = None
    checkpoint_io: Choice | None = None
    launcher: Choice | None = None
    layer_sync: Choice | None = None
    profiler: Choice | None = None
    loggers: list[Choice] = field(default_factory=list)
    callbacks: list[Choice] = field(default_factory=list)
    decisions: list[tuple[str, str, str, str]] = field(default_factory=list)

    def explain(self) -> str:
        """The decisions as a table: topic, choice, who provides it, why."""
        rows = [("what", "choice", "provided by", "why"), *self.decisions]
        widths = [max(len(row[column]) for row in rows) for column in range(3)]
        return "\n".join(
            "  ".join([*(cell.ljust(width) for cell, width in zip(row[:3], widths, strict=True)), row[3]]).rstrip() for row in rows
        )
