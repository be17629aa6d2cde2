"""The result of a sweep over learning rates: a curve, what it suggests, and how it is drawn."""

import math
from typing import Any

import torch

from lx.kernel.errors import MisconfigurationException
from lx.rank_zero import rank_zero_warn

MODES = ("linear", "exponential")


class LRFinder:
    """The losses that were met while the learning rate was raised from `lr_min` to `lr_max` in `num_training` steps.

    `results` holds them as two lists, `"lr"` and `"loss"`, the latter smoothed; `mode` is how the rate was raised.

    >>> finder = LRFinder("exponential", 1e-4, 1.0, 4)
    >>> [finder.rate(step) for step in range(4)]
    [0.0001, 0.01, 0.1, 1.0]
    >>> finder.results = {"lr": [0.001, 0.01, 0.1, 1.0, 10.0], "loss": [2.0, 1.9, 0.9, 0.8, 3.0]}
    >>> finder.suggestion(skip_begin=0)
    0.01
    """

    def __init__(self, mode: str, lr_min: float, lr_max: float, num_training: int) -> None:
        self.mode = mode
        self.lr_min = lr_min
        self.lr_max = lr_max
        self.num_training = num_training
        self.results: dict[str, list[float]] = {"lr": [], "loss": []}

    def rate(self, step: int) -> float:
        """The learning rate of a step, from 0; like Lightning's it leaves the second place out, and so ends at `lr_max`."""
        share = (step + 1) / self.num_training
        if step == 0:
            return self.lr_min
        if self.mode == "linear":
            return self.lr_min + share * (self.lr_max - self.lr_min)
        return float(self.lr_min * (self.lr_max / self.lr_min) ** share)

    def suggestion(self, skip_begin: int = 10, skip_end: int = 1) -> float | None:
        """The learning rate at which the loss falls most steeply; None, with a warning, where fewer than two finite losses are left.

        `skip_begin` and `skip_end` leave so many points at the ends of the curve out.
        """
        step = self._steepest(skip_begin, skip_end)
        if step is None:
            losses = self.results["loss"]
            finite = sum(map(math.isfinite, losses))
            rank_zero_warn(
                f"no learning rate can be suggested: {len(losses)} loss(es) were met, {finite} of them finite, and of these the first"
                f" {skip_begin} and the last {skip_end} are left out. Train on more batches, raise early_stop_threshold or"
                " num_training, or pass a smaller skip_begin."
            )
            return None
        return self.results["lr"][step]

    def plot(self, suggest: bool = False, show: bool = False, ax: Any = None) -> Any:
        """Draws the loss over the learning rate, and returns matplotlib's figure.

        `suggest` marks the suggested rate, `show` opens a window, `ax` are the axes to draw into. Raises `MisconfigurationException`
        without matplotlib.
        """
        try:
            from matplotlib import pyplot as plt  # noqa: PLC0415 -- drawn only where somebody asks for it
        except ImportError as error:
            raise MisconfigurationException("plot() draws with matplotlib, which is not installed: `pip install matplotlib`.") from error
        figure, ax = plt.subplots() if ax is None else (ax.figure, ax)
        ax.plot(self.results["lr"], self.results["loss"])
        if self.mode == "exponential":
            ax.set_xscale("log")
        ax.set_xlabel("Learning rate")
        ax.set_ylabel("Loss")
        top = self._top()
        if top is not None:
            ax.set_ylim(top=top)
        rate = self.suggestion() if suggest else None
        if rate is not None:
            loss = self.results["loss"][self.results["lr"].index(rate)]
            ax.plot(rate, loss, "o", color="red", label=f"suggested: {rate:.3g}")
            ax.legend()
        if show:
            plt.show()
        return figure

    def _top(self) -> float | None:
        """The upper end of the axis of losses, so that those with which the sweep diverges do not flatten the curve before them."""
        losses = [loss for loss in self.results["loss"] if math.isfinite(loss)]
        if not losses:
            return None
        before = losses[: losses.index(min(losses)) + 1]
        top = max(before) + (max(before) - min(before)) / 2
        return top if min(before) < top < max(losses) else None

    def _steepest(self, skip_begin: int, skip_end: int) -> int | None:
        losses = self.results["loss"]
        finite = [step for step in range(skip_begin, len(losses) - skip_end) if math.isfinite(losses[step])]
        if len(finite) < 2:
            return None
        (slopes,) = torch.gradient(torch.tensor([losses[step] for step in finite], dtype=torch.float64))
        return finite[int(slopes.argmin())]
