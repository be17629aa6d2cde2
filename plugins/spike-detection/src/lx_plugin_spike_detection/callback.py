"""Ends a run at a batch whose loss jumps away from the mean of those before."""

import json
import math
import os
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lx.interfaces import Callback
from lx.kernel.errors import MisconfigurationException
from lx.measures.spikes import LossHistory


class TrainingSpikeException(RuntimeError):
    """The loss of a batch has jumped; the message says by how much."""


class SpikeDetection(Callback):
    """Raises `TrainingSpikeException` on every rank after a batch whose loss, on any of them, is a spike.

    A spike is at least `rtol` times the mean of the last `window` losses away from it, and at least `atol`, where these are given:
    above it with `mode="min"`, below with `"max"`. With `finite_only`, so is NaN or infinity. The first `warmup` batches are not looked at.
    The batch and the one before it, whose step may be the cause, are added to the list in `exclude_batches_path`, by default
    `skip_batches.json` in `default_root_dir`.

    Raises `MisconfigurationException` for a wrong argument.

    >>> spikes = SpikeDetection(warmup=2)
    >>> [spikes.judge(loss) for loss in (9.0, 1.0, 1.0, 30.0)]
    [False, False, False, True]
    """

    def __init__(
        self,
        mode: str = "min",
        window: int = 10,
        warmup: int = 1,
        atol: float | None = None,
        rtol: float | None = 2.0,
        exclude_batches_path: str | os.PathLike[str] | None = None,
        finite_only: bool = True,
    ) -> None:
        if mode not in ("min", "max"):
            raise MisconfigurationException(f"mode={mode!r}: it must be 'min' (a spike is a rise) or 'max' (a fall).")
        history = LossHistory(window, warmup, atol, rtol, falls=mode == "max")
        if atol is None and rtol is None and not finite_only:
            raise MisconfigurationException("atol=None, rtol=None and finite_only=False leave nothing that is a spike; give one of them.")
        self.mode = mode
        self.window, self.warmup = window, warmup
        self.atol, self.rtol = atol, rtol
        self.exclude_batches_path = exclude_batches_path
        self.finite_only = finite_only
        self.history = history

    @property
    def losses(self) -> deque[float]:
        """The losses that make the mean."""
        return self.history.losses

    @property
    def mean(self) -> float:
        """The mean of the last losses, NaN before the first."""
        return self.history.mean

    def judge(self, loss: float) -> bool:
        """Whether the loss of the next batch is a spike; one that is none joins the mean."""
        unfit = self.finite_only and not math.isfinite(loss) and self.history.seen >= self.warmup
        return self.history.judge(loss) or unfit

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Looks at the loss; nothing for a step that returned none, on all ranks alike."""
        loss = outputs.get("loss") if isinstance(outputs, Mapping) else outputs
        value = 0.0 if loss is None else float(loss)
        mean = self.mean
        spike = loss is not None and self.judge(value)
        if not trainer.strategy.reduce_boolean_decision(spike, all=False):
            return
        if trainer.is_global_zero:
            self._exclude(self._path(trainer), [batch_idx - 1, batch_idx] if batch_idx else [batch_idx])
        own = f"its loss is {value:.6g}, and the mean of the {len(self.losses)} before is {mean:.6g}" if spike else "that of another rank"
        raise TrainingSpikeException(
            f"the loss jumps in batch {batch_idx} of epoch {trainer.current_epoch}: {own}. It is kept in {str(self._path(trainer))!r};"
            " go on from the checkpoint before it, with data that leaves it out, or with a lower learning rate."
        )

    def _path(self, trainer: Any) -> Path:
        return Path(self.exclude_batches_path or Path(trainer.default_root_dir, "skip_batches.json"))

    @staticmethod
    def _exclude(path: Path, batches: list[int]) -> None:
        listed = json.loads(path.read_text("utf-8")) if path.exists() else []
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps([*listed, *(batch for batch in batches if batch not in listed)], indent=4) + "\n", "utf-8")

    def state_dict(self) -> dict[str, Any]:
        """The losses that make the mean, and the number of batches seen."""
        return self.history.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on from those; one of Lightning, which cannot be gone on from there either, holds no losses and is left out."""
        if "losses" in state_dict:
            self.history.load_state_dict(state_dict)
