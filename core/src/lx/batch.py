"""Walks through batches, which may be any nesting of mappings, sequences and dataclasses around tensors."""

import copy
import dataclasses
import functools
import operator
from collections import UserDict
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor


def map_tensors(function: Callable[[Tensor], Tensor], data: Any) -> Any:
    """The same structure with `function` applied to every tensor in it.

    Mappings, lists, tuples, named tuples and dataclasses (frozen ones too) are walked, and come back as the type they were; the
    input is not changed. Whatever else is in them is left alone. Where `function` returns every tensor as it was, the very
    object comes back.

    >>> map_tensors(lambda tensor: tensor * 2, {"x": [torch.tensor(1)], "name": "a"})
    {'x': [tensor(2)], 'name': 'a'}
    """
    if isinstance(data, Tensor):
        return function(data)
    return _rebuild(data, functools.partial(map_tensors, function))


def as_tensors(data: Any, device: torch.device | str) -> Any:
    """The same structure with its numbers as tensors on a device, so that they can be gathered and reduced over processes.

    >>> as_tensors({"loss": 0.5, "rows": [3], "ok": True, "name": "a"}, "cpu")
    {'loss': tensor(0.5000), 'rows': [tensor(3)], 'ok': tensor(1, dtype=torch.uint8), 'name': 'a'}
    """
    if isinstance(data, bool):  # collectives do no arithmetic on truth values
        return torch.tensor(data, dtype=torch.uint8, device=device)
    if isinstance(data, int | float):
        return torch.tensor(data, device=device)
    return data if isinstance(data, Tensor) else _rebuild(data, lambda item: as_tensors(item, device))


def move_to(data: Any, device: torch.device | str, non_blocking: bool = False) -> Any:
    """The same structure with its tensors on a device; an object that has a method `to` is asked to move itself.

    `non_blocking` lets the copies of tensors in pinned memory overlap with work. An object whose `to` moves it in place and
    returns None is kept. What is there already comes back as the very object.

    >>> move_to((torch.ones(2), "label"), "meta")
    (tensor(..., device='meta', size=(2,)), 'label')
    """
    if isinstance(data, Tensor):
        return data.to(device, non_blocking=non_blocking)
    to = getattr(data, "to", None)
    if callable(to) and not isinstance(data, type):
        # Before the structure is looked at: a packed sequence is a tuple of which only a part may leave the CPU.
        moved = to(device)
        return data if moved is None else moved
    return _rebuild(data, lambda item: move_to(item, device, non_blocking))


def move_data_to_device(batch: Any, device: torch.device | str | int) -> Any:
    """`move_to`, with copies to a GPU that overlap with work where the memory is pinned; a number is the index of a device.

    >>> move_data_to_device({"x": torch.ones(2)}, "meta")
    {'x': tensor(..., device='meta', size=(2,))}
    """
    device = torch.device(device)
    return move_to(batch, device, non_blocking=device.type == "cuda")


def apply_to_collection(
    data: Any,
    dtype: type[Any] | tuple[type[Any], ...],
    function: Callable[..., Any],
    *args: Any,
    wrong_dtype: type[Any] | tuple[type[Any], ...] | None = None,
    **kwargs: Any,
) -> Any:
    """The same structure with `function(item, *args, **kwargs)` in place of everything that is a `dtype`, and no `wrong_dtype`.

    Walked are mappings, lists, tuples, named tuples and dataclasses, unless they are a `dtype` themselves.

    >>> apply_to_collection({"a": 1, "b": [2, "x"]}, int, lambda number, step: number + step, step=10)
    {'a': 11, 'b': [12, 'x']}
    """
    if isinstance(data, dtype) and not (wrong_dtype is not None and isinstance(data, wrong_dtype)):
        return function(data, *args, **kwargs)
    return _rebuild(data, lambda item: apply_to_collection(item, dtype, function, *args, wrong_dtype=wrong_dtype, **kwargs))


def convert_tensors_to_scalars(data: Any) -> Any:
    """The same structure with a number for every tensor; each costs a wait for its device. Raises `ValueError` for one of several elements.

    >>> convert_tensors_to_scalars({"loss": torch.tensor(0.5), "name": "a"})
    {'loss': 0.5, 'name': 'a'}
    """

    def number(tensor: Tensor) -> int | float | bool:
        if tensor.numel() != 1:
            raise ValueError(f"a tensor of the shape {list(tensor.shape)} is no single number: {tensor}")
        return tensor.item()

    return apply_to_collection(data, Tensor, number)


def _rebuild(data: Any, visit: Callable[[Any], Any]) -> Any:
    """A container with every item visited; the container itself if no item changed, or if it is none."""
    if isinstance(data, Mapping):
        return _with_items(data, visit)
    if isinstance(data, list | tuple):
        return _with_elements(data, visit)
    if dataclasses.is_dataclass(data) and not isinstance(data, type):
        return _with_fields(data, visit)
    return data


def _with_items(data: Mapping[Any, Any], visit: Callable[[Any], Any]) -> Any:
    visited = {key: visit(value) for key, value in data.items()}
    if all(map(operator.is_, data.values(), visited.values())):
        return data
    if isinstance(data, dict | UserDict):  # a copy keeps what the constructor does not take from a mapping, such as a default factory
        result = copy.copy(data)
        for key, value in visited.items():
            result[key] = value
        return result
    cls: Any = type(data)  # other mapping classes are expected to be made from a mapping
    return cls(visited)


def _with_elements(data: Any, visit: Callable[[Any], Any]) -> Any:
    visited = [visit(element) for element in data]
    if all(map(operator.is_, data, visited)):
        return data
    return type(data)(*visited) if hasattr(data, "_fields") else type(data)(visited)


def _with_fields(data: Any, visit: Callable[[Any], Any]) -> Any:
    values = {field.name: getattr(data, field.name) for field in dataclasses.fields(data) if hasattr(data, field.name)}
    changed = {name: new for name, value in values.items() if (new := visit(value)) is not value}
    if not changed:
        return data
    # Not dataclasses.replace: it refuses fields with init=False and needs every InitVar again, which nobody has kept.
    result = copy.copy(data)
    for name, value in changed.items():
        object.__setattr__(result, name, value)  # also for frozen ones
    return result
