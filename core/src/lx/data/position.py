"""Passes over a loader that can be begun again in their midst: in the same order, at the next batch, without loading those before.

The order of a pass follows from the random generators as they were when it began. With their states a pass is begun again: its sampler
draws what it drew then, and is advanced past the batches that were taken. What workers draw while they load a batch follows from the pass
and the number of the batch, and not from the batches before it, so that whoever goes on at a batch loads it as it would have been.
"""

import copy
from collections import deque
from collections.abc import Iterator
from functools import partial
from itertools import islice
from typing import Any

import torch
from torch.utils.data import DataLoader, IterableDataset

from lx.data.combined import CombinedLoader
from lx.data.order import Order, nothing
from lx.data.samplers import clone
from lx.data.seeded import Seeded, SeededWorker
from lx.generators import generators_of, own_states, restore, states
from lx.kernel.errors import MisconfigurationException
from lx.rank_zero import rank_zero_info, rank_zero_only, rank_zero_warn


class Passes:
    """A loader whose passes can be gone on with: iterated like the loader, it remembers how each pass began.

    >>> loader = DataLoader(range(6), batch_size=2, shuffle=True)
    >>> passes = Passes(loader)
    >>> whole = [batch.tolist() for batch in passes]
    >>> [batch.tolist() for batch in passes.go_on(passes.start, taken=1)] == whole[1:]
    True
    """

    def __init__(self, loader: Any) -> None:
        self.loader = loader
        self.generators = generators_of(loader)
        self._order, self._iterated = _ordered(loader)
        self.start: dict[str, Any] | None = None
        self.strayed = False
        """Whether the order came out as another one when the pass was gone on with."""

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Any]:
        return self._begin(None)

    @property
    def seekable(self) -> bool:
        """Whether batches are passed over without being loaded."""
        return self._order is not None or isinstance(self.loader, list | tuple)

    def end(self) -> None:
        """Ends workers that persist: a program that still holds them when it exits waits for each."""
        self._order, self._iterated = _ordered(self.loader)

    def place(self, taken: int) -> dict[str, Any] | None:
        """How the pass began, None if none has; where the order may not come again, with a number for what was taken."""
        digests = None if self._order is None else self._order.digests
        if self.start is None or digests is None or taken >= len(digests):
            return self.start
        return {**self.start, "digest": digests[taken]}

    def keep_indices(self) -> "deque[list[Any]] | None":
        """Where the indices of the batches of the passes to come will be, one list for each batch; None where no sampler draws them."""
        if self._order is None:
            return None
        self._order.kept = deque()
        return self._order.kept

    def go_on(self, start: dict[str, Any] | None, taken: int) -> Iterator[Any]:
        """What comes after so many batches of the pass that began with `start`; what the generators are then means nothing.

        Without a `start`, as of a file that says nothing of it, the order may be another one.
        """
        if start is None and not taken:
            return self._begin(None)
        start = start or states(self.generators)
        restore(start, self.generators)
        if self._order is None:
            batches = self._begin(start)
            deque(islice(batches, taken), maxlen=0)
            return batches
        self._order.begin_at(taken)
        batches = self._begin(start)
        if not self._order.works:
            restore(start, self.generators)  # the iterator has drawn a seed for workers that it does not have
            self._order.draw()
        digests = self._order.digests
        self.strayed = digests is not None and start.get("digest", digests[taken]) != digests[taken]
        return batches

    def _begin(self, start: dict[str, Any] | None) -> Iterator[Any]:
        """Begins a pass; without workers its sampler draws when the first batch is asked for, and then it is looked from what."""
        begun = start or states(self.generators)
        if self._order is None:
            self.start = begun
        elif not self._order.works:
            self.start = start
            self._order.draws = lambda: self._remember(begun)
        else:
            self.start = begun
            self._order.seed = _seed_of(begun)
            # Workers that persist are started once, which draws a number: a pass is the same whether its workers are new or not.
            self._order.draws = partial(restore, begun, self.generators) if self.loader.persistent_workers else nothing
        return iter(self._iterated)

    def _remember(self, begun: dict[str, Any]) -> None:
        assert self._order is not None
        self._order.draws = nothing  # which leaves no cycle, in which the data would wait for the collector
        if self._order.digests is not None:
            self.start = states(self.generators)
        else:  # the samplers of torch draw from its generator alone, whose state takes a hundredth of the time that the others' take
            process = {**begun["process"], "torch": torch.get_rng_state()}
            self.start = {"process": process, "others": own_states(self.generators)}


def passes_over(loader: Any) -> Any:
    """The same loader, or combination of loaders, of passes that can be gone on with."""
    if not isinstance(loader, CombinedLoader):
        return Passes(loader)
    combined = copy.copy(loader)
    combined.flattened = [Passes(one) for one in loader.flattened]
    return combined


def place_of(passes: Any, taken: int) -> list[dict[str, Any] | None]:
    """How the passes over a loader, or over each of several, began, of which so many batches of the whole were taken."""
    if isinstance(passes, Passes):
        return [passes.place(taken)]
    return [one.place(each) for one, each in zip(passes.flattened, passes.taken(taken), strict=True)]


def go_on(passes: Any, starts: list[dict[str, Any] | None], taken: int) -> Iterator[Any]:
    """The rest of the passes that began as `starts` say, after so many batches of the whole."""
    if isinstance(passes, Passes):
        return passes.go_on(starts[0] if starts else None, taken)
    counts = passes.taken(taken)
    known = starts if len(starts) == len(counts) else [None] * len(counts)
    parts = zip(passes.flattened, known, counts, strict=True)
    return passes.gone_on_with([one.go_on(start, each) for one, start, each in parts], taken)  # type: ignore[no-any-return]


def end_passes(passes: Any) -> None:
    """Ends the workers of the loaders, as when a fit is over."""
    for one in _each(passes):
        one.end()


def generators_of_passes(passes: Any) -> list[Any]:
    """The random generators that the loaders hold."""
    return list({id(generator): generator for one in _each(passes) for generator in one.generators}.values())


def reads_again(passes: Any, batches: int, policy: str) -> None:
    """Says that batches are read again and dropped, where a loader cannot seek; with the policy `"refuse"` raises
    `MisconfigurationException` instead."""
    names = [type(getattr(one.loader, "dataset", one.loader)).__name__ for one in _each(passes) if not one.seekable]
    if not names:
        return
    cure = "give it state_dict and load_state_dict (torchdata's StatefulDataLoader has them)"
    if policy == "refuse":
        raise MisconfigurationException(
            f"the checkpoint is of the midst of an epoch, and {', '.join(names)} cannot go on after {batches} batches without reading them"
            f" again, which unseekable_data='refuse' refuses: {cure}, resume from the end of an epoch, or pass unseekable_data='replay'."
        )
    rank_zero_info(f"{', '.join(names)} cannot seek: {batches} batches are read again and dropped. To spare that, {cure}.")


def says_if_strayed(passes: Any, policy: str) -> None:
    """Warns of a sampler that drew another order than when the epoch began; with `"refuse"` raises `MisconfigurationException` instead."""
    names = [type(one.loader.batch_sampler or one.loader.sampler).__name__ for one in _each(passes) if one.strayed]
    if not names:
        return
    text = (
        f"{', '.join(names)} drew another order than when the epoch began, so that samples come twice in it, and others not at all: it"
        " draws between batches from generators that training draws from, too. Give it a generator of its own, or have it draw its order at"
        " once."
    )
    if policy == "refuse":
        raise MisconfigurationException(f"{text} unseekable_data='refuse' refuses to go on.")
    rank_zero_warn(text)


def _each(passes: Any) -> list[Passes]:
    return [passes] if isinstance(passes, Passes) else passes.flattened


def _ordered(loader: Any) -> tuple[Order | None, Any]:
    """The loader with an `Order` in it, where its sampler decides what comes; others are taken as they are."""
    if (
        not isinstance(loader, DataLoader)
        or type(loader).__iter__ is not DataLoader.__iter__
        or isinstance(loader.dataset, IterableDataset)
    ):
        return None, loader
    name = "sampler" if loader.batch_sampler is None else "batch_sampler"
    order = Order(getattr(loader, name), loader.num_workers > 0)
    other = clone(loader, **{name: order})
    if loader.num_workers > 0:
        vars(other).update(dataset=Seeded(loader.dataset), worker_init_fn=SeededWorker(loader.worker_init_fn))
    return order, other


def _seed_of(start: dict[str, Any]) -> int:
    """A number for a pass: what the generator would draw next, without drawing it, and another one on each rank."""
    generator = torch.Generator()
    generator.set_state(start["process"]["torch"])
    return int(torch.randint(2**62, (), generator=generator)) + rank_zero_only.rank * 0xD1B54A32D192ED03
