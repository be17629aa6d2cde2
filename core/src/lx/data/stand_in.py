"""What takes the place of another object, and differs from it in a method or two."""

from typing import Any


class StandIn:
    """In all that a subclass does not define, it is the object within; `isinstance` and assignments aside.

    >>> len(StandIn([1, 2])), StandIn([1, 2]).index(2)
    (2, 1)
    """

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def __len__(self) -> int:
        return len(self.inner)

    def __getattr__(self, name: str) -> Any:
        if name == "inner":  # while a copy is made
            raise AttributeError(name)
        return getattr(self.inner, name)
