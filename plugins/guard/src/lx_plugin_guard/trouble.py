"""What can be wrong with a batch, and the errors that say so."""

import math
from dataclasses import dataclass

from lx.kernel.errors import LxError


class GuardError(LxError, RuntimeError):
    """Ends a run at a batch that the callback `guard` is not to pass over, or not any more."""


class NonFiniteLossError(GuardError, ArithmeticError):
    """The loss of a batch is NaN or infinite."""


class NonFiniteGradientError(GuardError, ArithmeticError):
    """The loss of a batch is finite, and a gradient is NaN or infinite."""


class LossSpikeError(GuardError):
    """The loss of a batch is far above the mean of those before."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """A batch that is bad, and in which way: `kind` is `"loss"`, `"gradient"` or `"spike"`.

    `first` is the batch itself, or, of gradients, the first one of their accumulation window.
    """

    kind: str
    epoch: int
    batch_idx: int
    first: int
    step: int
    loss: float
    mean: float

    @property
    def policy(self) -> str:
        """Which argument of the guard says what to do about it."""
        return "spikes" if self.kind == "spike" else "nonfinite"

    def __str__(self) -> str:
        before = "" if math.isnan(self.mean) else f"; the mean of those before is {self.mean:.6g}"
        what = f"the gradients of batch {self.batch_idx} in epoch {self.epoch} are not finite, and its loss is {self.loss:.6g}"
        if self.kind != "gradient":
            what = f"the loss of batch {self.batch_idx} in epoch {self.epoch} is {self.loss:.6g}"
        return f"{what}, after {self.step} optimizer steps{before}"

    def error(self, advice: str) -> GuardError:
        """The error for it."""
        kinds: dict[str, type[GuardError]] = {"loss": NonFiniteLossError, "gradient": NonFiniteGradientError, "spike": LossSpikeError}
        return kinds[self.kind](f"{self}. {advice}")
