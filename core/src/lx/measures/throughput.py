"""How much is processed per second, over a window of the last batches."""

from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

from lx.kernel.errors import ArgumentValueError
from lx.measures.peak_flops import compute_dtype, get_available_flops

if TYPE_CHECKING:
    from lx.fabric import Fabric


class Totals(NamedTuple):
    """What one update says: everything since the beginning, but `flops`, which are those since the update before."""

    time: float
    batches: int
    samples: int
    lengths: int | None
    flops: int | None


class Throughput:
    """Batches, samples, items and floating point operations per second, from totals that are told now and then.

    Call `update` with what there is since the beginning, then `compute`. Once the window is full there are rates, of everything between its
    oldest update and its newest: `device/batches_per_sec`, `device/samples_per_sec`, with lengths `device/items_per_sec`, with flops
    `device/flops_per_sec` and, if `available_flops` are known, `device/mfu`, the share of them that is used (model FLOPs utilization). With
    several processes the same without `device/` are of all of them, taking each to be as fast as this one.

    Args:
        available_flops: The floating point operations per second that the device can reach; see `lx.utilities.get_available_flops`.
        world_size: The number of processes.
        window_size: The number of updates that the window holds, 2 or more.
        separator: What stands between the parts of a name.

    Raises:
        ValueError: for a window of fewer than two updates, and for less than one process.

    >>> throughput = Throughput(window_size=2)
    >>> throughput.update(time=1.0, batches=1, samples=8)
    >>> throughput.update(time=1.5, batches=2, samples=16)
    >>> throughput.compute()["device/samples_per_sec"]
    16.0
    """

    def __init__(self, available_flops: float | None = None, world_size: int = 1, window_size: int = 100, separator: str = "/") -> None:
        if not window_size > 1:
            raise ArgumentValueError(f"window_size={window_size!r}: a rate is that between two updates, so the window must hold 2 or more.")
        if not world_size > 0:
            raise ArgumentValueError(f"world_size={world_size!r}: it is the number of processes, 1 or more.")
        self.available_flops = available_flops
        self.world_size = world_size
        self.window_size = window_size
        self.separator = separator
        self._window: deque[Totals] = deque(maxlen=window_size)

    def update(self, *, time: float, batches: int, samples: int, lengths: int | None = None, flops: int | None = None) -> None:
        """Tells the totals of this process up to now: seconds, batches, samples, and the items (tokens, say) in those samples.

        `flops` are the floating point operations of this process since the update before; see `lx.utilities.measure_flops`. Raises
        `ValueError`, and takes nothing of the update, where a total does not exceed the one before, where there are fewer samples than
        batches or fewer items than samples, and where lengths are told at times only.
        """
        new = Totals(time, batches, samples, lengths, flops)
        self._check(new, self._window[-1] if self._window else None)
        self._window.append(new)

    def _check(self, new: Totals, last: Totals | None) -> None:
        if last is not None and (last.lengths is None) != (new.lengths is None):
            raise ValueError(f"lengths={new.lengths!r} after lengths={last.lengths!r}: tell them at every update, or at none.")
        for name in ("time", "batches", "samples", "lengths"):
            before, value = 0 if last is None else getattr(last, name), getattr(new, name)
            if value is not None and (value < 0 if last is None else value <= before):
                raise ValueError(f"{name}={value!r} does not exceed the {before!r} of the update before; totals since the beginning grow.")
        if new.samples < new.batches:
            raise ValueError(f"samples={new.samples!r} are fewer than the batches={new.batches!r} that hold them.")
        if new.lengths is not None and new.lengths < new.samples:
            raise ValueError(f"lengths={new.lengths!r} is less than one for each of the samples={new.samples!r}.")

    def compute(self) -> dict[str, float]:
        """The newest totals, and the rates once the window is full; nothing before the first update."""
        if not self._window:
            return {}
        first, last = self._window[0], self._window[-1]
        metrics: dict[str, float] = {"time": last.time, "batches": last.batches, "samples": last.samples}
        if last.lengths is not None:
            metrics["lengths"] = last.lengths
        if len(self._window) == self.window_size:
            self._add_rates(metrics, first, last)
        return metrics

    def _add_rates(self, metrics: dict[str, float], first: Totals, last: Totals) -> None:
        elapsed = last.time - first.time
        rates = {
            "batches_per_sec": (last.batches - first.batches) / elapsed,
            "samples_per_sec": (last.samples - first.samples) / elapsed,
        }
        if last.lengths is not None and first.lengths is not None:
            rates["items_per_sec"] = (last.lengths - first.lengths) / elapsed
        told = [totals.flops for totals in list(self._window)[1:]]  # those of the first were done before the window began
        if all(flops is not None for flops in told):
            rates["flops_per_sec"] = sum(flops or 0 for flops in told) / elapsed
            if self.available_flops:
                metrics[f"device{self.separator}mfu"] = rates["flops_per_sec"] / self.available_flops
        for name, rate in rates.items():
            metrics[f"device{self.separator}{name}"] = rate
            if self.world_size > 1:
                metrics[name] = rate * self.world_size

    def reset(self) -> None:
        """Forgets all updates."""
        self._window.clear()


class ThroughputMonitor(Throughput):
    """A `Throughput` for a loop of one's own, which knows a Fabric's processes, device and precision, and logs to its loggers.

    The other arguments are those of `Throughput`; what of them is not given is found out from the Fabric, which must be launched.

    >>> from lx import Fabric
    >>> monitor = ThroughputMonitor(Fabric(accelerator="cpu"), window_size=10)
    >>> monitor.update(time=0.5, batches=1, samples=4)
    >>> monitor.compute_and_log()
    {'time': 0.5, 'batches': 1, 'samples': 4}
    """

    def __init__(self, fabric: "Fabric", **kwargs: Any) -> None:
        fabric.setup_environment()
        if "available_flops" not in kwargs:
            kwargs["available_flops"] = get_available_flops(fabric.device, compute_dtype(fabric.precision, fabric.device))
        super().__init__(**{"world_size": fabric.world_size, **kwargs})
        self.step = -1
        self._log_dict = fabric.log_dict

    def compute_and_log(self, step: int | None = None) -> dict[str, float]:
        """As `compute`; also sends it to the Fabric's loggers, on rank 0, at `step`; by default calls are counted, from 0."""
        self.step = self.step + 1 if step is None else step
        metrics = self.compute()
        self._log_dict(metrics, step=self.step)
        return metrics
