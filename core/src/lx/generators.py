"""The random generators that a loader draws from beside those of the process: its own, its samplers', its data set's."""

import random
import sys
from typing import Any

import torch

from lx.rng import rng_states, set_rng_states

DEPTH = 6
"""So deep generators are looked for: in a data set, its transform, the list of its parts, and in those."""

LONG = 32
"""Lists and dictionaries that are longer hold data."""


def states(generators: list[Any]) -> dict[str, Any]:
    """The states of the generators of the process, and of others, in types that are loaded safely."""
    return {"process": rng_states(), "others": own_states(generators)}


def restore(state: dict[str, Any], generators: list[Any]) -> None:
    """Puts back what `states` gave; others than there were stay as they are."""
    set_rng_states(state["process"])
    restore_own(state["others"], generators)


def own_states(generators: list[Any]) -> list[Any]:
    """The states of generators that are objects."""
    return [_state(generator) for generator in generators]


def restore_own(found: list[Any], generators: list[Any]) -> None:
    """Puts the states of generators back, if they are those of as many."""
    if len(found) == len(generators):
        for state, generator in zip(found, generators, strict=True):
            _restore(generator, state)


def generators_of(loader: Any) -> list[Any]:
    """The generators that a loader holds, each once, in an order that is the same for the same loader.

    >>> from torch.utils.data import DataLoader
    >>> own = torch.Generator()
    >>> generators_of(DataLoader(range(4), shuffle=True, generator=own)) == [own]
    True
    """
    parts = [getattr(loader, name, None) for name in ("generator", "sampler", "batch_sampler", "dataset")]
    return generators_in(parts)


def generators_in(value: Any) -> list[Any]:
    """The generators among the attributes of an object, and of what it holds, each once, in their order."""
    seen: dict[int, Any] = {}
    _look(value, DEPTH, seen)
    return [one for one in seen.values() if _is_generator(one)]


def _look(value: Any, depth: int, seen: dict[int, Any]) -> None:
    if id(value) in seen:
        return
    seen[id(value)] = value
    if depth == 0 or isinstance(value, torch.Tensor | type) or _is_generator(value):
        return
    if isinstance(value, list | tuple | dict):
        parts = list(value.values() if isinstance(value, dict) else value) if len(value) <= LONG else []
    else:
        parts = list(getattr(value, "__dict__", {}).values())
    for part in parts:
        _look(part, depth - 1, seen)


def _is_generator(value: Any) -> bool:
    return isinstance(value, torch.Generator | random.Random) or _is_of_numpy(value)


def _is_of_numpy(value: Any) -> bool:
    numpy = sys.modules.get("numpy")
    return numpy is not None and isinstance(value, numpy.random.Generator | numpy.random.RandomState)


def _state(generator: Any) -> Any:
    if isinstance(generator, torch.Generator):
        return generator.get_state()
    if isinstance(generator, random.Random):
        kind, numbers, gauss = generator.getstate()
        return [kind, list(numbers), gauss]
    return _plain(generator.bit_generator.state if hasattr(generator, "bit_generator") else generator.get_state(legacy=False))


def _restore(generator: Any, state: Any) -> None:
    if isinstance(generator, torch.Generator):
        generator.set_state(state)
    elif isinstance(generator, random.Random):
        kind, numbers, gauss = state
        generator.setstate((kind, tuple(numbers), gauss))
    elif hasattr(generator, "bit_generator"):
        generator.bit_generator.state = _arrays(state)
    else:
        generator.set_state(_arrays(state))


def reseed(generator: Any, seed: int) -> None:
    """Seeds a generator anew, of whichever library it is."""
    if isinstance(generator, torch.Generator):
        generator.manual_seed(seed)
    elif hasattr(generator, "bit_generator"):
        generator.bit_generator.state = type(generator.bit_generator)(seed).state
    else:
        generator.seed(seed if isinstance(generator, random.Random) else seed % 2**32)


def _plain(state: Any) -> Any:
    """A state of numpy with tensors in the place of arrays, and text for integers that are longer than 64 bits."""
    if isinstance(state, dict):
        return {key: _plain(value) for key, value in state.items()}
    if hasattr(state, "dtype") and hasattr(state, "tolist"):
        return {"array": torch.tensor(state.tolist(), dtype=torch.int64), "dtype": str(state.dtype)}
    return {"integer": str(state)} if isinstance(state, int) and state.bit_length() > 63 else state


def _arrays(state: Any) -> Any:
    if isinstance(state, dict) and set(state) == {"array", "dtype"}:
        return state["array"].numpy().astype(state["dtype"])
    if isinstance(state, dict) and set(state) == {"integer"}:
        return int(state["integer"])
    return {key: _arrays(value) for key, value in state.items()} if isinstance(state, dict) else state
