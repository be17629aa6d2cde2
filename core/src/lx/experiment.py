"""What `logger.experiment` is on the processes that do not write."""

import functools
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from lx.rank_zero import rank_zero_only

L = TypeVar("L")


class DummyExperiment:
    """Takes every attribute, call, index, loop and `with`, and does nothing, so that code need not ask for the rank.

    >>> DummyExperiment().add_image("digits", image=None).anything[3] is None
    False
    >>> list(DummyExperiment().runs)
    []
    """

    def __getattr__(self, name: str) -> "DummyExperiment":
        if name.startswith("__"):  # asked by tools such as copy and pickle, which must not believe the answer
            raise AttributeError(name)
        return self

    def __call__(self, *args: Any, **kwargs: Any) -> "DummyExperiment":
        return self

    def __getitem__(self, key: Any) -> "DummyExperiment":
        return self

    def __setitem__(self, key: Any, value: Any) -> None:
        """Does nothing."""

    def __iter__(self) -> Iterator[Any]:
        return iter(())

    def __enter__(self) -> "DummyExperiment":
        return self

    def __exit__(self, *exception: object) -> None:
        """Does nothing."""


def rank_zero_experiment(get: Callable[[L], Any]) -> Callable[[L], Any]:
    """Decorator of an `experiment` getter, under `@property`: it runs on rank 0, and gives a `DummyExperiment` elsewhere.

    >>> class Writer:
    ...     @property
    ...     @rank_zero_experiment
    ...     def experiment(self):
    ...         return "the library's writer"
    >>> Writer().experiment
    "the library's writer"
    """

    @functools.wraps(get)
    def experiment(logger: L) -> Any:
        return DummyExperiment() if rank_zero_only.rank else get(logger)

    return experiment
