"""The logger whose runs MLflow shows."""

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from lx.experiment import rank_zero_experiment
from lx.hparams.file import flatten
from lx.interfaces.logger import Logger
from lx.kernel.errors import MisconfigurationException
from lx.rank_zero import rank_zero_only, rank_zero_warn
from lx_plugin_mlflow.checkpoints import Checkpoints
from lx_plugin_mlflow.names import legal
from lx_plugin_mlflow.store import Store, create_run

_LONGEST_PARAM = 250  # characters, which stores of every age take
_PARAMS_AT_ONCE = 100
_METRICS_AT_ONCE = 1000
_STATUS = {"success": "FINISHED", "finished": "FINISHED", "failed": "FAILED"}


class MLFlowLogger(Logger):
    """Writes a run to MLflow: to the server or database of `tracking_uri`, else to `<save_dir>/mlflow.db`.

    The run starts when something is logged, or its `run_id`, `version`, `name` or `experiment` is asked for; building the logger contacts
    nothing. It is `RUNNING` while it is written to, `FINISHED` or `FAILED` after `finalize`.

    `experiment_name` is the experiment that the run belongs to, made if need be, with `artifact_location` as the folder or address of
    its artifacts; `run_name` is chosen by MLflow if None. `tracking_uri` is what `MLFLOW_TRACKING_URI` says when the logger is
    made, if None. `tags` are those of the run. `save_dir` is the folder of the database and of checkpoints. `log_model=True` stores the
    checkpoints that are kept as artifacts when a run ends, or each when it is written with `save_top_k=-1`; `"all"` each when it is
    written. `prefix` precedes the name of each metric, as `prefix-name`. `run_id` is a run to be continued. `synchronous=False` lets MLflow
    write metrics in the background until `finalize`; None leaves that to `MLFLOW_ENABLE_ASYNC_LOGGING`. Raises
    `MisconfigurationException` for another `log_model`; when the run starts, for a folder as `tracking_uri` where MLflow refuses it, and
    for the name of a deleted experiment.

    >>> MLFlowLogger(save_dir="runs").log_dir.replace(os.sep, "/").endswith("/runs")
    True
    """

    def __init__(
        self,
        experiment_name: str = "lightning_logs",
        run_name: str | None = None,
        tracking_uri: str | None = None,
        tags: Mapping[str, Any] | None = None,
        save_dir: str | os.PathLike[str] = "./mlruns",
        log_model: Literal[True, False, "all"] = False,
        prefix: str = "",
        artifact_location: str | None = None,
        run_id: str | None = None,
        synchronous: bool | None = None,
    ) -> None:
        if log_model not in (True, False, "all"):
            raise MisconfigurationException(f"log_model={log_model!r}: it must be True, False or 'all'.")
        self._store = Store(tracking_uri or os.environ.get("MLFLOW_TRACKING_URI"), save_dir)
        self._experiment_name = experiment_name
        self._artifact_location = artifact_location
        self._run_name = run_name
        self._tags = dict(tags or {})
        self._log_model = log_model
        self._prefix = f"{prefix}-" if prefix else ""
        self._run_id = run_id
        self._experiment_id: str | None = None
        self._synchronous = {} if synchronous is None else {"synchronous": synchronous}
        self._client: Any = None
        self._running = False
        self._in_background: list[Any] = []  # what MLflow has not said to have written
        self._names: dict[str, str] = {}  # of metrics, as MLflow takes them
        self._next_step = 0
        self._checkpoints = Checkpoints()
        self._checkpoint_callback: Any = None  # the one to be asked when the run ends

    @property
    def name(self) -> str | None:
        """The id of the experiment; None on other ranks than 0."""
        return self.experiment_id

    @property
    def version(self) -> str | None:
        """The id of the run; None on other ranks than 0."""
        return self.run_id

    @property
    def experiment_id(self) -> str | None:
        """The id of the experiment, which is made if need be; None on other ranks than 0."""
        _ = self.experiment
        return self._experiment_id

    @property
    def run_id(self) -> str | None:
        """The id of the run, which is started if need be; None on other ranks than 0, unless it was given."""
        _ = self.experiment
        return self._run_id

    @property
    def save_dir(self) -> str | None:
        """The folder of the runs on this machine; None where they are on a server or in a database of yours."""
        return self._store.folder

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """The `MlflowClient`; its methods take `run_id`. On other ranks than 0 a `DummyExperiment`."""
        if self._client is None:
            client = self._store.connect()
            if self._run_id is None:
                self._experiment_id = self._store.experiment_id(client, self._experiment_name, self._artifact_location)
                self._run_id = create_run(client, self._experiment_id, self._run_name, self._tags)
                self._running = True
            else:
                self._experiment_id = client.get_run(self._run_id).info.experiment_id
            self._client = client
        return self._client

    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Writes metrics, in one request; called on rank 0, does nothing elsewhere.

        `metrics` are numbers or one-element tensors. Text is left out with a warning, and characters that MLflow refuses in names are
        removed with one. Without `step` it is a metric of that name, else one more than the last. Raises `TypeError` for other values.
        """
        if rank_zero_only.rank:
            return
        from mlflow.entities import Metric  # noqa: PLC0415 -- 2 s that only a run which logs should pay

        step = int(metrics.get("step", self._next_step) if step is None else step)
        self._next_step = step + 1
        timestamp = int(1000 * (time.time() if self.point is None else self.point.walltime))
        values = [Metric(self._name(name), _number(name, value), timestamp, step) for name, value in metrics.items() if _fits(name, value)]
        for some in _portions(values, _METRICS_AT_ONCE):
            self._log(metrics=some)

    def log_hyperparams(self, params: Mapping[str, Any] | None = None, *args: Any, **kwargs: Any) -> None:
        """Writes hyperparameters, flat and cut to 250 characters, 100 in a request; called on rank 0, does nothing elsewhere.

        MLflow never changes a parameter; a value other than that which the run has is left out with a warning.
        """
        if rank_zero_only.rank or not params:
            return
        from mlflow.entities import Param  # noqa: PLC0415 -- as in log_metrics

        given = {legal(name): str(value)[:_LONGEST_PARAM] for name, value in flatten(params).items()}
        self._wait()
        there = self.experiment.get_run(self._run_id).data.params
        for name in given.keys() & there.keys():
            if given[name] != there[name]:
                rank_zero_warn(f"MLflow changes no parameter of a run: {name} stays {there[name]!r}, and {given[name]!r} is not logged.")
        new = [Param(name, value) for name, value in given.items() if name not in there]
        for some in _portions(new, _PARAMS_AT_ONCE):
            self._log(params=some)

    def after_save_checkpoint(self, checkpoint_callback: Any) -> None:
        """Stores checkpoints as artifacts, now or when the run ends, as `log_model` says; called on rank 0."""
        if not self._log_model or rank_zero_only.rank:
            return
        self._checkpoint_callback = checkpoint_callback  # also of what a checkpoint I/O is still writing in the background
        if self._log_model == "all" or checkpoint_callback.save_top_k == -1:
            self._checkpoints.log(checkpoint_callback, self.experiment, str(self._run_id))

    def finalize(self, status: str) -> None:
        """Ends the run as FINISHED or FAILED, once everything is written; what is logged later makes it RUNNING again."""
        if rank_zero_only.rank or self._client is None:
            return
        self._wait()
        if self._checkpoint_callback is not None:
            self._checkpoints.log(self._checkpoint_callback, self._client, str(self._run_id))
        if self._running:
            self._client.set_terminated(self._run_id, _STATUS.get(status, status))
            self._running = False

    def _log(self, **batch: Any) -> None:
        client = self.experiment
        if not self._running:
            client.update_run(self._run_id, status="RUNNING")
            self._running = True
        operation = client.log_batch(self._run_id, **batch, **self._synchronous)
        if operation is not None:
            self._in_background.append(operation)

    def _wait(self) -> None:
        for operation in self._in_background:
            operation.wait()
        self._in_background.clear()

    def _name(self, name: str) -> str:
        """The name of a metric with the prefix, and without what MLflow refuses."""
        if name not in self._names:
            full = self._prefix + name
            self._names[name] = legal(full)
            if full != legal(full):
                rank_zero_warn(f"MLflow takes no metric named {full!r}; it is logged as {legal(full)!r}.")
        return self._names[name]

    def __getstate__(self) -> dict[str, Any]:
        if self._run_id is None and not rank_zero_only.rank:
            _ = self.experiment  # starts the run, so that a copy in another process writes to the same one
        return {**vars(self), "_client": None, "_in_background": [], "_checkpoint_callback": None}


def _portions(values: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    return (values[start : start + size] for start in range(0, len(values), size))


def _fits(name: str, value: Any) -> bool:
    if isinstance(value, str):
        rank_zero_warn(f"MLflow takes no text as a metric: {name}={value!r} is not logged.")
    return not isinstance(value, str)


def _number(name: str, value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"the metric {name!r} is {value!r}, and MLflow takes numbers and tensors of one element.") from error
