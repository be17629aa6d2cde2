"""Modules whose names are the classes that plugins registered: `from lx.callbacks import EarlyStopping`."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from lx.kernel.errors import ComponentError, UnknownComponentError
from lx.kernel.manager import default_manager
from lx.kernel.registry import import_target


def namespace(
    module: str, *kinds: str, bases: Mapping[str, str] = MappingProxyType({})
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """`__getattr__` and `__dir__` (PEP 562) for a module that offers the classes of some kinds, found in the default registry.

    `bases` are further names, with their import paths. A class that a known plugin would bring, or a broken one, raises what the
    registry raises, so that `from lx.callbacks import EarlyStopping` says what to install; a name that nobody knows raises
    `UnknownComponentError` with the nearest one.

    >>> find, names = namespace("shop", "precision", bases={"Path": "pathlib:Path"})
    >>> find("Precision").__name__, find("Path").__name__, "Path" in names()
    ('Precision', 'Path', True)
    """

    def find(name: str) -> Any:
        # What is no class name is asked by tools, such as __path__ or __wrapped__, and they expect an AttributeError.
        if not name[:1].isupper():
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        if name in bases:
            return import_target(bases[name])
        registry = default_manager().registry
        failures: list[ComponentError] = []
        for kind in kinds:
            try:
                return registry.kind(kind).by_class(name)
            except ComponentError as error:
                failures.append(error)
        raise min(failures, key=_says_little)

    def names() -> list[str]:
        registry = default_manager().registry
        return sorted({*bases, *(name for kind in kinds for name in registry.kind(kind).class_names())})

    return find, names


def _says_little(error: ComponentError) -> int:
    return 0 if not isinstance(error, UnknownComponentError) else 1 if "Did you mean" in str(error) else 2
