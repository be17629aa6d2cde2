"""Joining and leaving torch's default process group, as often as a program makes runs."""

import atexit
import functools
import itertools
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

_meetings: dict[tuple[str, int, int], tuple[Any, Iterator[int]]] = {}
"""The store of each meeting place, and how often it was used.

It is kept to the end of the program, and each group meets under a prefix of its own. A store that were made anew for each
group could be found by a fast process before a slow one has closed it, and keys of one group would be read by the next.
"""


def join(backend: str, address: str, port: int, *, rank: int, world_size: int, timeout: timedelta, device: torch.device) -> bool:
    """Makes the default process group, called on every rank; False if the program had made one itself.

    Raises `RuntimeError` if that one has another size.
    """
    if dist.is_initialized():
        if dist.get_world_size() != world_size:
            raise RuntimeError(
                f"the program has made a process group of {dist.get_world_size()} processes, and devices and num_nodes ask for "
                f"{world_size}; make them agree, or leave the process group to lx."
            )
        return False
    store = dist.HashStore() if world_size == 1 else _meet(address, port, rank, world_size, timeout)  # type: ignore[attr-defined]
    device_id = None if device.type == "cpu" else device
    dist.init_process_group(backend, store=store, rank=rank, world_size=world_size, timeout=timeout, device_id=device_id)
    _leave_at_exit()
    return True


def leave() -> None:
    """Destroys the default process group if there is one."""
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()


def _meet(address: str, port: int, rank: int, world_size: int, timeout: timedelta) -> Any:
    place = (address, port, world_size)
    if place not in _meetings:
        host = f"[{address}]" if ":" in address else address
        # torch's own rendezvous, since it knows when torchrun serves the store already
        store, _, _ = next(iter(rendezvous(f"tcp://{host}:{port}", rank=rank, world_size=world_size, timeout=timeout)))
        _meetings[place] = (store, itertools.count())
    store, uses = _meetings[place]
    return PrefixStore(f"lx/{next(uses)}", store)


@functools.cache
def _leave_at_exit() -> None:
    atexit.register(leave)
