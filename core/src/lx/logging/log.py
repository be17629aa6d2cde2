"""`self.log`: where values go, and the three dictionaries that a trainer shows of them."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from lx.interfaces.logger import Logger, Point
from lx.interfaces.strategy import Strategy
from lx.kernel.errors import MisconfigurationException
from lx.logging.batch_size import batch_size_of
from lx.logging.clock import FitClock, tell
from lx.logging.meters import Meter, Settings, reduce_meters, reduction
from lx.logging.published import Published, numbers
from lx.logging.sites import placement
from lx.rank_zero import PossibleUserWarning, rank_zero_warn

Key = tuple[str | None, str, int | None]


class RunLog:
    """What one run logs. The loops say where they are (`site`, `batch`, `dataloader_idx`); hooks call `log`.

    `meters` are those of the stage that runs: training has its own, which a validation in between leaves alone. The three dictionaries
    show values of steps (`at_step`) until the values of the epoch are settled, and then those.
    """

    def __init__(
        self,
        strategy: Strategy,
        loggers: Callable[[], Sequence[Logger]],
        exact: torch.dtype,
        where: Callable[[], tuple[int, int, int | None]],
    ) -> None:
        self.site: str | None = None
        self.batch: Any = None
        self.batch_size: int | None = None
        self.dataloader_idx: int | None = None
        self.training = False
        self.at_step = True
        self.meters: dict[Key, Meter] = {}
        self.owner: Any = None
        self.muted: str | None = None
        self._strategy = strategy
        self._loggers = loggers
        self._exact = exact
        self._where = where
        self.published = Published()
        self.clock = FitClock()

    # -- recording -------------------------------------------------------------------------------------------------------

    def log(
        self,
        name: str,
        value: Any,
        prog_bar: bool = False,
        logger: bool | None = None,
        on_step: bool | None = None,
        on_epoch: bool | None = None,
        reduce_fx: Any = "mean",
        enable_graph: bool = False,
        sync_dist: bool = False,
        sync_dist_group: Any = None,
        add_dataloader_idx: bool = True,
        batch_size: float | Tensor | None = None,
        metric_attribute: str | None = None,
        rank_zero_only: bool = False,
    ) -> None:
        """Records one value; `LightningModule.log` documents the arguments."""
        options = (
            prog_bar,
            logger,
            on_step,
            on_epoch,
            reduce_fx,
            enable_graph,
            sync_dist,
            sync_dist_group,
            add_dataloader_idx,
            metric_attribute,
            rank_zero_only,
        )
        meter = self.meters.get((self.site, name, self.dataloader_idx))
        if meter is None or meter.options != options:
            meter = self._admit(name, value, options, meter)
            if meter is None:
                return
        if type(value) is not Tensor:
            value = self._tensor(name, value, meter)
            if value is None:
                return
        if value.requires_grad and not meter.keep_graph:
            value = value.data  # as detach(), at half the price; it is copied below
        if value.ndim or value.dtype in _NARROW:
            value = _single(name, value)
        if not meter.weighted:
            weight: Any = 1
        elif (weight := self.batch_size if batch_size is None else batch_size) is None:
            self.batch_size = weight = batch_size_of(self.batch)
        meter.record(value, weight)
        if meter.sync and meter.on_step and self._strategy.world_size > 1:
            self._sync_step(meter)

    def _admit(self, name: str, value: Any, options: tuple[Any, ...], known: Meter | None) -> Meter | None:
        """Checks a name that this hook logs for the first time, and makes its meter; None where nothing is to be recorded."""
        prog_bar, logger, on_step, on_epoch, reduce_fx, keep_graph, sync, group, add_idx, metric_attribute, rank_zero_only = options
        if self.muted is not None:
            rank_zero_warn(self.muted)
            return None
        if rank_zero_only and not self._strategy.is_global_zero:
            return None
        if known is not None and known.options:  # one without comes from a checkpoint
            raise MisconfigurationException(
                f"self.log({name!r}) is called twice in {self.site} with different arguments; use one name for each, or the same arguments."
            )
        _check_name(name)
        step, epoch = placement(self.site, name, on_step, on_epoch)
        if logger and not self._loggers():
            rank_zero_warn(f"self.log({name!r}, logger=True): this trainer has no logger.")
        if epoch and not sync and not rank_zero_only and self._strategy.world_size > 1 and not _is_metric(value):
            rank_zero_warn(
                f"self.log({name!r}): the epoch's value is of rank 0 alone; pass sync_dist=True to reduce over all processes.",
                PossibleUserWarning,
            )
        settings = Settings(
            on_step=step,
            on_epoch=epoch,
            prog_bar=prog_bar,
            logger=logger is not False,
            reduce=reduction(name, reduce_fx),
            sync=sync and not rank_zero_only,
            group=group,
            dataloader_idx=self.dataloader_idx if add_idx else None,
            keep_graph=keep_graph,
            exact=self._exact,
        )
        meter = Meter(name, options, settings)
        if known is not None:
            meter.take_over(known)
        if _is_metric(value):
            meter.metric = _owned(name, value, metric_attribute, self.owner)
        if (
            not add_idx
            and self.dataloader_idx is not None
            and any(other == name and idx != self.dataloader_idx for _, other, idx in self.meters)
        ):
            raise MisconfigurationException(
                f"self.log({name!r}, add_dataloader_idx=False): two loaders log this name; name each differently."
            )
        self.meters[self.site, name, self.dataloader_idx] = meter
        return meter

    def _tensor(self, name: str, value: Any, meter: Meter) -> Tensor | None:
        """A value that is no plain tensor as one; a metric object has done its own recording, and gives the step's value at most."""
        if isinstance(value, Tensor):
            return value.as_subclass(Tensor)
        if isinstance(value, bool | int | float):
            return torch.tensor(float(value), dtype=torch.float32, device=self._strategy.root_device)
        if _is_metric(value):
            meter.take(value)
            return None
        number = _number(value)
        if number is None:
            self.meters.pop((self.site, name, self.dataloader_idx), None)
            raise ValueError(
                f"self.log({name!r}, {value!r}): a {type(value).__name__} cannot be logged; pass a number, a tensor of one element or a"
                " metric."
            )
        return torch.tensor(number, dtype=torch.float32, device=self._strategy.root_device)

    def _sync_step(self, meter: Meter) -> None:
        assert meter.step_value is not None
        # A copy, since what is reduced in place must not be reduced once more for the epoch.
        meter.step_value = self._strategy.all_reduce(meter.step_value.clone(), meter.group, meter.reduce)

    # -- stages ----------------------------------------------------------------------------------------------------------

    def begin_run(self, owner: Any, stages: Iterable[dict[Key, Meter]]) -> None:
        """Begins with empty dictionaries, and without what the meters of any stage hold of a run before, which may have failed anywhere."""
        self.owner = owner
        self.published.clear()
        for meters in stages:
            self.meters = meters
            self.end_epoch()
            meters.clear()
        self.meters, self.training, self.at_step = {}, False, True
        self.site = self.batch = self.batch_size = self.dataloader_idx = None

    def begin_stage(self, meters: dict[Key, Meter], training: bool) -> tuple[dict[Key, Meter], bool, bool]:
        """Makes the meters of a stage the active ones; returns the state before, for `end_stage`."""
        self.publish()  # what the last step before has logged stays to be seen
        before = (self.meters, self.training, self.at_step)
        self.meters, self.training, self.at_step = meters, training, True
        self.batch = self.batch_size = None
        return before

    def end_stage(self, before: tuple[dict[Key, Meter], bool, bool]) -> None:
        """Goes back to the stage around this one."""
        self.end_epoch()
        self.meters, self.training, self.at_step = before
        self.dataloader_idx = None

    def end_epoch(self) -> None:
        """Forgets what the meters and metric objects hold. The dictionaries stay as they are."""
        for meter in self.meters.values():
            meter.reset()
            meter.step_value = meter.shown = meter.sent = None
            if meter.metric is not None:
                meter.metric.reset()

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Within it what is logged goes nowhere, as when a batch is evaluated once more."""
        meters, self.meters = self.meters, {}
        yield
        self.meters = meters

    # -- values ----------------------------------------------------------------------------------------------------------

    def settle(self) -> None:
        """Fixes the epoch values of what was logged so far and was not yet settled, and publishes them.

        A collective, if any of it is synchronised.
        """
        self.publish()  # what the last step has logged
        reduce_meters(
            [meter for meter in self.meters.values() if meter.seen and meter.on_epoch and meter.value is None],
            self._strategy.all_gather,
            self._strategy.world_size,
        )
        self.at_step = False
        self.publish()

    def publish(self) -> None:
        """Puts the values of the moment into the three dictionaries, each once, so that the newest of a name stays."""
        published = self.published
        for meter, plain, forked, value in self._current():
            if value is meter.shown:
                continue
            meter.shown = value
            if self.training or not self.at_step:
                published.callback[plain] = published.callback[forked] = value
            if meter.prog_bar:
                published.progress_bar[forked] = value
            if meter.logger:
                published.logged[forked] = value

    def collect(self) -> dict[str, Any]:
        """Publishes the values of the moment, and returns those that are for the loggers and were not collected before."""
        self.publish()
        for_loggers: dict[str, Any] = {}
        for meter, _, forked, value in self._current():
            if meter.logger and value is not meter.sent:
                for_loggers[forked] = meter.sent = value
        return for_loggers

    def unsent(self) -> dict[str, Any]:
        """The values of the moment that loggers are still to get, which stay to be collected."""
        return {forked: value for meter, _, forked, value in self._current() if meter.logger and value is not meter.sent}

    def _current(self) -> Iterator[tuple[Meter, str, str, Tensor]]:
        """The values of the moment with their plain and their forked names."""
        moment = "step" if self.at_step else "epoch"
        for meter in self.meters.values():
            value = meter.value if not self.at_step else meter.step_value if meter.on_step else None
            if value is not None:
                yield meter, *meter.names(moment), value

    def epoch_values(self) -> dict[int | None, dict[str, Any]]:
        """The epoch values by loader, under the names that evaluation returns."""
        values: dict[int | None, dict[str, Any]] = {}
        for (_, _, idx), meter in self.meters.items():
            if meter.on_epoch and meter.value is not None:
                values.setdefault(idx, {})[meter.names("epoch")[1]] = meter.value
        return values

    @property
    def callback_metrics(self) -> dict[str, Any]:
        """Everything that was logged, the newest value of each name."""
        self.publish()
        return self.published.callback

    @property
    def logged_metrics(self) -> dict[str, Any]:
        """Everything that loggers get, whether or not it has been sent yet, the newest value of each name."""
        self.publish()
        return self.published.logged

    @property
    def progress_bar_metrics(self) -> dict[str, float]:
        """What was logged with `prog_bar=True`, as numbers; synchronises with the device."""
        self.publish()
        return numbers(self.published.progress_bar)

    # -- loggers ---------------------------------------------------------------------------------------------------------

    def send(self, metrics: Mapping[str, Any], step: int | None = None, *, epoch: bool = True) -> None:
        """Sends values to every logger, on rank 0, with one synchronisation.

        The axis is `step`, else a metric named `step`, else the number of batches that stepped, and then `epoch` is added. Loggers that
        draw over another axis find the values on all of them in their `point`.
        """
        if not metrics:
            return
        self.published.logged.update(metrics)
        loggers = self._loggers()
        if not loggers or not self._strategy.is_global_zero:
            return
        values = numbers(metrics)
        log_step, current_epoch, samples = self._where()
        if step is None:
            named = values.pop("step", None)
            step = log_step if named is None else int(named)
            if epoch and named is None:
                values.setdefault("epoch", current_epoch)
        point = Point(step, current_epoch, samples, self.clock.seconds, time.time())
        for logger in loggers:
            tell(logger, point)
            logger.log_metrics(metrics=values, step=step)
            logger.save()
            tell(logger, None)


_NARROW = frozenset({torch.float16, torch.bfloat16, torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64})


def _check_name(name: Any) -> None:
    if not isinstance(name, str):
        raise MisconfigurationException(f"self.log: the name must be a string, not {name!r}.")
    if "/dataloader_idx_" in name:
        raise MisconfigurationException(f"self.log({name!r}): '/dataloader_idx_' is added by lx itself; pass the name without it.")


def _single(name: str, value: Tensor) -> Tensor:
    """A tensor of one element without its dimensions, and of float32 at least."""
    if value.numel() != 1:
        raise ValueError(f"self.log({name!r}): a tensor of {value.numel()} elements cannot be logged; reduce it to one number first.")
    return value.reshape(()).to(torch.float32 if value.dtype in _NARROW else value.dtype)


def _number(value: Any) -> float | None:
    """A number of another library as Python's; None for what is no number."""
    try:
        return float(value) if hasattr(value, "__float__") else None
    except (TypeError, ValueError):
        return None


def _owned(name: str, metric: Any, metric_attribute: str | None, module: Any) -> Any:
    """A metric object of the module, or of a part of it; raises `MisconfigurationException` for one that is made anew for each batch."""
    if metric_attribute is not None:
        return metric
    for part in module.modules():
        if part is metric or any(value is metric for value in vars(part).values()):
            return metric
    raise MisconfigurationException(
        f"self.log({name!r}): the metric {type(metric).__name__} is no attribute of the module; assign it in __init__, or pass"
        " metric_attribute=."
    )


def _is_metric(value: Any) -> bool:
    return not isinstance(value, Tensor) and all(callable(getattr(value, name, None)) for name in ("update", "compute", "reset"))
