"""EarlyStopping: what a value means for the run, and when it is looked at."""

import logging
import math
from enum import Enum
from typing import Any

import torch
from torch import Tensor

from lx.arguments.limits import count, is_number
from lx.interfaces import Callback
from lx.kernel.errors import ArgumentTypeError, MisconfigurationException
from lx.rank_zero import rank_zero_warn

log = logging.getLogger("lx")


class EarlyStoppingReason(Enum):
    """Why a run was stopped; checkpoints hold the number."""

    NOT_STOPPED = 0
    STOPPING_THRESHOLD = 1
    DIVERGENCE_THRESHOLD = 2
    PATIENCE_EXHAUSTED = 3
    NON_FINITE_METRIC = 4


class EarlyStopping(Callback):
    """Ends training when a logged value no longer improves, or is beyond hope.

    It looks at the value at the end of the training epoch, after the LightningModule's own hook, or of a validation run where that is
    when values come: with `val_check_interval` other than 1.0, `check_val_every_n_epoch` other than 1, or validation by time. Every
    rank looks, and if one stops, all stop. Nothing happens in the sanity check, in `fast_dev_run` and outside of `fit`.

    A resumed run goes on counting; `patience` and the other arguments are those that this callback was given.

    Args:
        monitor: The name of the logged value.
        min_delta: By more than how much it must improve.
        patience: So many checks in a row without improvement end the run; checks, not epochs.
        verbose: Whether improvements and the end are reported to the logger `lx`, at level INFO.
        mode: `"min"` or `"max"`: whether lower or higher is better.
        strict: Whether a value that was not logged is an error.
        check_finite: Whether NaN and infinity end the run.
        stopping_threshold: A value that is better than this ends the run.
        divergence_threshold: A value that is worse than this ends the run.
        check_on_train_epoch_end: True: look at the end of the training epoch; False: of a validation run; None: as said above.
        log_rank_zero_only: Whether only rank 0 reports.

    Raises:
        MisconfigurationException: for a wrong argument.
        RuntimeError: when `monitor` is looked at and was not logged, if `strict`.

    >>> stopping = EarlyStopping("val_loss", patience=2)
    >>> [stopping.judge(torch.tensor(value)).name for value in (3.0, 3.0, 3.0)]
    ['NOT_STOPPED', 'NOT_STOPPED', 'PATIENCE_EXHAUSTED']
    """

    phase = "monitor"
    roles = frozenset({"early-stopping"})

    def __init__(
        self,
        monitor: str,
        min_delta: float = 0.0,
        patience: int = 3,
        verbose: bool = False,
        mode: str = "min",
        strict: bool = True,
        check_finite: bool = True,
        stopping_threshold: float | None = None,
        divergence_threshold: float | None = None,
        check_on_train_epoch_end: bool | None = None,
        log_rank_zero_only: bool = False,
    ) -> None:
        if not isinstance(monitor, str) or not monitor:
            raise MisconfigurationException(f"monitor={monitor!r}: EarlyStopping needs the name of a logged value, such as 'val_loss'.")
        if mode not in ("min", "max"):
            raise MisconfigurationException(f"mode={mode!r}: it must be 'min' or 'max'.")
        _require_numbers(min_delta=min_delta)
        _require_numbers(or_none=True, stopping_threshold=stopping_threshold, divergence_threshold=divergence_threshold)
        self.monitor = monitor
        self.min_delta = min_delta
        self.patience: int = count("patience", patience)
        self.verbose = verbose
        self.mode = mode
        self.strict = strict
        self.check_finite = check_finite
        self.stopping_threshold = stopping_threshold
        self.divergence_threshold = divergence_threshold
        self.check_on_train_epoch_end = check_on_train_epoch_end
        self.log_rank_zero_only = log_rank_zero_only

        self.wait_count = 0
        self.stopped_epoch = 0
        self.best_score = torch.tensor(math.inf if mode == "min" else -math.inf)
        self.stopping_reason = EarlyStoppingReason.NOT_STOPPED
        self.stopping_reason_message: str | None = None
        self._restored = EarlyStoppingReason.NOT_STOPPED

    @property
    def state_key(self) -> str:
        """The class, `monitor` and `mode`; Lightning's files have the same."""
        return f"{type(self).__qualname__}{ {'monitor': self.monitor, 'mode': self.mode}!r}"

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Stops at once where the run of the checkpoint was stopped, and why still holds; warns if this run will never be looked at.

        A larger `patience` than the one that was exhausted lets it go on.
        """
        reason, self._restored = self._restored, EarlyStoppingReason.NOT_STOPPED
        exhausted = reason is not EarlyStoppingReason.PATIENCE_EXHAUSTED or self.wait_count >= self.patience
        if reason is not EarlyStoppingReason.NOT_STOPPED and exhausted:
            self._report(trainer, f"{self.stopping_reason_message} That was so when the checkpoint was written.")
            trainer.should_stop = True
            return
        self.stopping_reason, self.stopping_reason_message = EarlyStoppingReason.NOT_STOPPED, None
        if self.check_on_train_epoch_end is False and not trainer.enable_validation:
            rank_zero_warn("EarlyStopping(check_on_train_epoch_end=False) looks when a validation run ends, and this fit has none.")

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        """Looks at the value, if this is the place."""
        if not trainer.sanity_checking and not self._looks_at_epoch_end(trainer):
            self._check(trainer)

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Looks at the value, if this is the place."""
        if self._looks_at_epoch_end(trainer):
            self._check(trainer)

    def _looks_at_epoch_end(self, trainer: Any) -> bool:
        if self.check_on_train_epoch_end is not None:
            return self.check_on_train_epoch_end
        if not trainer.enable_validation:
            return True
        # A timedelta equals no number: with validation by time, values come when a validation run ends.
        return bool(trainer.check_val_every_n_epoch == 1 and trainer.val_check_interval == 1.0)

    def _check(self, trainer: Any) -> None:
        if trainer.fast_dev_run or trainer.state.fn != "fit":
            return
        metrics = trainer.callback_metrics
        if self.monitor not in metrics:
            self._missing(metrics)
            return
        best = self.best_score
        reason = self.judge(metrics[self.monitor])
        if self.best_score is not best:
            self._report(trainer, f"{self.monitor} improved from {float(best):.4g} to {float(self.best_score):.4g}.")
        if reason is not EarlyStoppingReason.NOT_STOPPED:
            self._report(trainer, str(self.stopping_reason_message))
        if trainer.strategy.reduce_boolean_decision(reason is not EarlyStoppingReason.NOT_STOPPED, all=False):
            trainer.should_stop = True
            self.stopped_epoch = trainer.current_epoch

    def judge(self, value: Tensor | float) -> EarlyStoppingReason:
        """Takes up the next value, a number or a tensor of one element, and says whether the run should end; waits for the device.

        In this order: not finite, better than the stopping threshold, worse than the divergence threshold, improved, out of patience.
        """
        score = torch.as_tensor(value).detach().to("cpu", copy=True).squeeze()
        number = float(score)
        if self.check_finite and not math.isfinite(number):
            return self._stop(
                EarlyStoppingReason.NON_FINITE_METRIC, f"{self.monitor} is {number}. The best was {float(self.best_score):.4g}."
            )
        if self.stopping_threshold is not None and self._beats(number, self.stopping_threshold):
            text = f"{self.monitor} is {number:.4g}, better than the stopping threshold {self.stopping_threshold:.4g}."
            return self._stop(EarlyStoppingReason.STOPPING_THRESHOLD, text)
        if self.divergence_threshold is not None and self._beats(self.divergence_threshold, number):
            text = f"{self.monitor} is {number:.4g}, worse than the divergence threshold {self.divergence_threshold:.4g}."
            return self._stop(EarlyStoppingReason.DIVERGENCE_THRESHOLD, text)
        if self._beats(number, float(self.best_score), by=self.min_delta):
            self.best_score = score
            self.wait_count = 0
            return EarlyStoppingReason.NOT_STOPPED
        self.wait_count += 1
        if self.wait_count < self.patience:
            return EarlyStoppingReason.NOT_STOPPED
        text = f"{self.monitor} did not improve in the last {self.wait_count} check(s). The best was {float(self.best_score):.4g}."
        return self._stop(EarlyStoppingReason.PATIENCE_EXHAUSTED, text)

    def _beats(self, value: float, other: float, by: float = 0.0) -> bool:
        return value < other - by if self.mode == "min" else value > other + by

    def _stop(self, reason: EarlyStoppingReason, text: str) -> EarlyStoppingReason:
        self.stopping_reason, self.stopping_reason_message = reason, f"{text} Training stops."
        return reason

    def _missing(self, metrics: Any) -> None:
        text = (
            f"EarlyStopping(monitor={self.monitor!r}): nothing of that name has been logged. "
            f"There is: {', '.join(sorted(metrics)) or 'nothing'}. "
            f"Call self.log({self.monitor!r}, value) in the LightningModule, monitor another name, or pass strict=False."
        )
        if self.strict:
            raise RuntimeError(text)
        if self.verbose:
            rank_zero_warn(text)

    def _report(self, trainer: Any, text: str) -> None:
        if self.verbose and (trainer.is_global_zero or not self.log_rank_zero_only):
            log.info(f"[rank {trainer.global_rank}] {text}" if trainer.world_size > 1 else text)

    def state_dict(self) -> dict[str, Any]:
        """How far the count is, and why the run was stopped if it was; `patience` is there for Lightning, which wants it."""
        return {
            "wait_count": self.wait_count,
            "stopped_epoch": self.stopped_epoch,
            "best_score": self.best_score,
            "patience": self.patience,
            "stopping_reason": self.stopping_reason.value,
            "stopping_reason_message": self.stopping_reason_message,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on counting. `patience` stays what this callback was given: whoever resumes with another one means it."""
        self.wait_count = state_dict["wait_count"]
        self.stopped_epoch = state_dict["stopped_epoch"]
        self.best_score = torch.as_tensor(state_dict["best_score"]).cpu()
        self.stopping_reason = self._restored = EarlyStoppingReason(state_dict.get("stopping_reason", 0))
        self.stopping_reason_message = state_dict.get("stopping_reason_message")


def _require_numbers(*, or_none: bool = False, **given: Any) -> None:
    """Raises `ArgumentTypeError` for an argument that is no number and no tensor, which would only be noticed when it is compared."""
    for name, value in given.items():
        if not (is_number(value) or isinstance(value, Tensor) or (or_none and value is None)):
            raise ArgumentTypeError(f"{name}={value!r}: it must be a number{' or None' if or_none else ''}.")
