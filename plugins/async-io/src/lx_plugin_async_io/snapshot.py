"""A checkpoint as it is at a moment, which nothing that is trained, counted or appended afterwards reaches."""

import copy
import mmap
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from lx_plugin_async_io.staging import Staging, copy_all

ALIGNMENT = 64
ATOMS = {int, float, bool, str, bytes, complex, type(None)}
Place = tuple[int, int, torch.device]
"""Where a storage lies: its address, its bytes, its device."""


def snapshot(checkpoint: dict[str, Any], staging: Staging) -> tuple[dict[str, Any], mmap.mmap]:
    """A copy of a checkpoint, and the memory in which its tensors lie, on the CPU.

    All else is copied as by `copy.deepcopy`. Tensors that share their storage share it in the copy, so that the file is the same.

    >>> weight = torch.zeros(2)
    >>> content, memory = snapshot({"weight": weight, "same": weight[:1], "steps": [1]}, Staging())
    >>> _ = weight.fill_(7.0)
    >>> content["weight"], content["same"].untyped_storage().nbytes()
    (tensor([0., 0.]), 8)
    """
    found = _Found()
    found.look_into(checkpoint)
    with torch.inference_mode(False), torch.no_grad():
        memory = found.stage(staging)
        return copy.deepcopy(checkpoint, found.copies), memory


class _Found:
    """The tensors in a checkpoint, and the copies of what `deepcopy` is not to copy itself, by the ids of the originals."""

    def __init__(self) -> None:
        self.copies: dict[int, Any] = {}
        self._seen: set[int] = set()
        self._tensors: list[tuple[Tensor, Place]] = []
        self._storages: dict[Place, torch.UntypedStorage] = {}

    def look_into(self, value: Any) -> None:
        """Finds the tensors in dictionaries, lists and tuples; those in other objects are left to `deepcopy`."""
        if type(value) in ATOMS or id(value) in self._seen:
            return
        self._seen.add(id(value))
        if isinstance(value, Tensor):
            self._add(value)
        elif isinstance(value, dict):
            self._look_into_each(value.values())
        elif isinstance(value, list | tuple):
            if type(value) in (list, tuple) and set(map(type, value)) <= ATOMS:  # such as the indices of an epoch: all at once
                self.copies[id(value)] = value[:]
            else:
                self._look_into_each(value)

    def _look_into_each(self, values: Iterable[Any]) -> None:
        for value in values:
            self.look_into(value)

    def _add(self, tensor: Tensor) -> None:
        if not _is_plain(tensor):
            of_torch = type(tensor) in (Tensor, nn.Parameter)  # deepcopy fails for subclasses that are not made for it
            detached = tensor if of_torch and tensor.is_leaf else tensor.detach()
            self.copies[id(tensor)] = copy.deepcopy(detached, self.copies) if of_torch else detached.clone()
            return
        storage = tensor.untyped_storage()
        place = (storage.data_ptr(), storage.nbytes(), storage.device)
        self._storages[place] = storage
        self._tensors.append((tensor, place))

    def stage(self, staging: Staging) -> mmap.mmap:
        """Copies all storages, and makes the tensors that lie in the copies."""
        offsets, size = {}, 0
        for place, storage in self._storages.items():
            offsets[place] = size
            size += -(-storage.nbytes() // ALIGNMENT) * ALIGNMENT
        memory = staging.take(size)
        staged = {place: _bytes_at(memory, offset, place[1]) for place, offset in offsets.items()}
        copy_all([(staged[place], _bytes_of(storage)) for place, storage in self._storages.items()])
        for tensor, place in self._tensors:
            self.copies[id(tensor)] = _like(tensor, staged[place].untyped_storage())
        return memory


def _is_plain(tensor: Tensor) -> bool:
    """Whether a tensor is no more than a view of bytes that have an address."""
    if type(tensor) not in (Tensor, nn.Parameter) or tensor.layout is not torch.strided or vars(tensor):
        return False
    if tensor.is_quantized or tensor.is_conj() or tensor.is_neg():
        return False
    storage = tensor.untyped_storage()
    return storage.nbytes() == 0 or (not tensor.is_meta and storage.data_ptr() != 0)


def _bytes_at(memory: mmap.mmap, offset: int, size: int) -> Tensor:
    if size == 0:
        return torch.empty(0, dtype=torch.uint8, device="cpu")
    return torch.frombuffer(memory, dtype=torch.uint8, count=size, offset=offset)


def _bytes_of(storage: torch.UntypedStorage) -> Tensor:
    return torch.empty(0, dtype=torch.uint8, device=storage.device).set_(storage)


def _like(tensor: Tensor, storage: torch.UntypedStorage) -> Tensor:
    made = torch.empty(0, dtype=tensor.dtype, device="cpu").set_(storage, tensor.storage_offset(), tensor.size(), tensor.stride())
    if isinstance(tensor, nn.Parameter):
        return nn.Parameter(made, tensor.requires_grad)
    return made.requires_grad_(tensor.requires_grad)
