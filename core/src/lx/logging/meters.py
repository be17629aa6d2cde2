"""One logged value over an epoch: the last step's value and a running reduction, both kept on the device."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any
from zlib import crc32

import torch
from torch import Tensor

from lx.kernel.errors import MisconfigurationException

_REDUCTIONS: dict[Any, str] = {
    "mean": "mean",
    "avg": "mean",
    "sum": "sum",
    "min": "min",
    "max": "max",
    torch.mean: "mean",
    torch.sum: "sum",
    torch.min: "min",
    torch.max: "max",
    sum: "sum",
    min: "min",
    max: "max",
}


def reduction(name: str, reduce_fx: Any) -> str:
    """The name of a reduction, given by name or as torch's or python's function.

    >>> reduction("loss", "avg"), reduction("loss", max)
    ('mean', 'max')
    """
    try:
        return _REDUCTIONS[reduce_fx]
    except (KeyError, TypeError):
        raise MisconfigurationException(
            f"self.log({name!r}, reduce_fx={reduce_fx!r}): it must be 'mean', 'sum', 'min' or 'max'; for anything else log a metric object."
        ) from None


CHUNK = 256
"""So many values are kept side by side before they are folded into the total: folding them together costs a hundredth of adding each."""

_FOLD: dict[str, Callable[[Tensor], Tensor]] = {"mean": torch.sum, "sum": torch.sum, "min": torch.amin, "max": torch.amax}


@dataclass(frozen=True, slots=True)
class Settings:
    """How one name is logged, after defaults were filled in. `exact` is the dtype in which sums are kept."""

    on_step: bool
    on_epoch: bool
    prog_bar: bool
    logger: bool
    reduce: str
    sync: bool
    group: Any
    dataloader_idx: int | None
    keep_graph: bool
    exact: torch.dtype


class Meter:
    """What is logged under one name in one hook (and for one loader).

    A step costs one copy and no synchronisation. Sums are kept in float64, so that a million steps lose nothing; where the device has
    none, `total` is a pair, of the sum and of what its additions lost.
    """

    __slots__ = (
        "_chunk",
        "_dtype",
        "_places",
        "_weights",
        "exact",
        "forked",
        "group",
        "keep_graph",
        "logger",
        "metric",
        "name",
        "on_epoch",
        "on_step",
        "options",
        "prog_bar",
        "reduce",
        "seen",
        "sent",
        "shown",
        "step_value",
        "suffix",
        "sync",
        "total",
        "value",
        "weight",
        "weighted",
    )

    def __init__(self, name: str, options: tuple[Any, ...], settings: Settings) -> None:
        self.name = name
        self.options = options
        # Plain attributes, since a step looks at most of them.
        self.on_step, self.on_epoch, self.prog_bar, self.logger = settings.on_step, settings.on_epoch, settings.prog_bar, settings.logger
        self.reduce, self.sync, self.group = settings.reduce, settings.sync, settings.group
        self.suffix = "" if settings.dataloader_idx is None else f"/dataloader_idx_{settings.dataloader_idx}"
        self.forked = settings.on_step and settings.on_epoch
        self.weighted = settings.on_epoch and settings.reduce == "mean"
        self.metric: Any = None
        self.exact = settings.exact
        self.keep_graph = settings.keep_graph
        self.step_value: Tensor | None = None
        # What loggers and dictionaries last got, since they get a value once.
        self.sent: Tensor | None = None
        self.shown: Tensor | None = None
        self.reset()

    def reset(self) -> None:
        """Begins a new epoch."""
        self.seen = False
        self.total: Tensor | None = None
        self.weight: float | Tensor = 0.0
        self.value: Tensor | None = None
        self._chunk: Tensor | None = None
        self._places: tuple[Tensor, ...] = ()
        self._dtype: torch.dtype | None = None
        self._weights: list[Any] = []

    def take_over(self, earlier: "Meter") -> None:
        """Goes on from what another meter of the same name had gathered."""
        self.seen, self.total, self.weight = earlier.seen, earlier.total, earlier.weight
        self.step_value, self.sent = earlier.step_value, earlier.sent

    def names(self, moment: str) -> tuple[str, str]:
        """The plain name and the one for `moment` ("step" or "epoch"), which differ where both are logged."""
        return self.name + self.suffix, (f"{self.name}_{moment}" if self.forked else self.name) + self.suffix

    def record(self, value: Tensor, weight: float | Tensor) -> None:
        """Takes up a tensor without dimensions, detached unless `keep_graph`; a weight that is a tensor is not read.

        It is copied: what was logged must not change when the model later changes that tensor in place.
        """
        self.seen = True
        self.value = None
        if not self.on_epoch or self.keep_graph:
            self.step_value = value.clone()
            if self.on_epoch:
                self._chunk, self._weights = self.step_value.reshape(1), [weight]
                self.fold()
            return
        weights = self._weights
        if value.dtype is not self._dtype or len(weights) == CHUNK:
            weights = self._begin_chunk(value)
        # Into its place beside the others: cheaper than a tensor of its own, and the fold need not gather them.
        self.step_value = place = self._places[len(weights)]
        place.copy_(value)
        weights.append(weight)

    def take(self, metric: Any) -> None:
        """Takes up a metric object, which has done its own recording, and, if its `forward` was called, its value for this step."""
        if self.metric is None:
            raise MisconfigurationException(
                f"self.log({self.name!r}): this was a number before, and is a metric object now; name it apart."
            )
        self.seen, self.value, self.metric = True, None, metric
        if self.on_step:
            # What forward returned for this batch; torchmetrics keeps it under this name only, None if there was no forward.
            latest = getattr(metric, "_forward_cache", metric)
            if latest is not None:
                self.step_value = self.single(metric.compute() if latest is metric else latest)

    def single(self, computed: Any) -> Tensor:
        """What a metric object has computed, as a tensor without dimensions that nothing else changes."""
        if not isinstance(computed, Tensor) or computed.numel() != 1:
            what = f"a tensor of {computed.numel()} elements" if isinstance(computed, Tensor) else f"a {type(computed).__name__}"
            raise ValueError(
                f"self.log({self.name!r}): the metric's compute() returned {what}, and a tensor of one element is needed; log each number"
                " of it by itself, and a collection of metrics with self.log_dict."
            )
        return computed.detach().reshape(()).clone()

    def _begin_chunk(self, value: Tensor) -> list[Any]:
        """Makes room for more values like this one. Never the room of earlier ones, which somebody may still hold as a step's value."""
        self.fold()
        self._dtype = value.dtype
        self._chunk = torch.empty(CHUNK, dtype=value.dtype, device=value.device)
        self._places = self._chunk.unbind()
        return self._weights

    def fold(self) -> None:
        """Brings the chunk into the total."""
        weights, chunk = self._weights, self._chunk
        if not weights or chunk is None:
            return
        values = chunk[: len(weights)].to(self.exact)
        if self.weighted:
            values = self._weigh(values, weights)
        folded = _FOLD[self.reduce](values)
        if self.exact is not torch.float64 and self.reduce in ("mean", "sum"):
            self.total = add_without_loss(self.total, folded)
        else:
            self.total = folded if self.total is None else _FOLD[self.reduce](torch.stack([self.total, folded]))
        self._chunk, self._places, self._dtype, self._weights = None, (), None, []

    def _weigh(self, values: Tensor, weights: list[Any]) -> Tensor:
        """The values, each times its weight, of which the sum is noted."""
        if isinstance(weights[0], Tensor):
            shares = torch.stack([torch.as_tensor(weight, dtype=self.exact, device=values.device) for weight in weights])
            self.weight = self.weight + shares.sum()
        else:
            self.weight = self.weight + sum(weights)
            if weights[0] and weights.count(weights[0]) == len(weights):
                return values * float(weights[0])  # the common case needs no transfer to the device
            shares = torch.tensor(weights, dtype=self.exact, device=values.device)
        # A mean over nothing is no number, and nothing times that would not be nothing.
        return torch.where(shares > 0, values, 0.0) * shares

    def sum(self) -> Tensor:
        """The total as one number."""
        total: Tensor | None = self.total
        assert total is not None
        return total.sum() if total.ndim else total

    def finish(self, total: Tensor, weight: float | Tensor) -> None:
        """Fixes the epoch's value from the total and the weight over all processes."""
        self.value = (total / weight if self.reduce == "mean" else total).to(torch.float32)


def add_without_loss(total: Tensor | None, value: Tensor) -> Tensor:
    """Adds to a pair of a sum and what rounding has lost of it so far; None is the empty sum.

    >>> pair = None
    >>> for value in (2.0**24, 1.0, 1.0):
    ...     pair = add_without_loss(pair, torch.tensor(value))
    >>> pair.tolist()
    [16777216.0, 2.0]
    """
    if total is None:
        return torch.stack([value, torch.zeros_like(value)])
    before, lost = total
    after = before + value
    added = after - before
    return torch.stack([after, lost + ((before - (after - added)) + (value - added))])


def reduce_meters(meters: Iterable[Meter], gather: Callable[[Tensor, Any], Tensor], world_size: int) -> None:
    """Fixes the epoch values of meters, all those that are synchronised (over one group) in one collective.

    `gather` stacks a vector of all processes of a group along a new first dimension. Every process must have logged the same names; if not,
    `RuntimeError` is raised, on all of them, instead of values that mix names up.
    """
    synced: dict[int, list[Meter]] = {}
    # Sorted, since processes may come to their names in different orders, and metric objects meet in compute().
    for meter in sorted(meters, key=lambda meter: (meter.name, meter.suffix, meter.reduce)):
        meter.fold()
        if meter.metric is not None:
            if meter.total is not None:
                raise MisconfigurationException(
                    f"self.log({meter.name!r}): this was a metric object before, and a number later; name it apart."
                )
            meter.value = meter.single(meter.metric.compute())
        elif meter.total is not None and meter.sync and world_size > 1:
            synced.setdefault(id(meter.group), []).append(meter)
        elif meter.total is not None:
            meter.finish(meter.sum(), meter.weight)
    for chosen in synced.values():
        _reduce_together(chosen, gather)


def _reduce_together(meters: list[Meter], gather: Callable[[Tensor, Any], Tensor]) -> None:
    first = meters[0].total
    assert first is not None
    layout = float(crc32(repr([(meter.name, meter.suffix, meter.reduce) for meter in meters]).encode()))
    totals = [layout, *(float(meter.weight) for meter in meters)]
    head = torch.tensor(totals, dtype=first.dtype, device=first.device)
    mine = torch.cat([head, torch.stack([meter.sum().to(first.device) for meter in meters])])
    # Padded to a multiple of 512, so that processes which logged different names meet in the collective and can say so.
    padded = torch.nn.functional.pad(mine, (0, -len(mine) % 512))
    rows = gather(padded, meters[0].group)
    if bool((rows[:, 0] != layout).any()):
        raise RuntimeError(
            f"the processes logged different names with sync_dist=True; this one logged {', '.join(meter.name for meter in meters)}. Log"
            " the same names on every process."
        )
    count = len(meters)
    for place, meter in enumerate(meters):
        weights, values = rows[:, 1 + place], rows[:, 1 + count + place]
        meter.finish(_FOLD[meter.reduce](values), weights.sum())
