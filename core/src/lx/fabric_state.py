"""What Fabric saves, loads and logs, value by value."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from lx.interfaces.strategy import Strategy
from lx.wrappers import unwrap


def state_of(value: Any, keep: Callable[[str, Any], bool] | None, strategy: Strategy) -> Any:
    """What a checkpoint holds for a value: its state, where it has one, or the value itself; `keep` picks among its items."""
    value = unwrap(value)
    if isinstance(value, nn.Module):
        value = strategy.module_state_dict(value)
    elif callable(getattr(value, "state_dict", None)):
        value = value.state_dict()
    return value if keep is None else {name: item for name, item in value.items() if keep(name, item)}


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


def check_filter(state: Mapping[str, Any], filters: Mapping[str, Any] | None) -> None:
    """Raises `TypeError` for what is no mapping to functions, `ValueError` for keys that the state does not have."""
    if filters is None:
        return
    if not isinstance(filters, Mapping) or not all(callable(keep) for keep in filters.values()):
        raise TypeError("filter must map keys of the state to functions of (name, value).")
    strange = [key for key in filters if key not in state]
    if strange:
        raise ValueError(f"filter names {strange}, which the state does not hold; it holds {list(state)}.")
