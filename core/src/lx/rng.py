"""Every source of randomness that training draws from: seeding them, and leaving them untouched."""

import operator
import os
import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from lx.rank_zero import rank_zero_info, rank_zero_only, rank_zero_warn

MAX_SEED = 2**32 - 1
SEED_VARIABLE, WORKERS_VARIABLE = "PL_GLOBAL_SEED", "PL_SEED_WORKERS"


def seed_everything(seed: int | str | None = None, workers: bool = False, verbose: bool = True) -> int:
    """Seeds python, numpy and torch on all devices, and returns the seed.

    Call it on every rank, before the model is made. Without a seed the one in the environment (`PL_GLOBAL_SEED`) is taken, or 0, with a
    warning. `workers` has the workers of every data loader seeded too, each differently and on each rank differently. Both are written to
    the environment, where processes that are started later find them. `verbose=False` logs nothing.

    Raises `ValueError` for what is no integer from 0 to 2**32 - 1, wherever it comes from. `True` is refused, too: it asks for a random
    seed elsewhere, and would be the seed 1.

    >>> seed_everything(42, verbose=False)
    42
    """
    if seed is None:
        given = os.environ.get(SEED_VARIABLE)
        if given is None:
            rank_zero_warn("seed_everything was given no seed, and the environment has none: the seed is 0.")
        chosen = 0 if given is None else _read_seed(given, f"the environment variable {SEED_VARIABLE} is {given!r}")
    else:
        chosen = _read_seed(seed, f"seed={seed!r}")
    if verbose:
        rank_zero_info(f"Seed set to {chosen}")
    os.environ[SEED_VARIABLE] = str(chosen)
    os.environ[WORKERS_VARIABLE] = str(int(workers))
    _seed_process(chosen)
    return chosen


def _read_seed(given: Any, where: str) -> int:
    """An integer, also one of NumPy or of a tensor, or the digits of one."""
    try:
        if isinstance(given, bool):
            raise TypeError
        seed = int(given) if isinstance(given, str) else operator.index(given)
    except (TypeError, ValueError):
        raise ValueError(f"{where}: a seed is an integer from 0 to {MAX_SEED}.") from None
    if not 0 <= seed <= MAX_SEED:
        raise ValueError(f"{where}, which is out of bounds: a seed is an integer from 0 to {MAX_SEED}.")
    return seed


def reset_seed() -> None:
    """Seeds again with the seed of the last `seed_everything`, if there was one."""
    if SEED_VARIABLE in os.environ:
        seed_everything(int(os.environ[SEED_VARIABLE]), workers=os.environ.get(WORKERS_VARIABLE, "0") == "1", verbose=False)


def _seed_process(seed: int) -> None:
    random.seed(seed)
    torch.manual_seed(seed)
    if "numpy" in sys.modules:  # where nobody imported numpy, nobody draws from it; imported later, it starts from its own entropy
        sys.modules["numpy"].random.seed(seed)
    else:
        try:
            import numpy  # noqa: PLC0415, ICN001 -- only a seeded run needs it
        except ImportError:
            return
        numpy.random.seed(seed)


def rng_states(include_cuda: bool = True) -> dict[str, Any]:
    """The state of every generator of this process, in types that torch loads safely."""
    kind, numbers, gauss = random.getstate()
    states: dict[str, Any] = {"torch": torch.get_rng_state(), "python": [kind, list(numbers), gauss]}
    if "numpy" in sys.modules:
        name, keys, position, has_gauss, cached = sys.modules["numpy"].random.get_state()
        states["numpy"] = [name, torch.from_numpy(keys.astype("int64")), int(position), int(has_gauss), float(cached)]
    if include_cuda and torch.cuda.is_available() and torch.cuda.is_initialized():
        states["cuda"] = torch.cuda.get_rng_state_all()
    return states


def set_rng_states(states: dict[str, Any]) -> None:
    """Puts back what `rng_states` gave."""
    torch.set_rng_state(states["torch"])
    kind, numbers, gauss = states["python"]
    random.setstate((kind, tuple(numbers), gauss))
    if "numpy" in states and "numpy" in sys.modules:
        name, keys, position, has_gauss, cached = states["numpy"]
        sys.modules["numpy"].random.set_state((name, keys.numpy().astype("uint32"), position, has_gauss, cached))
    if "cuda" in states:
        torch.cuda.set_rng_state_all(states["cuda"])


@contextmanager
def isolate_rng(include_cuda: bool = True) -> Iterator[None]:
    """Whatever is drawn inside leaves every generator as it was before; those of GPUs, too, unless `include_cuda` is False.

    >>> import torch
    >>> with isolate_rng():
    ...     first = torch.rand(1)
    >>> torch.equal(first, torch.rand(1))
    True
    """
    states = rng_states(include_cuda)
    try:
        yield
    finally:
        set_rng_states(states)


def worker_init_function(worker_id: int, rank: int | None = None) -> None:
    """Seeds a loader worker from its own base seed, its number and its rank; a `worker_init_fn`."""
    base = torch.initial_seed() - worker_id
    sequence = torch.Generator().manual_seed(
        (base + 1_000_003 * worker_id + 7_919 * (rank_zero_only.rank if rank is None else rank)) % 2**63
    )
    _seed_process(int(torch.randint(0, MAX_SEED, (1,), generator=sequence).item()))
