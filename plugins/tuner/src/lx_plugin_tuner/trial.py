"""The few batches with which a batch size is tried, and the search over sizes."""

import math
from collections.abc import Callable
from typing import Any

from lx.data.combined import combine
from lx.interfaces import Callback
from lx.kernel.errors import MisconfigurationException


def largest(fits: Callable[[int], bool], bound: Callable[[], float], *, bisects: bool, first: int, max_trials: int) -> int:
    """The largest size that was found to fit, 0 for none: `first`, doubled until one does not fit, or halved until one does.

    With `bisects`, what lies between the two is searched, too. `bound` is asked after each trial for the largest size that makes sense.

    >>> [largest(lambda size: size <= 21, lambda: 100, bisects=bisects, first=2, max_trials=25) for bisects in (False, True)]
    [16, 21]
    """
    good, bad = 0, math.inf
    size = int(min(first, bound()))
    for _ in range(max_trials):
        if fits(size):
            good = int(min(size, bound()))
        else:
            bad = size
        if bad - good <= 1 or good >= bound() or (good and bad < math.inf and not bisects):
            break
        size = int(min(size * 2 if bad == math.inf else (good + bad) // 2, bound()))
    return good


class Trial(Callback):
    """Looks at the loaders of a trial, and ends it after an epoch."""

    def __init__(self, argument: str, prefix: str) -> None:
        self._argument = argument
        self._prefix = prefix
        self._loaded: dict[int, tuple[Any, ...]] = {}
        self.size = 0
        """The size that is being tried."""
        self.samples = math.inf
        """How many samples the largest data set has; inf while nobody knows."""

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Looks at the training loaders."""
        if self._prefix == "train":
            self._look(trainer.train_dataloader)

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Ends the trial."""
        trainer.should_stop = True

    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
        """Looks at the loaders, in a trial of `validate`."""
        if self._prefix == "val":
            self._look_at_one(trainer.val_dataloaders)

    def on_test_start(self, trainer: Any, pl_module: Any) -> None:
        """Looks at the loaders."""
        self._look_at_one(trainer.test_dataloaders)

    def on_predict_start(self, trainer: Any, pl_module: Any) -> None:
        """Looks at the loaders."""
        self._look_at_one(trainer.predict_dataloaders)

    def _look_at_one(self, loaders: Any) -> None:
        several = len(combine(loaders, "sequential").flattened)
        if several > 1:
            raise MisconfigurationException(
                f"the batch size finder cannot tell {several} {self._prefix} loaders apart; use it with one, or with fit."
            )
        self._look(loaders)

    def _look(self, loaders: Any) -> None:
        flat = combine(loaders, "sequential").flattened
        lengths = [length for loader in flat if (length := _samples(loader)) is not None]
        self.samples = max(lengths, default=math.inf)
        now = self._loaded[self.size] = tuple(getattr(loader, "batch_size", None) for loader in flat)
        same = [size for size, before in self._loaded.items() if size != self.size and before == now]
        if same and None not in now:
            raise MisconfigurationException(
                f"the {self._prefix} loader has batches of {now[0]} with {self._argument}={same[0]}, and also with {self._argument}="
                f"{self.size}; have {self._prefix}_dataloader make it anew, with the size that this attribute has then."
            )


def _samples(loader: Any) -> int | None:
    try:
        return len(loader.dataset)
    except (AttributeError, TypeError):
        return None
