"""Short texts that are equal where values are equal bit for bit."""

import ctypes
import hashlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


def digest(value: Any) -> str:
    """A text for a nested value; of objects of other classes, such as functions, only the class counts.

    >>> digest({"a": torch.zeros(2)}) == digest({"a": torch.zeros(2)})
    True
    >>> digest(torch.zeros(2)) == digest(-torch.zeros(2))
    False
    """
    state = hashlib.blake2b(digest_size=8)
    _feed(state, value)
    return state.hexdigest()


def number(value: Any) -> str:
    """A number exactly, as a text that can be read; `nan` equals itself.

    >>> number(0.1), number(torch.tensor(2))
    ('0.1', '2.0')
    """
    try:
        return repr(float(value))
    except (TypeError, ValueError, RuntimeError):
        return digest(value)


def tensors(value: Any) -> list[Tensor]:
    """The tensors in a nested value, in order."""
    if isinstance(value, Tensor):
        return [value]
    parts = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ()
    return [tensor for part in parts for tensor in tensors(part)]


def _feed(state: Any, value: Any) -> None:
    if isinstance(value, Tensor):
        state.update(f"{value.dtype}{tuple(value.shape)}".encode())
        _feed_bytes(state, value)
    elif isinstance(value, Mapping):
        state.update(f"{{{len(value)}".encode())
        for key, part in value.items():
            state.update(repr(key).encode())
            _feed(state, part)
    elif isinstance(value, list | tuple):
        state.update(f"[{len(value)}".encode())
        for part in value:
            _feed(state, part)
    elif isinstance(value, str | bytes | int | float | complex | None):
        state.update(f"{value!r},".encode())
    elif hasattr(value, "__array__"):
        _feed(state, torch.as_tensor(value))
    else:
        state.update(type(value).__qualname__.encode())


def _feed_bytes(state: Any, tensor: Tensor) -> None:
    """Without NumPy, which may not be there, and without a copy."""
    plain = tensor.detach()
    plain = (plain.to_dense() if plain.layout is not torch.strided else plain).cpu().resolve_conj().resolve_neg().contiguous()
    size = plain.numel() * plain.element_size()
    if size:
        state.update((ctypes.c_char * size).from_address(plain.data_ptr()))
