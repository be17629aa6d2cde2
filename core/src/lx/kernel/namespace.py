"""Modules whose names are the classes that plugins registered: `from lx.callbacks import EarlyStopping`."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from lx.kernel.errors import ComponentError, UnknownComponentError
from lx.kernel.manager import default_manager
from lx.kernel.registry import Registry, import_target


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
                return _by_class(registry, kind, name)
            except ComponentError as error:
                failures.append(error)
        raise min(failures, key=_says_little)

    def names() -> list[str]:
        registry = default_manager().registry
        registry.load()
        here = [kind for kind in kinds if kind in registry.kinds()]
        return sorted({*bases, *(name for kind in here for name in registry.kind(kind).class_names())})

    return find, names


def _by_class(registry: Registry, kind: str, name: str) -> Any:
    """The class of that name; a kind may be a plugin's own, and absent with the plugin."""
    registry.load()
    if kind not in registry.kinds():
        raise registry.diagnosis.missing(kind, name) or UnknownComponentError(
            f"there is no {kind} class {name!r}: no plugin that brings this kind of component is installed."
        )
    return registry.kind(kind).by_class(name)


def _says_little(error: ComponentError) -> int:
    return 0 if not isinstance(error, UnknownComponentError) else 1 if "Did you mean" in str(error) else 2
