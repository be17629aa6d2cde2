"""Ends a run at a batch whose loss jumps away from the mean of those before."""

import json
import math
import os
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lx.arguments.limits import count, is_number
from lx.interfaces import Callback
from lx.kernel.errors import MisconfigurationException


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
        for name, value in (("atol", atol), ("rtol", rtol)):
            if value is not None and (not is_number(value) or not value >= 0):
                raise MisconfigurationException(f"{name}={value!r}: it must be a number of 0 or more, or None.")
        if atol is None and rtol is None and not finite_only:
            raise MisconfigurationException("atol=None, rtol=None and finite_only=False leave nothing that is a spike; give one of them.")
        self.mode = mode
        self.window = count("window", window, least=1)
        self.warmup = count("warmup", warmup)
        self.atol, self.rtol = atol, rtol
        self.exclude_batches_path = exclude_batches_path
        self.finite_only = finite_only
        self.batches = 0
        self.losses: deque[float] = deque(maxlen=self.window)

    @property
    def mean(self) -> float:
        """The mean of the last losses, NaN before the first."""
        return math.fsum(self.losses) / len(self.losses) if self.losses else math.nan

    def judge(self, loss: float) -> bool:
        """Whether the loss of the next batch is a spike; one that is none joins the mean."""
        self.batches += 1
        if self.batches > self.warmup and self._jumps(loss):
            return True
        if math.isfinite(loss):  # others would make the mean useless
            self.losses.append(loss)
        return False

    def _jumps(self, loss: float) -> bool:
        if self.finite_only and not math.isfinite(loss):
            return True
        away = (loss - self.mean) * (1 if self.mode == "min" else -1)
        bounds = [bound for bound in (self.atol, None if self.rtol is None else self.rtol * abs(self.mean)) if bound is not None]
        return bool(bounds) and away > 0 and all(away >= bound for bound in bounds)

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
        return {"losses": list(self.losses), "batches": self.batches}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on from those; one of Lightning, which cannot be gone on from there either, holds no losses and is left out."""
        if "losses" in state_dict:
            self.losses = deque(state_dict["losses"], maxlen=self.window)
            self.batches = state_dict["batches"]
