"""What is to be known of the training loaders, so that the account of an epoch can be judged; and whether there can be one."""

from typing import Any

from torch.utils.data import BatchSampler, DataLoader, IterableDataset

from lx.data import CombinedLoader
from lx.dataloader_iter import takes_iterator
from lx.kernel.errors import MisconfigurationException


def describe(loader: Any, num_batches: int | float) -> dict[str, Any]:
    """The training loaders in plain values: how many batches make an epoch, and for each loader the samples and what is drawn of them."""
    combined = _combined(loader)
    lengths = combined.lengths()
    described = [_describe(one, int(length)) for one, length in zip(combined.flattened, lengths, strict=True)]
    return {"batches": int(num_batches), "mode": combined.mode, "loaders": described}


def require_countable(loader: Any, indices: list[Any], step: Any) -> None:
    """Raises `MisconfigurationException` where there is no account of the samples of each batch, with the loaders that have none."""
    if takes_iterator(step):
        raise MisconfigurationException(
            "data_ledger: training_step(dataloader_iter) takes its batches unseen, so that nobody knows the samples of a step: def"
            " training_step(self, batch, batch_idx), or leave the callback out."
        )
    loaders = _combined(loader).flattened
    wrong = [(place, reason) for place, one in enumerate(loaders) if (reason := _uncountable(one, indices[place]))]
    if not wrong:
        return
    several = len(loaders) > 1
    named = "; ".join(f"loader {place}: {reason}" if several else f"the training loader: {reason}" for place, reason in wrong)
    others = f" The other {len(loaders) - len(wrong)} of {len(loaders)} loaders would do." if several and len(wrong) < len(loaders) else ""
    raise MisconfigurationException(f"data_ledger: {named}.{others} Change that, or leave the callback out.")


def _uncountable(loader: Any, indices: Any) -> str | None:
    """Why a loader has no account, None where it has one."""
    dataset = getattr(loader, "dataset", None)
    if isinstance(dataset, IterableDataset):
        return (
            f"{type(dataset).__name__} is iterable, so that its samples have no numbers; a data set with __getitem__ and __len__ has some"
        )
    if indices is None:
        return f"{type(loader).__name__} has no sampler that draws indices; a torch.utils.data.DataLoader over a data set has one"
    try:
        len(loader)
    except (TypeError, NotImplementedError):
        sampler = loader.sampler if loader.batch_sampler is None else loader.batch_sampler
        return f"{type(sampler).__name__} has no length, so that nobody knows when an epoch is whole; give it __len__"
    return None


def _combined(loader: Any) -> CombinedLoader:
    return loader if isinstance(loader, CombinedLoader) else CombinedLoader([loader])


def _describe(loader: DataLoader[Any], batches: int) -> dict[str, Any]:
    """`samples`: in the data set; `batches`: of one pass; `share`: so many indices of a pass are drawn by one process; None: unknown."""
    batches_of: Any = loader.batch_sampler or (loader.sampler if isinstance(loader.sampler, BatchSampler) else None)
    sampler: Any = loader.sampler if batches_of is None else getattr(batches_of, "sampler", None)
    size, share = 1 if batches_of is None else getattr(batches_of, "batch_size", None), None
    if type(batches_of) is BatchSampler:  # another one may make what it likes of its sampler
        whole = _length(sampler)
        share = None if whole is None else min(whole, len(batches_of) * batches_of.batch_size)
    elif batches_of is None and type(sampler).__module__.startswith(("torch.", "lx.")):  # another one may draw whole batches
        share = _length(sampler)
    described = {
        "dataset": type(loader.dataset).__name__,
        "samples": _length(loader.dataset),
        "batches": batches,
        "batch_size": size if isinstance(size, int) and share is not None else None,
        "share": share,
    }
    return described | {name: True for name, holds in (("replacement", _replaces(sampler)), ("limited", batches < len(loader))) if holds}


def _length(sized: Any) -> int | None:
    try:
        return len(sized)
    except (TypeError, NotImplementedError):
        return None


def _replaces(sampler: Any) -> bool:
    """Whether a sampler, or the one that it shares out, may draw a sample again."""
    while sampler is not None:
        if getattr(sampler, "replacement", False):
            return True
        sampler = getattr(sampler, "sampler", None)
    return False
