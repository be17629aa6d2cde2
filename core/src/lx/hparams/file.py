"""Hyperparameters as plain values, flattened, and as the text of `hparams.yaml`; for loggers, without a YAML library."""

import dataclasses
import json
import math
import os
import re
from array import array
from collections.abc import Mapping, MutableSequence
from enum import Enum
from typing import Any

_DEEPEST = 20  # deeper containers, and those that hold themselves, are written as their str()
_LARGEST = 100  # elements of an array that are written out
_LONGEST_KEY = 1000  # YAML reads a longer key only after a question mark
_BARE = re.compile(r"[A-Za-z_][A-Za-z0-9_./-]*")
_TAKEN = frozenset({"true", "false", "yes", "no", "on", "off", "null", "y", "n"})
# What JSON leaves as it is and YAML readers refuse or fold: C1 controls, line separators, surrogates, the byte order mark.
_UNPRINTABLE = re.compile("[\x7f-\x9f\u2028\u2029\ud800-\udfff\ufeff\ufffe\uffff]")


def plain(value: Any, depth: int = 0) -> Any:
    """A value made of None, bool, int, float, str, list and dict only, for what a logger writes.

    Dataclasses and namespaces become dicts, tuples and sets lists, enums their plain value or their name, small arrays and tensors numbers
    or lists, functions and classes their qualified name, and everything else its `str()`.

    >>> plain({"activation": len, "size": (1, 2), "range": range(3)})
    {'activation': 'builtins.len', 'size': [1, 2], 'range': 'range(0, 3)'}
    """
    if isinstance(value, Enum):
        return plain(value.value) if isinstance(value.value, bool | int | float | str) else value.name
    if value is None or isinstance(value, bool):
        return value
    for kind in (int, float, str):
        if isinstance(value, kind):
            return kind.__str__(value) if kind is str else kind(value)  # also of a subclass, such as a NumPy scalar
    contained = _contained(value, depth + 1) if depth < _DEEPEST else None
    return _described(value) if contained is None else contained


def _contained(value: Any, depth: int) -> dict[Any, Any] | list[Any] | None:
    """The plain form of a container; None for anything else."""
    members = _members(value)
    if members is not None:
        return {_key(name): plain(member, depth) for name, member in members.items()}
    if isinstance(value, set | frozenset):
        value = sorted(value, key=repr)
    if isinstance(value, bytearray | array):
        return None
    return [plain(member, depth) for member in value] if isinstance(value, tuple | MutableSequence) else None


def _described(value: Any) -> Any:
    """The plain form of what is no container."""
    if isinstance(value, os.PathLike):
        return os.fsdecode(value)
    if hasattr(value, "tolist") and math.prod(getattr(value, "shape", (math.inf,))) <= _LARGEST:
        return plain(value.tolist())
    if callable(value) and hasattr(value, "__qualname__"):
        return f"{value.__module__}.{value.__qualname__}"
    return str(value)


def _members(value: Any) -> Mapping[Any, Any] | None:
    if isinstance(value, Mapping):
        return value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    return vars(value) if type(value).__name__ in ("Namespace", "SimpleNamespace") else None


def _key(name: Any) -> Any:
    return name if name is None or type(name) in (bool, int, float, str) else str(name)


def flatten(params: Mapping[str, Any], separator: str = "/") -> dict[str, Any]:
    """Plain hyperparameters without nested dicts.

    >>> flatten({"lr": 0.1, "model": {"width": 8, "act": {"name": "relu"}}})
    {'lr': 0.1, 'model/width': 8, 'model/act/name': 'relu'}
    """
    flat: dict[str, Any] = {}
    for name, value in plain(params).items():
        if isinstance(value, dict) and value:
            flat |= {f"{name}{separator}{inner}": member for inner, member in flatten(value, separator).items()}
        else:
            flat[str(name)] = value
    return flat


def dump_yaml(params: Mapping[str, Any]) -> str:
    """Hyperparameters as YAML text that any YAML 1.1 or 1.2 reader turns back into `plain(params)`.

    >>> print(dump_yaml({"lr": 1e-05, "sizes": [8, 16], "model": {"name": "a: b"}}), end="")
    lr: 1.0e-05
    sizes: [8, 16]
    model:
      name: "a: b"
    """
    return "\n".join(_block(plain(params), "") or ["{}"]) + "\n"


def _block(members: Mapping[Any, Any], indent: str) -> list[str]:
    lines = []
    for name, value in members.items():
        key = indent + _scalar(name)
        if len(key) > _LONGEST_KEY:
            key = f"{indent}? {key.lstrip()}\n{indent}"
        if isinstance(value, dict) and value:
            lines += [f"{key}:", *_block(value, indent + "  ")]
        else:
            lines.append(f"{key}: {_flow(value)}")
    return lines


def _flow(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_flow, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{_flow_key(_scalar(name))}: {_flow(member)}' for name, member in value.items())}}}"
    return _scalar(value)


def _flow_key(key: str) -> str:
    return f"? {key} " if len(key) > _LONGEST_KEY else key


def _scalar(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, float):
        return _float(value)
    if isinstance(value, int):
        return str(value)
    if _BARE.fullmatch(value) and value.lower() not in _TAKEN:
        return str(value)
    return _UNPRINTABLE.sub(lambda found: f"\\u{ord(found[0]):04x}", json.dumps(value, ensure_ascii=False))


def _float(value: float) -> str:
    if not math.isfinite(value):
        return ".nan" if math.isnan(value) else ".inf" if value > 0 else "-.inf"
    mantissa, exponent, power = repr(value).partition("e")
    # YAML 1.1 reads 1e-05, which Python writes, as a string; it wants the point.
    return f"{mantissa if '.' in mantissa else mantissa + '.0'}{exponent}{power}"
