"""What to store in the place of a value that a checkpoint I/O refuses, in words."""

import dataclasses
import enum
from collections.abc import Iterable
from pathlib import PurePath
from typing import Any

from torch import nn


def instead_of(value: Any, kinds: Iterable[type[Any]]) -> str:
    """The advice for a value; `kinds` are the plain types of which it may be a subclass, and which can be stored.

    >>> class Name(str): pass
    >>> instead_of(Name("a"), [str]), instead_of(PurePath("a"), [str])
    ('store str(it)', 'store str(it)')
    """
    if isinstance(value, enum.Enum):
        return "store its name or its value"
    if isinstance(value, type) or (callable(value) and hasattr(value, "__qualname__")):
        return "store its name"
    if isinstance(value, nn.Module):
        return "store its state_dict()"
    if isinstance(value, PurePath):
        return "store str(it)"
    if dataclasses.is_dataclass(value):
        return "store dataclasses.asdict(it)"
    if hasattr(value, "dtype") and hasattr(value, "item"):
        return "store torch.from_numpy(it)" if getattr(value, "ndim", 0) else "store it.item()"
    for kind in kinds:
        if isinstance(value, kind):
            return f"store {kind.__name__}(it)"
    return "store tensors, numbers, text, lists and dictionaries in its place"


def name_of(kind: type[Any]) -> str:
    """A class as a reader knows it.

    >>> name_of(dict), name_of(PurePath)
    ('dict', 'pathlib.PurePath')
    """
    return f"{kind.__module__}.{kind.__qualname__}".removeprefix("builtins.")
