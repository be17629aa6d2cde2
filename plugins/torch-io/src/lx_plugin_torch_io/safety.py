"""Finds what could not be read back with `weights_only=True`, before it is written."""

import io
import pickle
from argparse import Namespace
from collections import Counter, OrderedDict
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch.serialization import get_safe_globals

from lx.checkpoints.advice import instead_of, name_of
from lx.checkpoints.pickled_names import has_stand_in
from lx.kernel.errors import CheckpointError

PLAIN = frozenset({int, float, complex, bool, str, bytearray, type(None), torch.dtype, torch.device, torch.Size})
"""What needs no look inside."""

WITH_ATTRIBUTES = frozenset({torch.Tensor, torch.nn.Parameter, Namespace})
MAPPINGS = frozenset({dict, OrderedDict, Counter})
SEQUENCES = frozenset({list, tuple, set})
KINDS = (str, int, float, complex, dict, list, tuple, set)


def check_safe(checkpoint: dict[str, Any]) -> None:
    """Raises `CheckpointError`, with its place, for the first value that reading with `weights_only=True` would refuse.

    Every container is looked into, once, and of its members mostly the types; what is rare is tried, by writing and reading it.
    """
    for value, where in _suspects(checkpoint, "checkpoint", set()):
        problem = _tried(value, where)
        if problem:
            raise CheckpointError(f"{where} is a {name_of(type(value))}, and nothing was written: {problem} {_cure(value, where)}")


def _suspects(value: Any, where: str, seen: set[int]) -> Iterator[tuple[Any, str]]:
    """The values that are neither plain nor a container of known type, with their places."""
    kind = type(value)
    if kind in PLAIN or id(value) in seen:
        return
    if kind in WITH_ATTRIBUTES:
        if vars(value):  # what a tensor was given is written with it
            yield from _in_attributes(value, where, seen)
    elif kind in SEQUENCES:
        yield from _in_sequence(value, where, seen)
    elif kind in MAPPINGS or (isinstance(value, Mapping) and has_stand_in(kind)):
        yield from _in_mapping(value, where, seen)
    elif not (kind is bytes and value) and not has_stand_in(kind) and not _is_allowed(kind):
        yield value, where


def _in_attributes(value: Any, where: str, seen: set[int]) -> Iterator[tuple[Any, str]]:
    seen.add(id(value))
    for name, member in vars(value).items():
        yield from _suspects(member, f"{where}.{name}", seen)


def _in_mapping(value: Any, where: str, seen: set[int]) -> Iterator[tuple[Any, str]]:
    seen.add(id(value))
    for key, member in value.items():
        if type(key) not in PLAIN:
            yield from _suspects(key, f"{key!r} in {where}", seen)
        if type(member) not in PLAIN:
            yield from _suspects(member, f"{where}[{key!r}]", seen)


def _in_sequence(value: Any, where: str, seen: set[int]) -> Iterator[tuple[Any, str]]:
    seen.add(id(value))
    if PLAIN.issuperset(set(map(type, value))):  # a long list of numbers is passed over at once
        return
    for index, member in enumerate(value):
        yield from _suspects(member, f"{member!r} in {where}" if type(value) is set else f"{where}[{index}]", seen)


def _is_allowed(kind: type[Any]) -> bool:
    """Whether torch has been told to read such objects, or the class is a tensor of torch's own, which torch can."""
    allowed = (entry[0] if isinstance(entry, tuple) else entry for entry in get_safe_globals())
    return any(kind is entry for entry in allowed) or (issubclass(kind, torch.Tensor) and kind.__module__.startswith("torch."))


def _tried(value: Any, where: str) -> str:
    """Why a value cannot be read safely, found by trying; raises what writing it raises."""
    file = io.BytesIO()
    try:
        torch.save(value, file)
    except Exception as error:
        error.add_note(f"This happened while {where} was to be written; nothing was.")
        raise
    file.seek(0)
    try:
        torch.load(file, weights_only=True)
    except (pickle.UnpicklingError, RuntimeError):
        return "reading it back would run code of the file, which weights_only=True, the default, refuses."
    return ""


def _cure(value: Any, where: str) -> str:
    # Bytes that need a cure are empty ones.
    instead = "store bytearray(it)" if isinstance(value, bytes) else instead_of(value, KINDS)
    for prefix, owner in (("", "model"), ("datamodule_", "data module")):
        holder = f"checkpoint['{prefix}hyper_parameters']["
        if where.startswith(holder):
            name = where.removeprefix(holder).partition("]")[0]
            return f"It is a hyperparameter of the {owner}: {instead}, or leave it out, save_hyperparameters(ignore=[{name}])."
    return (
        f"{instead[0].upper()}{instead[1:]}, or, if it may be read, torch.serialization.add_safe_globals([...]) here and where it is read."
        " Trainer(plugins='torch_io(allow_objects=True)') writes any object, for weights_only=False."
    )
