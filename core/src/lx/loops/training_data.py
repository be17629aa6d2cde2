"""The data of a fit: the training loader, asked for when it is due, and the passes over it."""

import itertools
import math
from collections import deque
from collections.abc import Iterator
from typing import Any

from lx.checkpoints.unfinished import restore_random
from lx.data.combined import CombinedLoader, as_combined, set_epochs
from lx.data.position import Passes, end_passes, generators_of_passes, go_on, passes_over, place_of, reads_again, says_if_strayed
from lx.data.samples import SamplesSeen
from lx.kernel.errors import MisconfigurationException
from lx.loops.resume import Resumption
from lx.rank_zero import rank_zero_warn


class TrainingData:
    """The training loader of a fit, how many of its batches make an epoch, and the samples seen."""

    def __init__(self, trainer: Any, progress: Any) -> None:
        self._trainer = trainer
        self._progress = progress
        self.samples = SamplesSeen(lambda: progress.batch.processed)
        self.loader: Any = None
        self.num_batches: int | float = math.inf
        self._passes: Any = None  # the same loader, of passes that can be gone on with
        self._loaded_in = 0  # the epoch in which the loader was asked for
        self._keeps_indices = False
        self.indices: list[deque[list[Any]] | None] = []

    def load(self) -> bool:
        """Asks for the loader, if that has not been done, or is due again; returns whether it did.

        Raises `MisconfigurationException` before there is one to ask for.
        """
        trainer, limits = self._trainer, self._trainer.limits
        if self.loader is not None and not self.is_reload_due(self._loaded_in):
            return False
        if getattr(trainer, "loaders", None) is None:
            raise MisconfigurationException(
                "trainer.estimated_stepping_batches counts the batches of a fit; ask for it within one, as in configure_optimizers."
            )
        self.loader = trainer.loaders.train(trainer.source.request("train"))
        self._passes = passes_over(self.loader)
        if self._keeps_indices:
            self.keep_indices()
        self._loaded_in = self._progress.epoch["completed"]
        trainer.train_dataloader = self.loader
        self.num_batches = trainer.loaders.count(self.loader, "limit_train_batches", limits.limit_train_batches)
        every = limits.log_every_n_steps
        if trainer.loggers and self.num_batches < every and not limits.fast_dev_run:
            rank_zero_warn(
                f"an epoch has {self.num_batches} training batches, fewer than log_every_n_steps={every}; lower it to see step"
                " values of every epoch."
            )
        return True

    def is_reload_due(self, loaded_in: int) -> bool:
        """Whether loaders that were asked for in some epoch are to be asked for again."""
        every = self._trainer.limits.reload_dataloaders_every_n_epochs
        return bool(every) and self._progress.epoch["completed"] // every > loaded_in // every

    def forget(self) -> None:
        """Lets go of the loader, so that it is asked for again."""
        self.loader = self._passes = None
        self.num_batches = math.inf

    def keep_indices(self) -> None:
        """Has the indices of the samples of each batch kept from the next pass on, in `indices`: a queue for each loader.

        Whoever asks for it, as in `on_train_start`, takes the first entry away for each batch that is trained on; with workers, later ones
        are there already. Batches that come again when a window is gone on with have none. A queue is None where no sampler draws indices.
        """
        self._keeps_indices = True
        if self._passes is None:  # a hook has let go of the loader: it will be asked for
            return
        each = [self._passes] if isinstance(self._passes, Passes) else self._passes.flattened
        self.indices = [one.keep_indices() for one in each]

    def end(self) -> None:
        """Lets go of workers, when the fit is over, however it ended."""
        if self._passes is not None:
            end_passes(self._passes)

    def iterate(self) -> Iterator[Any]:
        """Begins a pass."""
        set_epochs(self.loader, self._progress.epoch["completed"])
        iterator = iter(self._passes)
        self.samples.begin(self.loader, processes=self._trainer.world_size)
        return self._batches(iterator)

    def go_on(self, place: Resumption) -> Iterator[Any]:
        """Goes on in the midst of a pass, with the batch after the last one that counts.

        Loaders that keep a state do so by themselves; of others the order is drawn again, and what was trained on is passed over.
        """
        trainer, processed = self._trainer, self._progress.batch.processed
        set_epochs(self.loader, self._progress.epoch["completed"])
        if place.loaders_go_on:
            iterator = iter(self._passes)
        else:
            taken = processed - place.again + len(place.ahead)
            if taken:
                reads_again(self._passes, taken, trainer.unseekable_data)
            iterator = go_on(self._passes, (place.random or {}).get("passes", []), taken)
            says_if_strayed(self._passes, trainer.unseekable_data)
        restore_random(trainer, place.random)
        self.samples.begin(self.loader, processes=trainer.world_size, start=processed, held=place.again)
        batches = self._batches(iterator)
        if self._keeps_indices and place.again:
            return itertools.chain(place.ahead, self._come_again(itertools.islice(batches, place.again)), batches)
        return itertools.chain(place.ahead, batches)

    def _come_again(self, batches: Iterator[Any]) -> Iterator[Any]:
        """Batches that nobody is told of a second time, and their indices neither."""
        for batch in batches:
            for queue in self.indices:
                if queue:
                    queue.popleft()
            yield batch

    def _batches(self, iterator: Iterator[Any]) -> Iterator[Any]:
        return (batch for batch, _, _ in iterator) if isinstance(self.loader, CombinedLoader) else iterator

    def place(self, taken: int) -> list[Any]:
        """How the passes over the loader, or over each of several, began, of which so many batches were taken."""
        return [] if self._passes is None else place_of(self._passes, taken)

    @property
    def generators(self) -> list[Any]:
        """The random generators that the loader holds."""
        return [] if self._passes is None else generators_of_passes(self._passes)

    @property
    def states(self) -> list[Any]:
        """The states of those loaders that keep one."""
        return [] if self.loader is None else as_combined(self.loader).state_dict()
