"""Attributes that another object answers for, declared in one line each."""

from collections.abc import Callable
from typing import Any


class delegated:  # noqa: N801 -- reads as a declaration, like property
    """A read-only attribute found at a path from the owner: `world_size = delegated("strategy.world_size", "How many processes.")`.

    >>> class Engine:
    ...     power = 3
    >>> class Car:
    ...     engine = Engine()
    ...     power = delegated("engine.power", "In kW.")
    >>> Car().power
    3

    With `write`, which gets the owner, the name and the value, it can be set; otherwise that raises `AttributeError`, so that nobody
    believes to have changed what is only shown.
    """

    def __init__(self, path: str, doc: str, write: Callable[[Any, str, Any], None] | None = None) -> None:
        self._path, self._names = path, path.split(".")
        self._write = write
        self.__doc__ = doc

    def __set_name__(self, owner: type[Any], name: str) -> None:
        self._name = name

    def __set__(self, owner: Any, value: Any) -> None:
        if self._write is None:
            raise AttributeError(f"{type(owner).__name__}.{self._name} cannot be set: it shows what {self._path} is.")
        self._write(owner, self._name, value)

    def __get__(self, owner: Any, cls: type[Any] | None = None) -> Any:
        if owner is None:
            return self
        found = owner
        for name in self._names:  # not operator.attrgetter, which a compiler of steps cannot follow
            found = getattr(found, name)
        return found


def in_role(role: str, doc: str) -> property:
    """A read-only attribute: the owner's callbacks that have a role."""
    return property(lambda owner: [callback for callback in owner.callbacks if role in callback.roles], doc=doc)


def first_in_role(role: str, doc: str) -> property:
    """A read-only attribute: the first of the owner's callbacks that has a role, None without one."""
    return property(lambda owner: next((callback for callback in owner.callbacks if role in callback.roles), None), doc=doc)
