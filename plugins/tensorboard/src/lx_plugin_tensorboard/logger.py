"""The logger whose files TensorBoard shows."""

import os
import time
import warnings
from collections.abc import Mapping
from typing import Any

from lx.experiment import rank_zero_experiment
from lx.hparams.file import dump_yaml, flatten, plain
from lx.interfaces.logger import Logger
from lx.kernel.errors import ComponentArgumentError, MisconfigurationException
from lx.rank_zero import rank_zero_only
from lx.run_folder import RunFolder

_AXES = ("step", "epoch", "samples", "seconds")
_WRITER_ARGUMENTS = ("comment", "filename_suffix", "flush_secs", "max_queue", "purge_step")


class TensorBoardLogger(Logger):
    """Writes event files for TensorBoard, and `hparams.yaml`, to `<save_dir>/<name>/version_<N>[/<sub_dir>]`.

    Nothing is written before the first log call. A scalar is in the file when `log_metrics` returns; `experiment` is torch's
    `SummaryWriter`, made when it is first asked for, and everything goes through it from then on.

    `save_dir` is the working directory if None (the Trainer hands its `default_root_dir`), and may hold `~` and environment variables;
    `name` None or "" drops the level; `version` is a number, the name of a folder, or None for the next free number. `log_graph=True`
    writes the graph of a model with an `example_input_array`; `default_hp_metric` gives hyperparameters without metrics an `hp_metric` of
    -1, without which TensorBoard does not list them; `prefix` precedes each tag, as `prefix-tag`; `axis` is what a trainer's values are
    drawn over: `"step"`, `"epoch"`, `"samples"` seen or `"seconds"` spent in fit, whole ones (see `lx.interfaces.Point`). `kwargs` go to
    the `SummaryWriter`. Raises `ComponentArgumentError` for an argument that it does not take, `MisconfigurationException` for a remote
    `save_dir`, an impossible `version` or an unknown axis.

    >>> TensorBoardLogger("logs", name="digits", version=3).log_dir.replace(os.sep, "/")
    'logs/digits/version_3'
    """

    HPARAMS_FILE = "hparams.yaml"

    def __init__(
        self,
        save_dir: str | os.PathLike[str] | None = None,
        name: str | None = "lightning_logs",
        version: int | str | None = None,
        log_graph: bool = False,
        default_hp_metric: bool = True,
        prefix: str = "",
        sub_dir: str | os.PathLike[str] | None = None,
        axis: str = "step",
        **kwargs: Any,
    ) -> None:
        strange = sorted(set(kwargs) - set(_WRITER_ARGUMENTS))
        if strange:
            raise ComponentArgumentError(
                f"the logger 'tensorboard' got an unexpected argument {strange[0]!r}. Beside its own it takes those of SummaryWriter: "
                f"{', '.join(_WRITER_ARGUMENTS)}."
            )
        if axis not in _AXES:
            raise MisconfigurationException(f"axis={axis!r}: it must be one of {', '.join(_AXES)}.")
        self._axis = axis
        self._folder = RunFolder(save_dir, name, version, sub_dir)
        self._prefix = f"{prefix}-" if prefix else ""
        self._log_graph = log_graph
        self._default_hp_metric = default_hp_metric
        self._writer_arguments = kwargs
        self._hparams: dict[str, Any] = {}
        self._session_runs = False  # the HPARAMS tab knows of a run that has not ended
        self._next_step = 0
        self._events: Any = None
        self._writer: Any = None

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
        """The folder of this run, with its `sub_dir`."""
        return self._folder.log_dir

    @property
    def sub_dir(self) -> str | None:
        """The folder below that of the version, None without one."""
        return self._folder.sub_dir

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """The `SummaryWriter`, made on first use; on other ranks than 0 a `DummyExperiment`."""
        if self._writer is None or self._writer.file_writer is None:  # None: closed by the user
            from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415 -- 0.15 s that scalars alone need not pay

            if self._events is not None:
                self._events.close()
            self._folder.make()
            self._writer = SummaryWriter(log_dir=self.log_dir, **self._writer_arguments)
            self._writer_arguments.pop("purge_step", None)  # a writer made later must not purge what this one writes
        return self._writer

    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Writes scalars; called on rank 0, does nothing elsewhere.

        `metrics` are numbers or one-element tensors, or dicts of them, which become runs of their own below this one (`add_scalars`).
        Without `step` it is a metric of that name, else one more than the last. Raises `TypeError` for other values.
        """
        if rank_zero_only.rank:
            return
        from tensorboard.compat.proto.summary_pb2 import Summary  # type: ignore[import-untyped]  # noqa: PLC0415 -- 0.02 s that not every run pays

        step = int(metrics.get("step", self._next_step) if step is None else step)
        self._next_step = step + 1
        if self._axis != "step":
            step = self._on_axis(step)
        values = []
        for name, value in metrics.items():
            if type(value) is not float and isinstance(value, Mapping):
                self.experiment.add_scalars(self._prefix + name, value, step)
            else:
                values.append(Summary.Value(tag=self._prefix + name, simple_value=_number(name, value)))
        if values:
            self._add(Summary(value=values), step)

    def log_hyperparams(
        self, params: Mapping[str, Any] | None = None, metrics: Mapping[str, Any] | float | None = None, step: int | None = None
    ) -> None:
        """Writes `hparams.yaml`, and the run to the HPARAMS tab; called on rank 0, does nothing elsewhere.

        `metrics`, a value of `hp_metric` or a dict, are logged at `step` (0 if None), and shown in the tab. The tab shows what was first
        written: to log metrics at the end of the run, set `default_hp_metric=False`, and call this once more.
        """
        if rank_zero_only.rank:
            return
        of_an_earlier_run = not self._hparams
        self._hparams |= plain(params or {})
        self._folder.write(self.HPARAMS_FILE, dump_yaml(self._hparams), keep=of_an_earlier_run)
        if metrics is None:
            metrics = -1.0 if self._default_hp_metric else {}
        if not isinstance(metrics, Mapping):
            metrics = {"hp_metric": metrics}
        if not metrics:
            return
        from lx_plugin_tensorboard.hparams_summary import session_start  # noqa: PLC0415 -- as in log_metrics

        before, self._next_step = self._next_step, step or 0
        self.log_metrics(metrics, step or 0)
        self._next_step = before
        self._add(session_start(flatten(self._hparams), [self._prefix + name for name in metrics]), 0)
        self._session_runs = True

    def log_graph(self, model: Any, input_array: Any = None) -> None:
        """Writes the graph of a model with `log_graph=True`; called on rank 0, does nothing elsewhere.

        `input_array` (a tensor, a tuple of positional or a dict of keyword arguments) is what the model is traced with,
        `model.example_input_array` if None. Without either, and where the model cannot be traced, it warns.
        """
        if rank_zero_only.rank or not self._log_graph:
            return
        inputs = getattr(model, "example_input_array", None) if input_array is None else input_array
        if inputs is None:
            warnings.warn(
                f"log_graph=True: {type(model).__name__} has no example_input_array to be traced with, so its graph is not logged.",
                stacklevel=2,
            )
            return
        from lx_plugin_tensorboard.graph import add_graph  # noqa: PLC0415 -- only with log_graph

        try:
            add_graph(self.experiment, model, inputs)
        except Exception as error:
            warnings.warn(f"log_graph=True: {type(model).__name__} cannot be traced, so its graph is not logged: {error!r}", stacklevel=2)

    def finalize(self, status: str) -> None:
        """Ends the run in the HPARAMS tab, and closes the file; what is logged later opens it, or another one, again."""
        if self._session_runs and not rank_zero_only.rank:
            from lx_plugin_tensorboard.hparams_summary import session_end  # noqa: PLC0415 -- as in log_metrics

            self._add(session_end(status != "failed"), 0)
            self._session_runs = False
        for writer in (self._events, self._writer):
            if writer is not None:
                writer.flush()
                writer.close()

    def _on_axis(self, step: int) -> int:
        """Where values stand on the chosen axis; at their step where no trainer says where they stand on another."""
        value = getattr(self.point, self._axis, None)
        return step if value is None else int(value)

    def _add(self, summary: Any, step: int) -> None:
        from tensorboard.compat.proto.event_pb2 import Event  # type: ignore[import-untyped]  # noqa: PLC0415 -- as in log_metrics

        event = Event(wall_time=time.time() if self.point is None else self.point.walltime, step=step, summary=summary)
        if self._writer is not None or set(self._writer_arguments) - {"filename_suffix"}:
            self.experiment.file_writer.event_writer.add_event(event)
            return
        if self._events is None:
            from lx_plugin_tensorboard.event_file import EventFile  # noqa: PLC0415 -- as in log_metrics

            self._folder.make()
            self._events = EventFile(self.log_dir, self._writer_arguments.get("filename_suffix", ""))
        self._events.add_event(event)

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_events": None, "_writer": None}  # a copy opens a file of its own


def _number(name: str, value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(
            f"the metric {name!r} is {value!r}, and TensorBoard takes numbers, tensors of one element, and dicts of them."
        ) from error
