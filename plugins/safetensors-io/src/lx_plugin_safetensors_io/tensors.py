"""Tensors and their places in a file: which bytes a tensor stands for, and the tensor that a reference to those bytes means."""

import ctypes
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

CODES = {
    torch.bool: "BOOL",
    torch.uint8: "U8",
    torch.int8: "I8",
    torch.uint16: "U16",
    torch.int16: "I16",
    torch.uint32: "U32",
    torch.int32: "I32",
    torch.uint64: "U64",
    torch.int64: "I64",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float32: "F32",
    torch.float64: "F64",
}
"""What safetensors calls a dtype, for those that all of its releases in use know; others are written as bytes."""

DTYPES = {code: dtype for dtype, code in CODES.items()} | {
    "C64": torch.complex64,
    "F8_E8M0": torch.float8_e8m0fnu,
    "F8_E4M3FNUZ": torch.float8_e4m3fnuz,
    "F8_E5M2FNUZ": torch.float8_e5m2fnuz,
}
"""Those that a file may have."""

BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
"""Copies of these are exact, and exist on every device, which is not so for each dtype of their size."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What the header of a file says of one tensor; offsets are in bytes, from the first one behind the header."""

    code: str
    shape: tuple[int, ...]
    begin: int
    end: int


class TensorTable:
    """The tensors of a checkpoint that is to be written, each region of memory once, under names that are their places."""

    def __init__(self) -> None:
        self.tensors: dict[str, torch.Tensor] = {}
        self._names: dict[Any, str] = {}

    def refer(self, tensor: torch.Tensor, path: Sequence[Any]) -> dict[str, Any]:
        """The reference to a tensor, in which what the header of the file says of it is left out."""
        region = _region(tensor)
        name = self._names.get(region) if region is not None else None
        first = name is None
        if name is None:
            name = self._add(tensor, path)
            if region is not None:
                self._names[region] = name
        described = self.tensors[name]
        alike = first or (tensor.dtype == described.dtype and tensor.shape == described.shape)
        reference: dict[str, Any] = {"$tensor": name}
        if not alike or tensor.dtype not in CODES:
            reference |= {"dtype": str(tensor.dtype).removeprefix("torch."), "shape": list(tensor.shape)}
        if region is not None and tensor.stride() != contiguous(tensor.shape):  # also of 1 by 1 weights in channels_last
            reference["stride"] = list(tensor.stride())
        if tensor.device.type != "cpu":
            reference["device"] = str(tensor.device)
        if isinstance(tensor, torch.nn.Parameter):
            reference["parameter"] = tensor.requires_grad
        elif tensor.requires_grad:
            reference["requires_grad"] = True
        return reference

    def _add(self, tensor: torch.Tensor, path: Sequence[Any]) -> str:
        within = path[1:] if len(path) > 1 and path[0] == "state_dict" else path  # so that other programs find weights by their names
        plain = ".".join(map(str, within)).encode("utf-8", "replace").decode()
        name, number = plain, 1
        while name in self.tensors or name == "__metadata__":
            number += 1
            name = f"{plain}#{number}"
        self.tensors[name] = tensor
        return name

    def entries(self) -> dict[str, Entry]:
        """Where each tensor lies in the file: without gaps, and the widest dtypes first, so that each begins at a multiple of its size."""
        entries, end = {}, 0
        for name, tensor in sorted(self.tensors.items(), key=lambda item: -item[1].element_size()):
            begin, end = end, end + tensor.numel() * tensor.element_size()
            known = tensor.dtype in CODES
            entries[name] = Entry(CODES.get(tensor.dtype, "U8"), tuple(tensor.shape) if known else (end - begin,), begin, end)
        return entries


def _region(tensor: torch.Tensor) -> tuple[Any, ...] | None:
    """The memory that a tensor fills, without gaps; None if there are some, or if its values are not those in memory."""
    if not tensor.numel() or tensor.is_conj() or tensor.is_neg() or not is_dense(tensor.shape, tensor.stride()):
        return None
    size = tensor.element_size()
    start = tensor.untyped_storage().data_ptr() + tensor.storage_offset() * size
    return tensor.device, start, tensor.numel() * size


def is_dense(shape: Sequence[int], stride: Sequence[int]) -> bool:
    """Whether a tensor fills its memory, each place with one element, in whichever order."""
    expected = 1
    for step, size in sorted(zip(stride, shape, strict=True)):
        if size != 1 and step != expected:
            return False
        expected *= size
    return True


def content(tensor: torch.Tensor) -> torch.Tensor:
    """The elements in the order of the file, as bytes; a copy only where they are elsewhere, or in another order."""
    tensor = tensor.detach().resolve_conj().resolve_neg()
    bits = tensor.view(BITS.get(tensor.element_size(), tensor.dtype)).cpu().contiguous()
    return torch.empty(0, dtype=torch.uint8).set_(
        bits.untyped_storage(), bits.storage_offset() * bits.element_size(), (bits.numel() * bits.element_size(),), (1,)
    )


def memory(holder: torch.Tensor | torch.UntypedStorage, nbytes: int) -> memoryview:
    """The bytes behind a tensor or a storage, to be read or written; they are there as long as the holder is."""
    if not nbytes:
        return memoryview(b"")
    return memoryview((ctypes.c_char * nbytes).from_address(holder.data_ptr())).cast("B")


class Restorer:
    """Makes tensors of references; those to the same bytes share their memory."""

    def __init__(
        self, entries: dict[str, Entry], storages: Callable[[str], torch.UntypedStorage], locate: Callable[[Any, str], Any]
    ) -> None:
        self._entries, self._storages, self._locate = entries, storages, locate
        self._located: dict[str, torch.UntypedStorage] = {}

    def restore(self, reference: dict[str, Any]) -> torch.Tensor:
        """The tensor; raises `KeyError`, `TypeError` or `ValueError` for a reference that makes no sense."""
        name = reference["$tensor"]
        entry = self._entries[name]
        dtype = named_dtype(reference["dtype"]) if "dtype" in reference else DTYPES[entry.code]
        shape = tuple(reference.get("shape", entry.shape))
        stride = tuple(reference["stride"]) if "stride" in reference else contiguous(shape)
        if math.prod(shape) * dtype.itemsize != entry.end - entry.begin or not (is_dense(shape, stride) or stride == contiguous(shape)):
            raise ValueError(
                f"{name!r} has {entry.end - entry.begin} bytes, and should be {dtype} of the shape {shape} and stride {stride}"
            )
        if name not in self._located:
            storage = self._storages(name)
            if stride != contiguous(shape):
                storage = _reordered(storage, dtype, shape, stride)
            self._located[name] = self._locate(storage, reference.get("device", "cpu"))
        tensor = _over(self._located[name], dtype, shape, stride)
        if "parameter" in reference:
            return torch.nn.Parameter(tensor, requires_grad=reference["parameter"])
        return tensor.requires_grad_() if reference.get("requires_grad") else tensor


def _over(storage: torch.UntypedStorage, dtype: torch.dtype, shape: Iterable[int], stride: Iterable[int]) -> torch.Tensor:
    empty: Any = torch.empty(0, dtype=dtype, device=storage.device)
    return empty.set_(storage, 0, tuple(shape), tuple(stride))  # type: ignore[no-any-return]


def _reordered(storage: torch.UntypedStorage, dtype: torch.dtype, shape: tuple[int, ...], stride: tuple[int, ...]) -> Any:
    """The elements of a tensor in the order in which they were in memory, such as that of channels_last."""
    if storage.device.type == "meta":
        return storage
    bits = BITS.get(dtype.itemsize, dtype)
    return torch.empty_strided(shape, stride, dtype=bits).copy_(_over(storage, bits, shape, contiguous(shape))).untyped_storage()


def contiguous(shape: Sequence[int]) -> tuple[int, ...]:
    """The strides of a tensor whose elements lie in order.

    >>> contiguous((2, 3, 4))
    (12, 4, 1)
    """
    strides, step = [], 1
    for size in reversed(shape):
        strides.append(step)
        step *= max(size, 1)
    return tuple(reversed(strides))


def named_dtype(name: str) -> torch.dtype:
    """The dtype of that name; raises `TypeError` for anything else that torch may have under it."""
    found = getattr(torch, name, None)
    if not isinstance(found, torch.dtype):
        raise TypeError(f"there is no dtype {name!r}")
    return found


def locating(map_location: Any) -> Callable[[Any, str], Any]:
    """Moves storages as `torch.load` does with the same `map_location`: a device, a dictionary of devices, a function, or None."""
    here: Callable[[Any, str], Any] = torch.serialization.default_restore_location
    if map_location is None:
        return here
    if callable(map_location):
        return lambda storage, location: _or(map_location(storage, location), lambda: here(storage, location))
    if isinstance(map_location, dict):
        return lambda storage, location: here(storage, map_location.get(location, location))
    return lambda storage, location: here(storage, str(map_location))


def _or(found: Any, otherwise: Callable[[], Any]) -> Any:
    return otherwise() if found is None else found
