"""What is worth saying about the worker processes of a loader."""

import os

import torch
import torch.multiprocessing as multiprocessing
from torch.utils.data import DataLoader, TensorDataset

from lx.rank_zero import PossibleUserWarning, rank_zero_warn

FEW = 100
"""An epoch of fewer batches is over before workers have paid for their start."""


def available_cores() -> int:
    """The cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def warn_of_workers(loader: DataLoader[object], prefix: str, processes: int, reloads: bool) -> None:
    """Warns, on rank 0, of too few workers for this machine, and of workers that are started again and again.

    `processes` train on this machine, and share its cores; `reloads` says whether loaders are asked for again in later epochs.
    """
    most = available_cores() // processes - 1
    if loader.num_workers < 2 <= most and not _is_in_memory(loader.dataset) and _batches(loader) >= FEW:
        rank_zero_warn(
            f"the {prefix} loader has {loader.num_workers} worker(s), which may be slower than training; this machine has cores for"
            f" num_workers={most}.",
            PossibleUserWarning,
        )
    if loader.num_workers and not loader.persistent_workers and _start_method(loader) == "spawn":
        rank_zero_warn(
            f"the {prefix} loader spawns its {loader.num_workers} worker(s) anew for each pass, and each imports everything again; pass"
            " persistent_workers=True to keep them.",
            PossibleUserWarning,
        )
    if reloads and loader.num_workers and loader.persistent_workers and loader.pin_memory:
        rank_zero_warn(
            f"the {prefix} loader keeps its workers and pins memory, and is made anew by reload_dataloaders_every_n_epochs: the memory"
            " that the old one pinned may never be freed. Pass pin_memory=False or persistent_workers=False.",
            PossibleUserWarning,
        )


def _is_in_memory(dataset: object) -> bool:
    """Whether samples are there already, so that a worker would only copy them."""
    return isinstance(dataset, torch.Tensor | TensorDataset) or type(dataset) in (list, tuple, range)


def _batches(loader: DataLoader[object]) -> float:
    try:
        return len(loader)
    except TypeError:
        return float("inf")


def _start_method(loader: DataLoader[object]) -> str:
    context = loader.multiprocessing_context
    if context is not None:
        return str(context.get_start_method())
    # Asked so that it does not fix the method for the program, as get_start_method() would.
    return multiprocessing.get_start_method(allow_none=True) or multiprocessing.get_all_start_methods()[0]
