"""How indices are written: as a range where they are one, as a list, or, where that would be long, in hexadecimal digits.

A list of decimal numbers takes as much room, and five times the time, which would be the most that a step pays for its account.
"""

import json
import sys
from array import array
from collections.abc import Iterator
from typing import Any

LONG = 16
"""So many indices are still written as a list."""


def written(indices: list[Any]) -> str:
    """The indices of a batch as JSON.

    >>> written([4, 5, 6, 7]), written([0, 2, 4]), written([5, 3]), written(["a"])
    ('"4:8"', '"0:6:2"', '[5, 3]', '["a"]')
    >>> written([7, 255, *range(15)])[:20]
    '"x00000007000000ff00'
    """
    size = len(indices)
    if size > 2 and type(indices[0]) is int and type(indices[1]) is int:
        first, step = indices[0], indices[1] - indices[0]
        if step > 0 and first >= 0 and indices[-1] == first + step * (size - 1):
            stop = first + step * size
            if indices == list(range(first, stop, step)):
                return f'"{first}:{stop}"' if step == 1 else f'"{first}:{stop}:{step}"'
    if size > LONG:
        try:
            numbers = array("I", indices)
        except (TypeError, OverflowError):  # names, numbers below 0 and very large ones
            return json.dumps(indices, default=_plain)
        return f'"x{_big_endian(numbers).tobytes().hex()}"'
    return json.dumps(indices, default=_plain)


def _big_endian(numbers: "array[int]") -> "array[int]":
    if sys.byteorder == "little":
        numbers.byteswap()
    return numbers


def _plain(value: Any) -> Any:
    """What a sampler drew that JSON does not have: numbers of NumPy, tensors, and, by their looks, all others."""
    return value.tolist() if hasattr(value, "tolist") else repr(value)


def read_back(text: str | list[Any]) -> list[Any]:
    """The indices that were written so; raises `ValueError` for what was not.

    >>> read_back("4:8"), read_back("0:6:2"), read_back([5, 3]), read_back("x00000007000000ff")
    ([4, 5, 6, 7], [0, 2, 4], [5, 3], [7, 255])
    """
    if isinstance(text, list):
        return text
    if text.startswith("x"):
        return _big_endian(array("I", bytes.fromhex(text[1:]))).tolist()
    return list(range(*map(int, text.split(":"))))


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
