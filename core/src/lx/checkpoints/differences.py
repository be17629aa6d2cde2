"""Where the contents of two checkpoints differ."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from lx.checkpoints.contents import Place, leaves, name_of
from lx.checkpoints.description import dtype

MISSING = object()
HUGE = 1e300
"""Larger integers are equal or not, and have no distance."""


@dataclass(frozen=True, slots=True)
class TensorDifference:
    """How two tensors differ: in dtype or shape, or in `different` of their numbers, by at most `absolute` and `relative`.

    A number that is NaN in one alone, or differs from infinity, differs by infinity.
    """

    name: str
    first_kind: str
    second_kind: str
    first_shape: tuple[int, ...]
    second_shape: tuple[int, ...]
    absolute: float = math.inf
    relative: float = math.inf
    different: int = 0


@dataclass(slots=True)
class Differences:
    """All that differs, and how much is equal. `only_first` and `only_second` hold names, and what is there, in words."""

    only_first: list[tuple[str, str]] = field(default_factory=list)
    only_second: list[tuple[str, str]] = field(default_factory=list)
    tensors: list[TensorDifference] = field(default_factory=list)
    values: list[tuple[str, Any, Any]] = field(default_factory=list)
    equal_tensors: int = 0
    equal_values: int = 0

    @property
    def differs(self) -> bool:
        """Whether there is any difference."""
        return bool(self.only_first or self.only_second or self.tensors or self.values)


def compare(first: Mapping[str, Any], second: Mapping[str, Any], tolerance: float = 0.0) -> Differences:
    """Compares two contents value by value; tensors that differ come with the largest difference first.

    Two numbers count as equal if they differ by at most `tolerance`, or by that times the larger one. NaN equals NaN. Dictionaries of
    any class are the same, and so are lists and tuples, since formats differ in what they keep of that.

    >>> found = compare({"epoch": 1, "w": torch.tensor([1.0, 2.0])}, {"epoch": 2, "w": torch.tensor([1.0, 2.5])})
    >>> found.values, found.tensors[0].absolute, found.tensors[0].relative
    ([('epoch', 1, 2)], 0.5, 0.2)
    """
    ones, others = dict(leaves(first)), dict(leaves(second))
    found = Differences(_only(ones, others), _only(others, ones))
    for place, one in ones.items():
        other, name = others.get(place, MISSING), name_of(place)
        if other is MISSING:
            continue
        if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
            difference = _compare_tensors(name, one, other, tolerance)
            found.equal_tensors += difference is None
            found.tensors += [] if difference is None else [difference]
        elif _are_equal(one, other, tolerance):
            found.equal_values += 1
        else:
            found.values.append((name, _plain(one), _plain(other)))
    found.tensors.sort(key=lambda one: (-one.absolute, -one.relative, one.name))
    return found


def _compare_tensors(name: str, one: torch.Tensor, other: torch.Tensor, tolerance: float) -> TensorDifference | None:
    kinds = dtype(one), dtype(other), tuple(one.shape), tuple(other.shape)
    if one.shape != other.shape:
        return TensorDifference(name, *kinds)
    absolute, relative, different = _distance(_dense(one), _dense(other), tolerance)
    return TensorDifference(name, *kinds, absolute, relative, different) if different or kinds[0] != kinds[1] else None


def _distance(one: torch.Tensor, other: torch.Tensor, tolerance: float) -> tuple[float, float, int]:
    """The largest absolute and relative difference of those that are larger than the tolerance, and how many these are."""
    if one.dtype == other.dtype and torch.equal(one, other):
        return 0.0, 0.0, 0
    same = (one == other) | (one.isnan() & other.isnan())
    one, other = one.double(), other.double()
    gap = (one - other).abs().nan_to_num_(nan=math.inf, posinf=math.inf)
    gap[~same & (gap == 0)] = 1  # integers that are too large for float64 to tell apart
    gap[same] = 0
    larger = torch.maximum(one.abs(), other.abs()).nan_to_num_(nan=1.0)
    share = gap / larger.clamp_min(torch.finfo(larger.dtype).tiny)
    share = torch.where(gap.isinf(), gap, share)
    different = (gap > tolerance) & (share > tolerance)
    if not different.any():
        return 0.0, 0.0, 0
    return gap[different].max().item(), share[different].max().item(), int(different.sum())


def _dense(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor of any kind as one that can be compared and subtracted."""
    dense = tensor.detach()
    if dense.layout is not torch.strided:
        dense = dense.to_dense()
    if dense.is_quantized:
        dense = dense.dequantize()
    if dense.is_floating_point() and dense.dtype.itemsize == 1:  # of 8 bits, which know no arithmetic
        dense = dense.float()
    return torch.view_as_real(dense.resolve_conj()) if dense.is_complex() else dense


def _are_equal(one: Any, other: Any, tolerance: float) -> bool:
    if _is_number(one) and _is_number(other):
        both_nan = one != one and other != other
        near = max(abs(one), abs(other)) < HUGE and math.isclose(one, other, rel_tol=tolerance, abs_tol=tolerance)
        return one == other or both_nan or near
    if _is_empty(one) and _is_empty(other):
        return isinstance(one, Mapping) == isinstance(other, Mapping)
    return type(one) is type(other) and bool(one == other)


def _is_number(value: Any) -> bool:
    return isinstance(value, float | int) and not isinstance(value, bool)


def _is_empty(value: Any) -> bool:
    return isinstance(value, Mapping | list | tuple) and not value


def _only(ones: Mapping[Place, Any], others: Mapping[Place, Any]) -> list[tuple[str, str]]:
    """What only one of the two has; where a whole part is lacking in the other, that part, and how much is in it."""
    known = {place[:length] for place in others for length in range(len(place) + 1)}
    parts: dict[Place, list[Any]] = {}
    for place, value in ones.items():
        if place not in others:
            # What is a value here, and a part with other values there, is lacking as it is.
            cut = next((length for length in range(1, len(place)) if place[:length] not in known), len(place))
            parts.setdefault(place[:cut], []).append(value)
    return [(name_of(place), _told(values)) for place, values in parts.items()]


def _told(values: list[Any]) -> str:
    if len(values) > 1:
        tensors = sum(isinstance(value, torch.Tensor) for value in values)
        return f"{len(values):,} values, of which {tensors:,} are tensors" if tensors else f"{len(values):,} values"
    return str(_plain(values[0])) if isinstance(values[0], torch.Tensor) else repr(values[0])


def _plain(value: Any) -> Any:
    """A tensor that stands where the other has something else as its dtype and shape, anything else as it is."""
    return f"{dtype(value)}{list(value.shape)}" if isinstance(value, torch.Tensor) else value
