"""The items of what is passed to `log_dict`, without a copy of what they hold."""

import inspect
from collections.abc import Iterable
from typing import Any


def items_of(collection: Any) -> Iterable[tuple[str, Any]]:
    """The names and values of a mapping or of a collection of metric objects.

    A collection of torchmetrics whose members share states copies these for whoever looks at a member, unless it is told not to: for a
    metric that keeps all samples, each step would copy all of those before.

    >>> list(items_of({"a": 1}))
    [('a', 1)]
    """
    takes = inspect.signature(collection.items).parameters if hasattr(collection, "compute") else {}
    items: Iterable[tuple[str, Any]] = collection.items(copy_state=False) if "copy_state" in takes else collection.items()
    return items
