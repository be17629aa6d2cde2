"""Where metrics go."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Point:
    """Where in a run values stand, by each of the axes that they can be drawn over.

    `step` is the one that `log_metrics` gets; `epoch` the index of the epoch, None where no trainer counts them; `samples` the samples
    trained on so far, over all epochs and processes, None where they are not counted; `seconds` the time spent in fit so far, that of the
    runs it was resumed from included; `walltime` the time of day, in seconds since 1970.

    >>> Point(step=9, epoch=1, samples=320, seconds=4.5, walltime=0.0).samples
    320
    """

    step: int
    epoch: int | None
    samples: int | None
    seconds: float
    walltime: float


class Logger(ABC):
    """The interface of a logger. A logger writes on rank 0 only; the engine calls the writing methods there and nowhere else.

    `Trainer(logger=True)`, the default, takes the logger with the highest `roles={"default": rank}` that can be imported.
    It is built with `save_dir=` if its constructor has such an argument and the user gave none.
    """

    group_separator: str = "/"

    point: Point | None = None
    """While a trainer calls `log_metrics` and the `save` that follows: where the values stand, for axes other than the step; else None."""

    resumes: bool = False
    """Whether the run goes on from a checkpoint, so that values of before may be there already; the engine says so before it logs."""

    @property
    @abstractmethod
    def name(self) -> str | None:
        """The name of the experiment, a folder name for loggers that write files."""

    @property
    @abstractmethod
    def version(self) -> int | str | None:
        """The version of the experiment."""

    @property
    def save_dir(self) -> str | None:
        """The folder under which everything of this logger lies, if it writes files."""
        return None

    @property
    def root_dir(self) -> str | None:
        """The folder of the experiment's name."""
        return self.save_dir

    @property
    def log_dir(self) -> str | None:
        """The folder of this very run."""
        return self.save_dir

    @property
    def experiment(self) -> Any:
        """The object of the wrapped library, made on first use."""
        return None

    @abstractmethod
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Writes metrics at a step; called by keyword, with plain floats."""

    @abstractmethod
    def log_hyperparams(self, params: Mapping[str, Any], *args: Any, **kwargs: Any) -> None:
        """Writes hyperparameters; called once at the start of a run."""

    def log_graph(self, model: Any, input_array: Any = None) -> None:
        """Writes the graph of a model, where the logger can show one."""

    def save(self) -> None:
        """Writes what is held back; called after each `log_metrics` of the engine, so it should be cheap."""

    def finalize(self, status: str) -> None:
        """Ends the run with `"success"`, `"failed"` or `"finished"`; everything is on disk when it returns."""

    def after_save_checkpoint(self, checkpoint_callback: Any) -> None:
        """Called after a checkpoint callback has written."""
