"""The logger that needs nothing: one CSV file of metrics, one YAML file of hyperparameters."""

import os
import warnings
import weakref
from collections.abc import Mapping, Sequence
from typing import Any

from lx.experiment import rank_zero_experiment
from lx.hparams.file import dump_yaml, flatten, plain
from lx.interfaces.logger import Logger
from lx.kernel.errors import MisconfigurationException
from lx.rank_zero import rank_zero_only
from lx.run_folder import RunFolder
from lx_plugin_csv.metrics_file import MetricsFile

_NUMBERS = frozenset({float, int})
_AXES = ("epoch", "samples", "seconds", "walltime")


class CSVLogger(Logger):
    """Writes `metrics.csv` and `hparams.yaml` to `<save_dir>/<name>/version_<N>`; nothing is written before the first log call.

    One row a `log_metrics`, one column a metric, in alphabetical order; a new metric adds its column, and the rows before stay. Rows
    are written when the step passes a multiple of `flush_logs_every_n_steps`, by `flush`, by `finalize`, and when the program
    ends. A version that exists already is continued, with a warning unless the run goes on from a checkpoint: its rows stay, the new
    ones follow them.

    `save_dir` is the working directory if None (the Trainer hands its `default_root_dir`); `name` None or "" drops the level; `version`
    is a number, the name of a folder, or None for the next free number; `prefix` precedes the name of each metric, as `prefix-name`;
    `axes` names columns beside `step` that say where a row stands: `epoch` (in every row), `samples` seen, `seconds` spent in fit,
    `walltime` (see `lx.interfaces.Point`), where a trainer logs and no metric has that name. Raises `MisconfigurationException` for a
    remote `save_dir`, an impossible `version`, a number of steps below 1 or an unknown axis.

    >>> CSVLogger("logs", name="digits", version=3).log_dir.replace(os.sep, "/")
    'logs/digits/version_3'
    """

    METRICS_FILE = "metrics.csv"
    HPARAMS_FILE = "hparams.yaml"

    def __init__(
        self,
        save_dir: str | os.PathLike[str] | None = None,
        name: str | None = "lightning_logs",
        version: int | str | None = None,
        prefix: str = "",
        flush_logs_every_n_steps: int = 100,
        axes: Sequence[str] = (),
    ) -> None:
        if not isinstance(flush_logs_every_n_steps, int) or flush_logs_every_n_steps < 1:
            raise MisconfigurationException(
                f"flush_logs_every_n_steps={flush_logs_every_n_steps!r} must be a whole number from 1 on; 1 writes every row at once."
            )
        self._axes = (axes,) if isinstance(axes, str) else tuple(axes)
        unknown = [axis for axis in self._axes if axis not in _AXES]
        if unknown:
            raise MisconfigurationException(f"axes={axes!r}: there is no axis {unknown[0]!r}; beside step there are {', '.join(_AXES)}.")
        self._folder = RunFolder(save_dir, name, version)
        self._prefix = f"{prefix}-" if prefix else ""
        self._every = flush_logs_every_n_steps
        self._hparams: dict[str, Any] = {}
        self._metrics: MetricsFile | None = None
        self._copied = False
        self._next_step = 0
        self._flushed = 0  # how often `_every` went into the step of the last flush

    @property
    def name(self) -> str:
        """The name of the experiment, "" without one."""
        return self._folder.name

    @property
    def version(self) -> int | str:
        """The version, chosen now if none was given."""
        return self._folder.version

    @property
    def save_dir(self) -> str:
        """The folder of all experiments."""
        return self._folder.save_dir

    @property
    def root_dir(self) -> str:
        """The folder of all versions of this experiment."""
        return self._folder.root_dir

    @property
    def log_dir(self) -> str:
        """The folder of this run."""
        return self._folder.log_dir

    @property
    @rank_zero_experiment
    def experiment(self) -> MetricsFile:
        """The file of the metrics, opened now if it was not; on other ranks than 0 a `DummyExperiment`."""
        return self._metrics or self._open()

    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Adds a row; called on rank 0, does nothing elsewhere.

        `metrics` are numbers; one-element tensors and arrays, strings and nested dicts (`a/b`) are taken as well. Without `step` the row's
        step is a metric of that name, else one more than the last.
        """
        if rank_zero_only.rank:
            return
        file = self._metrics or self._open()
        prefix = self._prefix
        row = {prefix + name: value for name, value in metrics.items()} if prefix else dict(metrics)
        for value in row.values():
            if type(value) not in _NUMBERS:
                row = {each: cell[0] if isinstance(cell, list) and len(cell) == 1 else cell for each, cell in flatten(row).items()}
                break
        step = int(metrics.get("step", self._next_step) if step is None else step)
        row["step"] = step
        if self._axes and self.point is not None:
            for axis in self._axes:
                row.setdefault(axis, getattr(self.point, axis))
        file.rows.append(row)
        self._next_step = step + 1
        if self._next_step // self._every > self._flushed or len(file.rows) >= self._every:
            self.flush()

    def log_hyperparams(self, params: Mapping[str, Any] | None = None, *args: Any, **kwargs: Any) -> None:
        """Writes `hparams.yaml`; what was logged before and has no new value stays in it. Called on rank 0, does nothing elsewhere."""
        if rank_zero_only.rank:
            return
        if self._metrics is None:
            self._open()
        of_an_earlier_run = not self._hparams
        self._hparams |= plain(params or {})
        self._folder.write(self.HPARAMS_FILE, dump_yaml(self._hparams), keep=of_an_earlier_run)

    def flush(self) -> None:
        """Writes the rows that are held back, now."""
        if self._metrics is not None:
            self._metrics.flush()
        self._flushed = self._next_step // self._every

    def save(self) -> None:
        """Does nothing: `log_metrics` writes whenever `flush_logs_every_n_steps` are over, and `flush` writes at once."""

    def finalize(self, status: str) -> None:
        """Writes the rows that are held back; further ones may follow, as when a test follows a fit."""
        self.flush()

    def _open(self) -> MetricsFile:
        """Takes the folder of this version, so that no other run does, and says so if somebody else was there."""
        path = os.path.join(self.log_dir, self.METRICS_FILE)
        if self._folder.occupied or (os.path.exists(path) and not self._copied):
            self._folder.occupied = False
            if not self.resumes:
                warnings.warn(
                    f"the log folder {self.log_dir} exists and is not empty: what is logged now is added to its {self.METRICS_FILE}, and "
                    f"other hyperparameters in its {self.HPARAMS_FILE} are moved to a file beside it. Leave `version` out, or choose "
                    "another one, for a folder of its own.",
                    stacklevel=3,
                )
        self._folder.make()
        self._metrics = file = MetricsFile(path)
        weakref.finalize(self, _flush_at_end, file, os.getpid())
        return file

    def __getstate__(self) -> dict[str, Any]:
        self._copied = True  # a copy, in a process of the same run, may be the one that writes
        return {**vars(self), "_metrics": None}  # the rows that are held back stay here, or they would be written twice


def _flush_at_end(file: MetricsFile, pid: int) -> None:
    # For a program that never calls finalize; not in a forked child, and not into a folder that is gone.
    if os.getpid() == pid and os.path.isdir(os.path.dirname(file.path)):
        file.flush()
