"""What Fabric saves, loads, logs and calls, one by one."""

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import nn

from lx.interfaces.strategy import Strategy
from lx.rank_zero import rank_zero_warn
from lx.wrappers import unwrap


def states_of(state: Mapping[str, Any], filters: Mapping[str, Callable[[str, Any], bool]] | None, strategy: Strategy) -> dict[str, Any]:
    """What a checkpoint holds for a state: of each value what `filters` keep, all of it where they do not name it.

    Raises `TypeError` and `ValueError` as `check_filter` does, before any state is taken.
    """
    filters = check_filter(state, filters)
    return {key: _kept(key, _state_of(value, strategy), filters.get(key)) for key, value in state.items()}


def _kept(key: str, content: Any, keep: Callable[[str, Any], bool] | None) -> Any:
    if keep is None:
        return content
    if not isinstance(content, Mapping):
        raise TypeError(f"filter[{key!r}] picks among the items of a mapping, and the state's {key!r} is a {type(content).__name__}.")
    return {name: item for name, item in content.items() if keep(name, item)}


def _state_of(value: Any, strategy: Strategy) -> Any:
    """The state of a value, where it has one, or the value itself."""
    value = unwrap(value)
    if isinstance(value, nn.Module):
        value = strategy.module_state_dict(value)
    elif callable(getattr(value, "state_dict", None)):
        value = value.state_dict()
    return value


def restored(value: Any, content: Any, strict: bool, strategy: Strategy) -> Any:
    """The value with `content` loaded into it, in place; a plain value is replaced by it."""
    target = unwrap(value)
    if isinstance(target, nn.Module):
        strategy.load_module_state_dict(target, content, strict)
    elif callable(getattr(target, "load_state_dict", None)):
        target.load_state_dict(content)
    else:
        return content
    return value


def scalar(name: str, value: Any) -> Any:
    """A number for a tensor of one element; raises `ValueError` for one of several."""
    if not isinstance(value, torch.Tensor):
        return value
    if value.numel() != 1:
        raise ValueError(f"{name!r} is a tensor of {value.numel()} elements; only single numbers can be logged.")
    return value.item()


def check_filter(state: Mapping[str, Any], filters: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """The filters; raises `TypeError` for what is no mapping to functions, `ValueError` for keys that the state does not have."""
    if filters is None:
        return {}
    if not isinstance(filters, Mapping) or not all(callable(keep) for keep in filters.values()):
        raise TypeError("filter must map keys of the state to functions of (name, value).")
    strange = [key for key in filters if key not in state]
    if strange:
        raise ValueError(f"filter names {strange}, which the state does not hold; it holds {list(state)}.")
    return filters


def call_each(callbacks: Iterable[Any], hook_name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    """Calls a method on every object that has it, with those keyword arguments that it takes; warns of an attribute that is none."""
    for callback in callbacks:
        method = getattr(callback, hook_name, None)
        if method is None:
            continue
        if not callable(method):
            rank_zero_warn(f"{type(callback).__name__}.{hook_name} is no function, and is skipped.")
            continue
        parameters = inspect.signature(method).parameters
        takes_all = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
        method(*args, **(kwargs if takes_all else {name: value for name, value in kwargs.items() if name in parameters}))
