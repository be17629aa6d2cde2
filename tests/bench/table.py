"""The table of speed: what lx, and Lightning where it is installed, cost over plain PyTorch. Ends with 1 if lx is over a limit.

    python tests/bench/table.py                 # about four minutes, nine with Lightning
    python tests/bench/table.py --only step     # some of it: step, callbacks, digits, syncs, processes

Seconds are CPU seconds, and what is compared takes turns, so that figures of a busy machine are worth something, too. Each pair of turns
is compared by itself, and the median of the pairs is what the limits are checked on.
"""

import argparse
import importlib
import importlib.util
import logging
import platform
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from operator import sub, truediv
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

import lx
from epochs import (
    MODES,
    STILL_STEPS,
    Ready,
    callbacks,
    convolutional,
    digits,
    framework_epoch,
    perceptron,
    plain_epoch,
    still_epoch,
)
from processes import BARE, NAMES, PLAIN, PLUGINS, TRAINER, costs, least_megabytes, least_seconds, over
from rounds import paired

PEER = "lightning.pytorch"
STEP_LIMITS = {
    ("barebones", "none"): 1.06,
    ("plain", "none"): 1.08,
    ("plain", "step"): 1.12,
    ("plain", "epoch"): 1.18,
    ("default", "epoch"): 1.20,
}


@dataclass(slots=True)
class Row:
    """One figure: of lx, of Lightning (None: not measured), and the most that it may be for lx."""

    what: str
    unit: str
    lx: float
    peer: float | None
    limit: float

    @property
    def over(self) -> bool:
        """Whether lx is over the limit."""
        return self.lx > self.limit

    def cells(self) -> list[str]:
        """The row of a table."""
        digits = {"ratio": 3, "us": 2, "per step": 2}.get(self.unit, 0)
        peer = "" if self.peer is None else f"{self.peer:.{digits}f}"
        return [self.what, self.unit, f"{self.lx:.{digits}f}" + (" (over)" if self.over else ""), peer, f"{self.limit:g}"]


@dataclass(slots=True)
class Bench:
    """What is measured, and how often; the peer's turns are dear, so it gets fewer."""

    rounds: int
    peer_rounds: int
    peer: Any

    def ratio(self, epoch: Callable[[Any], float], plain: Callable[[], float], times: int = 1) -> tuple[float, float | None]:
        """Of an epoch to the plain one, of lx and of the peer, with so many times the rounds."""
        return self._of_both(lambda api, rounds: paired(partial(epoch, api), plain, times * rounds, truediv))

    def added(self, epoch: Callable[[Any], float], base: Callable[[Any], float]) -> tuple[float, float | None]:
        """Microseconds a step that an epoch takes beyond another of the same library; these are few, so there are more rounds."""

        def measure(api: Any, rounds: int) -> float:
            return max(paired(partial(epoch, api), partial(base, api), 2 * rounds, sub), 0.0) / STILL_STEPS * 1e6

        return self._of_both(measure)

    def _of_both(self, measure: Callable[[Any, int], float]) -> tuple[float, float | None]:
        return measure(lx, self.rounds), measure(self.peer, self.peer_rounds) if self.peer is not None else None

    def step(self) -> Iterator[Row]:
        """A step, in five ways to log and to save."""
        loader, loss = Ready(), nn.functional.mse_loss
        for (mode, log), limit in STEP_LIMITS.items():
            with tempfile.TemporaryDirectory() as root:
                epoch = partial(_epoch, loader, perceptron, loss, log, {**MODES[mode], **_in(mode, root)})
                yield Row(f"step: {mode}, log {log}", "ratio", *self.ratio(epoch, lambda: plain_epoch(loader, perceptron, loss)), limit)

    def callbacks(self) -> Iterator[Row]:
        """What callbacks add to a step, in microseconds, where the step itself computes nothing."""
        kinds = {
            "ten that override no event of a batch": (10, "on_train_start", 0.3),
            "one that overrides on_train_batch_start": (1, "on_train_batch_start", 1.0),
            "one that overrides on_train_batch_end": (1, "on_train_batch_end", 1.0),
        }
        base = partial(_with_callbacks, 0, "on_train_start")
        for name, (count, event, limit) in kinds.items():
            yield Row(f"callbacks: {name}", "us", *self.added(partial(_with_callbacks, count, event), base), limit)

    def digits(self) -> Iterator[Row]:
        """An epoch over real data through an ordinary loader."""
        loader, loss = digits(), nn.functional.cross_entropy
        with tempfile.TemporaryDirectory() as root:
            epoch = partial(_epoch, loader, convolutional, loss, "step", {**MODES["default"], **_in("default", root)})
            ours, theirs = self.ratio(epoch, lambda: plain_epoch(loader, convolutional, loss), times=2)
        yield Row("epoch over the digits, one metric, logger and checkpoint", "ratio", ours, theirs, 1.05)

    def syncs(self) -> Iterator[Row]:
        """How often a step waits for the device, between two flushes of the log."""
        ours, theirs = syncs_per_step(lx), syncs_per_step(self.peer) if self.peer is not None else None
        yield Row("reads of a tensor's value between flushes", "per step", ours, theirs, 0)

    def processes(self) -> Iterator[Row]:
        """Import, first step and memory of whole processes."""
        names = ["lx", *([PEER] if self.peer is not None else [])]
        programs = {"bare": BARE.format(framework="lx"), "plugins": PLUGINS, "torch": "import torch"}
        programs |= {f"{name} names": NAMES.format(framework=name) for name in names} | {"plain": PLAIN}
        programs |= {f"{name} trainer": TRAINER.format(framework=name) for name in names}
        found = costs(programs, 9)
        peer = self.peer is not None

        def ratio(one: str, other: str) -> tuple[float, float | None]:
            base = found[other]
            return over(found[f"lx {one}"], base), over(found[f"{PEER} {one}"], base) if peer else None

        yield Row("`import lx`, which brings no torch", "ms", least_seconds(found["bare"]) * 1e3, None, 60)
        yield Row("`from lx import Trainer`, over `import torch`", "ratio", *ratio("names", "torch"), 1.10)
        yield Row("a process that trains one step, over one with a plain loop", "ratio", *ratio("trainer", "plain"), 1.06)
        base = least_megabytes(found["plain"])
        theirs = least_megabytes(found[f"{PEER} trainer"]) - base if peer else None
        yield Row("its peak memory, above that one's", "MB", least_megabytes(found["lx trainer"]) - base, theirs, 12)
        yield Row("`lx plugins`, which brings no torch", "ms", least_seconds(found["plugins"]) * 1e3, None, 400)


def _epoch(loader: Any, network: Any, loss: Any, log: str, options: dict[str, Any], api: Any) -> float:
    return framework_epoch(api, loader, network, loss, log, **options)


def _with_callbacks(count: int, event: str, api: Any) -> float:
    return still_epoch(api, callbacks(api, count, event))


def _in(mode: str, root: str) -> dict[str, str]:
    return {"default_root_dir": root} if mode == "default" else {}


class CountReads(TorchDispatchMode):
    """Counts how often the value of a tensor is read, for which a program waits until the device is done."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0
        self.entered = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


def syncs_per_step(api: Any, steps: int = 20) -> float:
    """Reads per step of a training that logs a value by step and by epoch, without a flush in between."""
    reads = CountReads()

    class Watched(api.Callback):  # type: ignore[misc, name-defined]
        def on_train_batch_start(self, *event: Any) -> None:
            if not reads.entered:
                reads.entered = True
                reads.__enter__()

        def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
            if batch_idx == steps - 1:
                reads.__exit__(None, None, None)

    options = {**MODES["default"], "log_every_n_steps": 10 * steps, "callbacks": [Watched()]}
    with tempfile.TemporaryDirectory() as root:
        framework_epoch(api, Ready(steps), perceptron, nn.functional.mse_loss, "epoch", default_root_dir=root, **options)
    return reads.count / steps


PARTS: dict[str, Callable[[Bench], Iterator[Row]]] = {
    "step": Bench.step,
    "callbacks": Bench.callbacks,
    "digits": Bench.digits,
    "syncs": Bench.syncs,
    "processes": Bench.processes,
}


@contextmanager
def alone() -> Iterator[None]:
    """One thread, and nothing said: frameworks warn, and say on which device they run, for every Trainer."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
    logging.disable(logging.NOTSET)
    torch.set_num_threads(threads)


def measure(parts: list[str], rounds: int, peer_rounds: int, peer: Any) -> list[Row]:
    """The rows of some parts."""
    with alone():
        return [row for part in parts for row in PARTS[part](Bench(rounds, peer_rounds, peer))]


def written(rows: list[Row], peer_version: str | None) -> str:
    """The rows as a table in Markdown."""
    header = ["what", "unit", f"lx {lx.__version__}", f"Lightning {peer_version}" if peer_version else "Lightning", "lx: at most"]
    lines = [header, ["---", "---", "---:", "---:", "---:"], *(row.cells() for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main() -> int:
    """Measures, prints, and says by the exit code whether all limits are kept."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", choices=PARTS, action="append", help="measure this part alone (may be given again)")
    parser.add_argument("--rounds", type=int, default=60, help="pairs of turns (default: %(default)s)")
    parser.add_argument("--peer-rounds", type=int, default=16, help="pairs of turns with Lightning (default: %(default)s)")
    parser.add_argument("--no-peer", action="store_true", help="measure lx alone")
    options = parser.parse_args()
    peer = version = None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if not options.no_peer and importlib.util.find_spec("lightning") is not None:
            peer, version = importlib.import_module(PEER), importlib.import_module("lightning").__version__
    rows = measure(options.only or list(PARTS), options.rounds, options.peer_rounds, peer)
    print(written(rows, version))
    print(f"\nPython {platform.python_version()}, torch {torch.__version__}, one thread.")
    return int(any(row.over for row in rows))


if __name__ == "__main__":
    sys.exit(main())
