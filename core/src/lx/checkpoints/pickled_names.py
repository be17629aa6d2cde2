"""Reads files whose pickles name classes that are not here, such as those of Lightning, without running anything of theirs.

Reading with `weights_only=True` refuses every class that torch does not know. Some do no harm: a `Namespace` or a path among
hyperparameters; an `AttributeDict`; callback classes of Lightning, which were keys of dictionaries before 1.5; its enumerations. For
those, and for nothing else, there are stand-ins while such a file is read.
"""

import argparse
import importlib
import pathlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any, TypeVar

import torch

from lx.hparams.mixin import AttributeDict
from lx.rank_zero import rank_zero_warn

T = TypeVar("T")

PACKAGES = ("pytorch_lightning.", "lightning.", "lightning_fabric.", "lightning_lite.")
ATTRIBUTE_DICT = "AttributeDict"
HARMLESS: dict[str, Any] = {
    "argparse.Namespace": argparse.Namespace,
    **{
        f"{module}.{name}": pathlib.PureWindowsPath if "Windows" in name else pathlib.Path
        for module in ("pathlib", "pathlib._local")  # where Python 3.13 has them
        for name in ("Path", "PosixPath", "WindowsPath")
    },
}
"""What else may be among hyperparameters and cannot run code."""


def has_stand_in(kind: type[Any]) -> bool:
    """Whether `reading` reads objects of a class of today as what they were, though torch would refuse them.

    >>> has_stand_in(argparse.Namespace), has_stand_in(pathlib.PosixPath), has_stand_in(argparse.ArgumentParser)
    (True, True, False)
    """
    return kind is AttributeDict or f"{kind.__module__}.{kind.__qualname__}" in HARMLESS


def reading(read: Callable[[], T], source: Any, safely: bool) -> T:
    """What `read` gives; once more, with stand-ins, if it fails for the sake of classes that are harmless.

    `source` is the path or the open file that it reads; `safely`, whether that is with `weights_only=True`. It is read once more in the
    same way, never in the unsafe one. What cannot be read all the same fails as it did.
    """
    start = source.tell() if hasattr(source, "tell") else None
    try:
        return read()
    except Exception:  # each checkpoint I/O has errors of its own
        names = _harmless_names(source, start)
        if not names:
            raise
    stand_ins = _StandIns()
    with stand_ins.allowed(names) if safely else stand_ins.importable(names):
        content = read()
    return stand_ins.settle(content)


def _harmless_names(source: Any, start: int | None) -> list[str]:
    """The names in the pickle of a file that may have a stand-in."""
    try:
        if start is not None:
            source.seek(start)
        found = torch.serialization.get_unsafe_globals_in_checkpoint(source)
        if start is not None:
            source.seek(start)
    except Exception:  # no file, or none that torch can look into; reading it has said so
        return []
    return sorted(name for name in found if name in HARMLESS or _is_of_a_library(name))


def _is_of_a_library(name: str) -> bool:
    return name.startswith(PACKAGES) or name == f"{AttributeDict.__module__}.{AttributeDict.__qualname__}"


class _StandIns:
    """The stand-ins for one file, and what was made of them."""

    def __init__(self) -> None:
        self.dictionaries: list[dict[Any, Any]] = []
        self.objects: set[str] = set()

    @contextmanager
    def allowed(self, names: list[str]) -> Iterator[None]:
        """Within it, torch reads files that name these classes with `weights_only=True`."""
        pairs: list[Any] = [(HARMLESS.get(name) or self._safe(name), name) for name in names]
        with torch.serialization.safe_globals(pairs):
            yield

    @contextmanager
    def importable(self, names: list[str]) -> Iterator[None]:
        """Within it, these classes can be imported, so that `weights_only=False` finds those that are gone, or not installed."""
        added: dict[str, ModuleType | None] = {}
        for name in names:
            if name not in HARMLESS and not _is_here(name):
                module, _, attribute = name.rpartition(".")
                parts = module.split(".")
                for package in (".".join(parts[: count + 1]) for count in range(len(parts))):
                    if package not in sys.modules:
                        added[package] = None
                        sys.modules[package] = ModuleType(package)
                if module in added:
                    setattr(sys.modules[module], attribute, AttributeDict if attribute == ATTRIBUTE_DICT else self._inert(name))
        try:
            yield
        finally:
            for package in added:
                sys.modules.pop(package, None)

    def _safe(self, name: str) -> type[Any]:
        return self._dictionary() if name.rpartition(".")[2] == ATTRIBUTE_DICT else self._inert(name)

    def _dictionary(self) -> type[Any]:
        """Makes plain dictionaries, which are all that torch fills."""

        def new(cls: type[Any], *_: Any) -> dict[Any, Any]:
            self.dictionaries.append({})
            return self.dictionaries[-1]

        return type(ATTRIBUTE_DICT, (), {"__new__": new})

    def _inert(self, name: str) -> type[Any]:
        """A class that does nothing; called with a string it is a member of an enumeration, which is its value."""

        def new(cls: type[Any], *args: Any) -> Any:
            if len(args) == 1 and isinstance(args[0], str):
                return args[0]
            self.objects.add(name)
            return object.__new__(cls)

        return type(name.rpartition(".")[2], (), {"__new__": new, "__init__": lambda self, *args: None})

    def settle(self, content: T) -> T:
        """The content, in which what were dictionaries with attributes are so again; warns of objects that are empty now."""
        if self.objects:
            rank_zero_warn(
                f"the checkpoint holds objects of {', '.join(sorted(self.objects))}, which is not here; they are read as objects that"
                " hold what they held, and do nothing."
            )
        if self.dictionaries and isinstance(content, dict):
            for key in ("hyper_parameters", "datamodule_hyper_parameters"):
                if key in content:
                    content[key] = self._with_attributes(content[key])
        return content

    def _with_attributes(self, value: Any) -> Any:
        if isinstance(value, dict):
            made = {key: self._with_attributes(member) for key, member in value.items()}
            return AttributeDict(made) if any(value is one for one in self.dictionaries) else made
        if type(value) in (list, tuple):
            return type(value)(self._with_attributes(member) for member in value)
        return value


def _is_here(name: str) -> bool:
    module, _, attribute = name.rpartition(".")
    try:
        return hasattr(importlib.import_module(module), attribute)
    except ImportError:
        return False
