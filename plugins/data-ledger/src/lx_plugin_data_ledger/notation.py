"""How indices are written: as a range where they are one, else as a list."""

import json
from collections.abc import Iterator
from typing import Any


def written(indices: list[Any]) -> str:
    """The indices of a batch as JSON.

    >>> written([4, 5, 6, 7]), written([0, 2, 4]), written([5, 3]), written(["a"])
    ('"4:8"', '"0:6:2"', '[5,3]', '["a"]')
    """
    size = len(indices)
    if size > 2 and type(indices[0]) is int and type(indices[1]) is int:
        first, step = indices[0], indices[1] - indices[0]
        if step > 0 and first >= 0 and indices[-1] == first + step * (size - 1):
            stop = first + step * size
            if indices == list(range(first, stop, step)):
                return f'"{first}:{stop}"' if step == 1 else f'"{first}:{stop}:{step}"'
    return json.dumps(indices, separators=(",", ":"), default=_plain)


def _plain(value: Any) -> Any:
    """What a sampler drew that JSON does not have: numbers of NumPy, tensors, and, by their looks, all others."""
    return value.tolist() if hasattr(value, "tolist") else repr(value)


def read_back(text: str | list[Any]) -> list[Any]:
    """The indices that were written so; raises `ValueError` for what is no range.

    >>> read_back("4:8"), read_back("0:6:2"), read_back([5, 3])
    ([4, 5, 6, 7], [0, 2, 4], [5, 3])
    """
    return text if isinstance(text, list) else list(range(*map(int, text.split(":"))))


def shown(samples: list[Any], most: int = 8) -> str:
    """Samples for a line that somebody reads.

    >>> shown([1, 2, 3, 9]), shown(list(range(0, 100, 7)), most=3)
    ('1 to 3, 9', '0, 7, 14 and 12 others')
    """
    parts: list[str] = []
    told = 0
    for first, last, size in _runs(samples):
        if len(parts) == most:
            break
        parts.append(f"{first}" if size == 1 else f"{first}, {last}" if size == 2 else f"{first} to {last}")
        told += size
    left = len(samples) - told
    return ", ".join(parts) + (f" and {left:,} others" if left else "")


def _runs(samples: list[Any]) -> Iterator[tuple[Any, Any, int]]:
    start = 0
    for place in range(1, len(samples) + 1):
        goes_on = place < len(samples) and isinstance(samples[place], int) and samples[place - 1] == samples[place] - 1
        if not goes_on:
            yield samples[start], samples[place - 1], place - start
            start = place
