"""The values of a checkpoint as JSON, and back: plain ones as they are, all others as an object with one key that begins with `$`."""

import argparse
import base64
import json
import math
import pathlib
import struct
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable
from typing import Any

import torch

from lx.hparams.mixin import AttributeDict
from lx_plugin_safetensors_io.refusal import cycle, refusal
from lx_plugin_safetensors_io.tensors import Restorer, TensorTable, named_dtype

NATIVE = 1 << 63
"""Integers below it are written in decimals, which other readers understand; beyond, Python itself limits their number."""

PATHS: dict[str, Callable[[str], pathlib.PurePath]] = {
    "PosixPath": pathlib.Path,
    "WindowsPath": pathlib.PureWindowsPath,
    "PurePosixPath": pathlib.PurePosixPath,
    "PureWindowsPath": pathlib.PureWindowsPath,
}
"""Which class a path is read as; one of Windows is only a name elsewhere."""


def encoded(checkpoint: dict[str, Any]) -> tuple[str, TensorTable]:
    """A checkpoint as JSON, and the tensors that it refers to.

    Raises `CheckpointError`, with its place, for what would not come back as it is.
    """
    encoder = _Encoder()
    try:
        structure = encoder.encode(checkpoint)
        return json.dumps(structure, separators=(",", ":"), allow_nan=False), encoder.table
    except RecursionError:
        raise refusal(checkpoint, encoder.path[:3], "is nested too deeply to be written; store it as flat lists") from None


class _Encoder:
    """Encodes values from the outermost inwards; `path` says where it is."""

    def __init__(self) -> None:
        self.table = TensorTable()
        self.path: list[Any] = []
        self._around: set[int] = set()

    def encode(self, value: Any) -> Any:
        """A value, or the object that stands for it."""
        kind = type(value)
        if kind is str or kind is bool or value is None:
            return value
        if kind is int:
            return value if -NATIVE < value < NATIVE else {"$int": hex(value)}
        if kind is float:
            return value if math.isfinite(value) else {"$float": struct.pack(">d", value).hex()}
        encode = _ENCODERS.get(kind)
        if encode is None:
            raise refusal(value, self.path)
        return encode(self, value)

    def members(self, holder: Any, members: Iterable[Any]) -> list[Any]:
        """What a list, or another holder of values without names, holds."""
        if set(map(type, members)) == {int} and min(members) > -NATIVE and max(members) < NATIVE:  # the states of generators
            return list(members)
        self._enter(holder)
        found = [self._at(index, member) for index, member in enumerate(members)]
        self._around.discard(id(holder))
        return found

    def dictionary(self, holder: Any, values: dict[Any, Any]) -> dict[str, Any]:
        """A dictionary, as an object if its keys are names."""
        self._enter(holder)
        found: dict[str, Any]
        if all(type(key) is str and not key.startswith("$") for key in values):
            found = {key: self._at(key, value) for key, value in values.items()}
        else:
            found = {"$dict": [[self.encode(key), self._at(key, value)] for key, value in values.items()]}
        self._around.discard(id(holder))
        return found

    def tensor(self, tensor: torch.Tensor) -> dict[str, Any]:
        """A reference to a tensor; those of the two parts of a sparse one, such as the gradient of an embedding."""
        if tensor.layout is torch.sparse_coo and not tensor.requires_grad and not tensor.is_meta:
            parts = tensor.coalesce()
            return {"$sparse": [self._at("indices", parts.indices()), self._at("values", parts.values())], "shape": list(tensor.shape)}
        if tensor.layout is not torch.strided or tensor.is_quantized or tensor.is_nested or tensor.is_meta:
            raise refusal(tensor, self.path)
        return self.table.refer(tensor, self.path)

    def _at(self, key: Any, value: Any) -> Any:
        self.path.append(key)
        found = self.encode(value)
        self.path.pop()
        return found

    def _enter(self, holder: Any) -> None:
        if id(holder) in self._around:
            raise cycle(holder, self.path)
        self._around.add(id(holder))


def _ordered(encoder: _Encoder, value: OrderedDict[Any, Any]) -> dict[str, Any]:
    """With the attributes of the dictionary: a `state_dict` has the versions of its modules there."""
    found = {"$ordered": encoder.dictionary(value, value)}
    return found | {"attributes": encoder.dictionary(vars(value), vars(value))} if vars(value) else found


def _bytes(tag: str) -> Callable[[_Encoder, Any], Any]:
    return lambda encoder, value: {tag: base64.b64encode(value).decode()}


_ENCODERS: dict[type[Any], Callable[[_Encoder, Any], Any]] = {
    list: lambda encoder, value: encoder.members(value, value),
    tuple: lambda encoder, value: {"$tuple": encoder.members(value, value)},
    set: lambda encoder, value: {"$set": encoder.members(value, sorted(value, key=repr))},
    frozenset: lambda encoder, value: {"$frozenset": encoder.members(value, sorted(value, key=repr))},
    torch.Size: lambda encoder, value: {"$size": list(value)},
    dict: lambda encoder, value: encoder.dictionary(value, value),
    OrderedDict: _ordered,
    Counter: lambda encoder, value: {"$counter": encoder.dictionary(value, value)},
    AttributeDict: lambda encoder, value: {"$attributes": encoder.dictionary(value, value)},
    argparse.Namespace: lambda encoder, value: {"$namespace": encoder.dictionary(value, vars(value))},
    complex: lambda encoder, value: {"$complex": [encoder.encode(value.real), encoder.encode(value.imag)]},
    bytes: _bytes("$bytes"),
    bytearray: _bytes("$bytearray"),
    torch.dtype: lambda encoder, value: {"$dtype": str(value).removeprefix("torch.")},
    torch.device: lambda encoder, value: {"$device": str(value)},
    torch.Tensor: _Encoder.tensor,
    torch.nn.Parameter: _Encoder.tensor,
    **{
        kind: lambda encoder, value: {"$path": [type(value).__name__, str(value)]}
        for kind in (pathlib.PosixPath, pathlib.WindowsPath, pathlib.PurePosixPath, pathlib.PureWindowsPath)
    },
}


def decoded(structure: str, tensors: Restorer) -> Any:
    """What `encoded` was given; raises one of many errors for what it never wrote."""
    return _Decoder(tensors).decode(json.loads(structure))


class _Decoder:
    """Makes values of JSON. What it can make is listed in `_DECODERS`, and no name in a file leads to anything else."""

    def __init__(self, tensors: Restorer) -> None:
        self.tensors = tensors

    def decode(self, found: Any) -> Any:
        """The value that was encoded."""
        if isinstance(found, list):
            return [self.decode(member) for member in found]
        if not isinstance(found, dict):
            return found
        tag = next(iter(found), "")
        if tag.startswith("$"):
            return _DECODERS[tag](self, found)
        return {key: self.decode(value) for key, value in found.items()}


def _dict(decoder: _Decoder, found: dict[str, Any]) -> dict[Any, Any]:
    return {decoder.decode(key): decoder.decode(value) for key, value in found["$dict"]}


def _ordered_back(decoder: _Decoder, found: dict[str, Any]) -> OrderedDict[Any, Any]:
    made = OrderedDict(decoder.decode(found["$ordered"]))
    vars(made).update(decoder.decode(found.get("attributes", {})))
    return made


def _sparse(decoder: _Decoder, found: dict[str, Any]) -> torch.Tensor:
    indices, values = map(decoder.decode, found["$sparse"])
    # Indices outside of the shape would be places outside of the memory.
    return torch.sparse_coo_tensor(indices, values, found["shape"], is_coalesced=True, check_invariants=not indices.is_meta)


_DECODERS: dict[str, Callable[[_Decoder, dict[str, Any]], Any]] = {
    "$int": lambda decoder, found: int(found["$int"], 16),
    "$float": lambda decoder, found: struct.unpack(">d", bytes.fromhex(found["$float"]))[0],
    "$tuple": lambda decoder, found: tuple(decoder.decode(found["$tuple"])),
    "$set": lambda decoder, found: set(decoder.decode(found["$set"])),
    "$frozenset": lambda decoder, found: frozenset(decoder.decode(found["$frozenset"])),
    "$size": lambda decoder, found: torch.Size(found["$size"]),
    "$dict": _dict,
    "$ordered": _ordered_back,
    "$counter": lambda decoder, found: Counter(decoder.decode(found["$counter"])),
    "$attributes": lambda decoder, found: AttributeDict(decoder.decode(found["$attributes"])),
    "$namespace": lambda decoder, found: argparse.Namespace(**decoder.decode(found["$namespace"])),
    "$complex": lambda decoder, found: complex(*decoder.decode(found["$complex"])),
    "$bytes": lambda decoder, found: base64.b64decode(found["$bytes"]),
    "$bytearray": lambda decoder, found: bytearray(base64.b64decode(found["$bytearray"])),
    "$dtype": lambda decoder, found: named_dtype(found["$dtype"]),
    "$device": lambda decoder, found: torch.device(found["$device"]),
    "$tensor": lambda decoder, found: decoder.tensors.restore(found),
    "$sparse": _sparse,
    "$path": lambda decoder, found: PATHS[found["$path"][0]](found["$path"][1]),
}
