"""The logger whose experiments Comet shows."""

import inspect
import os
import sys
import uuid
from collections.abc import Mapping
from typing import Any, Literal

from lx.experiment import rank_zero_experiment
from lx.hparams.file import flatten
from lx.interfaces.logger import Logger
from lx.kernel.errors import ComponentArgumentError, MisconfigurationException
from lx.rank_zero import rank_zero_only
from lx_plugin_comet.arguments import renamed

_MODES = ("get_or_create", "get", "create")
_STARTED: set[str] = set()  # keys of the experiments that loggers of this process have started


class CometLogger(Logger):
    """Writes an experiment of Comet: to its server, or with `online=False` to archives that `comet upload` sends later.

    The experiment starts when something is logged or `experiment` is asked for; its key is chosen before, so that building the logger
    and pickling it contact nothing. Of several loggers that share a process, the last to start has the running experiment, which is all
    that Comet knows; another one goes on with its own when it is used again.

    `api_key` and `workspace` are those that Comet is configured with, if None; `project` is the name of the project; `experiment_key`
    (32 to 50 letters and digits) names an experiment, new or to be continued; `mode` says which: `"create"`, `"get"` or, by default,
    `"get_or_create"`. An experiment that the program has started itself is used, unless there is a key or `mode="create"`. `prefix`
    precedes the name of each metric, as `prefix-name`. `kwargs` are those of `comet_ml.ExperimentConfig`, such as `name`, `tags`,
    `log_code` or `offline_directory`; former names of arguments are understood, with a warning. Raises `MisconfigurationException` for
    another `mode`, `"get"` without a key, and arguments under two names; when the experiment starts, `ComponentArgumentError` for one
    that Comet does not take.

    >>> CometLogger(online=False, project="digits", experiment_key="0" * 32).version
    '00000000000000000000000000000000'
    """

    def __init__(
        self,
        *,
        api_key: str | None = None,
        workspace: str | None = None,
        project: str | None = None,
        experiment_key: str | None = None,
        mode: Literal["get_or_create", "get", "create"] | None = None,
        online: bool | None = None,
        prefix: str | None = None,
        **kwargs: Any,
    ) -> None:
        if mode is not None and mode not in _MODES:
            raise MisconfigurationException(f"mode={mode!r}: it must be one of {', '.join(_MODES)}.")
        self._config = renamed({"project": project, "online": online, **kwargs})
        self._where = {"api_key": api_key, "workspace": workspace} | {name: self._config.pop(name, None) for name in ("project", "online")}
        self._key = experiment_key or os.environ.get("COMET_EXPERIMENT_KEY")
        if mode == "get" and not self._key:
            raise MisconfigurationException("mode='get' continues an experiment, and needs its experiment_key.")
        self._mode = mode
        self._prefix = f"{prefix}-" if prefix else ""
        self._next_step = 0
        self._experiment: Any = None

    @property
    def name(self) -> str | None:
        """The name of the project, None where Comet's configuration says it."""
        name: str | None = self._where["project"]
        return name

    @property
    def version(self) -> str | None:
        """The key of the experiment, chosen now if none was given; on other ranks than 0, None then."""
        if self._key is None and not rank_zero_only.rank:
            self._key = (self._mode != "create" and _running_key()) or uuid.uuid4().hex
        return self._key

    @property
    def save_dir(self) -> str | None:
        """The folder of the archives, None where Comet chooses it."""
        folder = self._config.get("offline_directory")
        return None if folder is None else os.fspath(folder)

    @property
    def log_dir(self) -> str | None:
        """None: an experiment has no folder of its own."""
        return None

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """Comet's experiment, started on first use, and again after it has ended; on other ranks than 0 a `DummyExperiment`."""
        if self._experiment is None or self._experiment.ended:
            self._experiment = self._start()
        return self._experiment

    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Sends metrics; called on rank 0, does nothing elsewhere.

        `metrics` are numbers or one-element tensors; one that is named `epoch` is the epoch in which Comet shows the others. Without
        `step` it is a metric of that name, else one more than the last. Raises `TypeError` for other values.
        """
        if rank_zero_only.rank:
            return
        step = int(metrics.get("step", self._next_step) if step is None else step)
        self._next_step = step + 1
        epoch = metrics.get("epoch", None if self.point is None else self.point.epoch)
        values = {self._prefix + name: _number(name, value) for name, value in metrics.items() if name != "epoch" or len(metrics) == 1}
        self.experiment.log_metrics(values, step=step, epoch=None if epoch is None else int(epoch))

    def log_hyperparams(self, params: Mapping[str, Any] | None = None, *args: Any, **kwargs: Any) -> None:
        """Sends hyperparameters, flat; called on rank 0, does nothing elsewhere."""
        if params and not rank_zero_only.rank:
            self.experiment.log_parameters(flatten(params))

    def log_graph(self, model: Any, input_array: Any = None) -> None:
        """Sends the layers of a model as text, unless `log_graph=False`; called on rank 0, does nothing elsewhere."""
        if not rank_zero_only.rank and self._config.get("log_graph", True):
            self.experiment.set_model_graph(str(model), overwrite=True)

    def finalize(self, status: str) -> None:
        """Waits until everything is sent or, offline, in the archive; what is logged later goes to the same experiment.

        Offline that ends the experiment, and what is logged later makes one more archive of it. Online it stays open.
        """
        if rank_zero_only.rank or self._experiment is None or self._experiment.ended:
            return
        if self._experiment.get_key() in _STARTED and _is_offline(self._experiment):
            self._experiment.end()
        else:
            self._experiment.flush()

    def _start(self) -> Any:
        os.environ.setdefault("COMET_DISABLE_AUTO_LOGGING", "1")  # Comet would log, beside the logger, what torch does
        import comet_ml  # noqa: PLC0415 -- 1 s that only a run which logs should pay

        key = self.version
        running = comet_ml.get_running_experiment()
        if running is not None and not running.ended:
            if running.get_key() == key:
                return running
            if running.get_key() in _STARTED:
                running.end()  # which waits for its data; Comet, that knows one experiment at a time, would not
        experiment = comet_ml.start(
            **self._where, experiment_key=key, mode=self._mode or "get_or_create", experiment_config=self._experiment_config(comet_ml)
        )
        self._mode = "get_or_create"  # from now on there is one
        _STARTED.add(experiment.get_key())
        experiment.log_other("Created from", "lx")
        return experiment

    def _experiment_config(self, comet_ml: Any) -> Any:
        known = inspect.signature(comet_ml.ExperimentConfig).parameters
        strange = sorted(set(self._config) - set(known))
        if strange:
            raise ComponentArgumentError(
                f"the logger 'comet' got an unexpected argument {strange[0]!r}. Beside its own it takes those of ExperimentConfig: "
                f"{', '.join(known)}."
            )
        return comet_ml.ExperimentConfig(**self._config)

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_key": self.version, "_experiment": None}  # a copy in another process would choose a key of its own


def _running_key() -> str | None:
    """The key of an experiment that the program, and no logger, has started."""
    comet_ml = sys.modules.get("comet_ml")
    running = None if comet_ml is None else comet_ml.get_running_experiment()
    return running.get_key() if running is not None and not running.ended and running.get_key() not in _STARTED else None


def _is_offline(experiment: Any) -> bool:
    import comet_ml  # noqa: PLC0415 -- an experiment is there, so that this is, too

    return isinstance(experiment, comet_ml.OfflineExperiment)


def _number(name: str, value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"the metric {name!r} is {value!r}, and Comet takes numbers and tensors of one element.") from error
