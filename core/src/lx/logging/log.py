"""`self.log`: where values go, and the three dictionaries that a trainer shows of them."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from lx.interfaces.logger import Logger
from lx.interfaces.strategy import Strategy
from lx.kernel.errors import MisconfigurationException
from lx.logging.batch_size import batch_size_of
from lx.logging.meters import Meter, reduce_meters, reduction
from lx.logging.sites import placement
from lx.rank_zero import PossibleUserWarning, rank_zero_warn

Key = tuple[str | None, str, int | None]


class RunLog:
    """What one run logs. The loops say where they are (`site`, `batch`, `dataloader_idx`); hooks call `log`.

    `meters` are those of the stage that runs: training has its own, which a validation in between leaves alone.
    """

    def __init__(self, strategy: Strategy, loggers: Sequence[Logger], exact: torch.dtype, where: Callable[[], tuple[int, int]]) -> None:
        self.site: str | None = None
        self.batch: Any = None
        self.batch_size: int | None = None
        self.dataloader_idx: int | None = None
        self.training = False
        self.meters: dict[Key, Meter] = {}
        self.owner: Any = None
        self.muted: str | None = None
        self.loggers = list(loggers)
        self._strategy = strategy
        self._exact = exact
        self._where = where
        self._callback: dict[str, Any] = {}
        self._logged: dict[str, Any] = {}
        self._progress_bar: dict[str, Any] = {}

    # -- recording -------------------------------------------------------------------------------------------------------

    def log(
        self, name: str, value: Any, prog_bar: bool = False, logger: bool | None = None, on_step: bool | None = None, on_epoch: bool | None = None,
        reduce_fx: Any = "mean", enable_graph: bool = False, sync_dist: bool = False, sync_dist_group: Any = None, add_dataloader_idx: bool = True,
        batch_size: int | None = None, metric_attribute: str | None = None, rank_zero_only: bool = False,
    ) -> None:
        """Records one value; `LightningModule.log` documents the arguments."""
        options = (prog_bar, logger, on_step, on_epoch, reduce_fx, enable_graph, sync_dist, sync_dist_group, add_dataloader_idx, metric_attribute, rank_zero_only)
        meter = self.meters.get((self.site, name, self.dataloader_idx))
        if meter is None or meter.options != options:
            if self.muted is not None:
                rank_zero_warn(self.muted)
                return
            if rank_zero_only and not self._strategy.is_global_zero:
                return
            meter = self._admit(name, value, options, meter)
        if type(value) is not Tensor:
            value = self._tensor(name, value, meter)
            if value is None:
                return
        if value.requires_grad and not meter.keep_graph:
            value = value.detach()
        if value.numel() != 1:
            raise ValueError(f"self.log({name!r}): a tensor of {value.numel()} elements cannot be logged; reduce it to one number first.")
        if value.dtype in _NARROW:
            value = value.to(torch.float32)
        meter.record(value, (batch_size or self.batch_size or self._find_batch_size()) if meter.weighted else 1.0)
        if meter.sync and meter.on_step and self._strategy.world_size > 1:
            self._sync_step(meter)

    def _admit(self, name: str, value: Any, options: tuple[Any, ...], known: Meter | None) -> Meter:
        """Checks a name that this hook logs for the first time, and makes its meter."""
        prog_bar, logger, on_step, on_epoch, reduce_fx, keep_graph, sync, group, add_idx, metric_attribute, rank_zero_only = options
        if known is not None:
            raise MisconfigurationException(f"self.log({name!r}) is called twice in {self.site} with different arguments; use one name for each, or the same arguments.")
        if not isinstance(name, str):
            raise MisconfigurationException(f"self.log: the name must be a string, not {name!r}.")
        if "/dataloader_idx_" in name:
            raise MisconfigurationException(f"self.log({name!r}): '/dataloader_idx_' is added by lx itself; pass the name without it.")
        step, epoch = placement(self.site, name, on_step, on_epoch)
        if logger and not self.loggers:
            rank_zero_warn(f"self.log({name!r}, logger=True): this trainer has no logger.")
        if epoch and not sync and not rank_zero_only and self._strategy.world_size > 1 and not _is_metric(value):
            rank_zero_warn(f"self.log({name!r}): the epoch's value is of rank 0 alone; pass sync_dist=True to reduce over all processes.", PossibleUserWarning)
        meter = Meter(
            name, options, on_step=step, on_epoch=epoch, prog_bar=prog_bar, logger=logger is not False, reduce=reduction(name, reduce_fx),
            sync=sync and not rank_zero_only, group=group, dataloader_idx=self.dataloader_idx if add_idx else None, exact=self._exact,
            keep_graph=keep_graph,
        )
        if _is_metric(value):
            meter.metric = self._owned(name, value, metric_attribute)
        if not add_idx and self.dataloader_idx is not None:
            self._refuse_same_name(name)
        self.meters[self.site, name, self.dataloader_idx] = meter
        return meter

    def _refuse_same_name(self, name: str) -> None:
        if any(other == name and idx != self.dataloader_idx for _, other, idx in self.meters):
            raise MisconfigurationException(f"self.log({name!r}, add_dataloader_idx=False): two loaders log this name; name each differently.")

    def _owned(self, name: str, metric: Any, metric_attribute: str | None) -> Any:
        if metric_attribute is None and not any(part is metric for part in self.owner.modules()):
            raise MisconfigurationException(
                f"self.log({name!r}): the metric {type(metric).__name__} is no attribute of the module; assign it in __init__, or pass metric_attribute=."
            )
        return metric

    def _tensor(self, name: str, value: Any, meter: Meter) -> Tensor | None:
        """A value that is no plain tensor as one; a metric object has done its own recording, and gives the step's value at most."""
        if isinstance(value, Tensor):
            return value.as_subclass(Tensor)
        if isinstance(value, bool | int | float):
            return torch.tensor(float(value), dtype=torch.float32, device=self._strategy.root_device)
        if meter.metric is not None:
            meter.seen, meter.value = True, None
            if meter.on_step:
                # What forward returned for this batch; torchmetrics keeps it under this name only.
                cached = getattr(value, "_forward_cache", None)
                meter.step_value = (value.compute() if cached is None else cached).detach().clone()
            return None
        try:
            return torch.tensor(float(value), dtype=torch.float32, device=self._strategy.root_device) if hasattr(value, "__float__") else self._refuse(name, value)
        except (TypeError, ValueError):
            return self._refuse(name, value)

    def _refuse(self, name: str, value: Any) -> Any:
        self.meters.pop((self.site, name, self.dataloader_idx), None)
        raise ValueError(f"self.log({name!r}, {value!r}): a {type(value).__name__} cannot be logged; pass a number, a tensor of one element or a metric.")

    def _find_batch_size(self) -> int:
        self.batch_size = batch_size_of(self.batch)
        return self.batch_size

    def _sync_step(self, meter: Meter) -> None:
        assert meter.step_value is not None
        meter.step_value = self._strategy.all_reduce(meter.step_value, meter.group, meter.reduce)

    # -- stages ----------------------------------------------------------------------------------------------------------

    def begin_stage(self, meters: dict[Key, Meter], training: bool) -> tuple[dict[Key, Meter], bool]:
        """Makes the meters of a stage the active ones, from a clean state; returns the ones before, for `end_stage`."""
        before = (self.meters, self.training)
        self.meters, self.training = meters, training
        self.begin_epoch()
        return before

    def end_stage(self, before: tuple[dict[Key, Meter], bool]) -> None:
        """Goes back to the stage around this one."""
        self.meters, self.training = before
        self.dataloader_idx = None

    def begin_epoch(self) -> None:
        """Forgets what the meters hold; step values of the last epoch are not sent again."""
        for meter in self.meters.values():
            meter.reset()
            meter.step_value = None
            if meter.metric is not None:
                meter.metric.reset()

    def begin_batch(self, batch: Any) -> None:
        """Tells from which batch the batch size is to be read."""
        self.batch = batch
        self.batch_size = None

    # -- values ----------------------------------------------------------------------------------------------------------

    def reduce(self) -> None:
        """Fixes the epoch values of what was logged so far and was not reduced yet; a collective, if any of it is synchronised."""
        reduce_meters(
            [meter for meter in self.meters.values() if meter.seen and meter.on_epoch and meter.value is None],
            self._strategy.all_gather, self._strategy.world_size,
        )

    def collect(self, moment: str) -> dict[str, Any]:
        """Publishes the values of `moment` ("step" or "epoch") in the three dictionaries, and returns what is for the loggers."""
        for_loggers: dict[str, Any] = {}
        for meter in self.meters.values():
            value = meter.step_value if moment == "step" else meter.value
            if value is None or not (meter.on_step if moment == "step" else meter.on_epoch):
                continue
            plain, forked = meter.names(moment)
            if self.training or moment == "epoch":
                self._callback[plain] = self._callback[forked] = value
            if meter.prog_bar:
                self._progress_bar[forked] = value
            if meter.logger:
                for_loggers[forked] = value
        return for_loggers

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
        if self.training:
            self.collect("step")
        return self._callback

    @property
    def logged_metrics(self) -> dict[str, Any]:
        """What was sent to the loggers."""
        return self._logged

    @property
    def progress_bar_metrics(self) -> dict[str, float]:
        """What was logged with `prog_bar=True`, as numbers; synchronises with the device."""
        self.collect("step")
        return numbers(self._progress_bar)

    def clear(self) -> None:
        """Empties the dictionaries, at the start of an entry point."""
        for values in (self._callback, self._logged, self._progress_bar):
            values.clear()

    def snapshot(self) -> tuple[dict[str, Any], ...]:
        """The dictionaries as they are, for `restore`: the sanity check leaves no trace."""
        return dict(self._callback), dict(self._logged), dict(self._progress_bar)

    def restore(self, before: tuple[dict[str, Any], ...]) -> None:
        """Puts the dictionaries back."""
        for values, old in zip((self._callback, self._logged, self._progress_bar), before, strict=True):
            values.clear()
            values.update(old)

    # -- loggers ---------------------------------------------------------------------------------------------------------

    def send(self, metrics: Mapping[str, Any], step: int | None = None, *, epoch: bool = True) -> None:
        """Sends values to every logger, on rank 0, with one synchronisation.

        The axis is `step`, else a metric named `step`, else the number of batches that stepped, and then `epoch` is added.
        """
        if not metrics:
            return
        self._logged.update(metrics)
        if not self.loggers or not self._strategy.is_global_zero:
            return
        values = numbers(metrics)
        if step is None:
            log_step, current_epoch = self._where()
            named = values.pop("step", None)
            step = log_step if named is None else int(named)
            if epoch and named is None:
                values.setdefault("epoch", current_epoch)
        for logger in self.loggers:
            logger.log_metrics(metrics=values, step=step)
            logger.save()


_NARROW = frozenset({torch.float16, torch.bfloat16, torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64})


def _is_metric(value: Any) -> bool:
    return not isinstance(value, Tensor) and all(callable(getattr(value, name, None)) for name in ("update", "compute", "reset"))


def numbers(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """The metrics with tensors as python numbers, by one transfer from the device for all of them.

    >>> numbers({"a": torch.tensor(1.5), "b": 2})
    {'a': 1.5, 'b': 2}
    """
    tensors = {name: value for name, value in metrics.items() if isinstance(value, Tensor)}
    if not tensors:
        return dict(metrics)
    flat = torch.stack([value.detach().reshape(()).to(device=next(iter(tensors.values())).device, dtype=torch.float32) for value in tensors.values()])
    found = dict(zip(tensors, flat.tolist(), strict=True))
    return {name: found.get(name, value) for name, value in metrics.items()}
