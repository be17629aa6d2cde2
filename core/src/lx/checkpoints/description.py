"""What a checkpoint is, and what is in it, as plain data: for people and for machines."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

import torch

from lx.checkpoints.contents import amount, leaves, name_of
from lx.checkpoints.migration import FORMAT, LEGACY_VERSION, VERSION
from lx.checkpoints.position import in_words, position
from lx.checkpoints.protocol import CONFIGURATIONS, DATAMODULE_CLASS

TRAINING = ("optimizer_states", "lr_schedulers", "loops")
"""Without these a run cannot go on."""

KNOWN = {
    "epoch",
    "global_step",
    VERSION,
    LEGACY_VERSION,
    DATAMODULE_CLASS,
    "state_dict",
    "callbacks",
    "loops",
    "optimizer_states",
    "lr_schedulers",
    *(prefix + name for prefix in ("", "datamodule_") for name in ("hparams_name", "hparams_type", "hyper_parameters", CONFIGURATIONS)),
}
"""The keys of a checkpoint of a Trainer that are not named by its parts."""


def describe(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """What is in a checkpoint, in types that JSON has; what is not in it is left out, or None.

    >>> found = describe({"state_dict": {"weight": torch.zeros(2, 3)}})
    >>> found["kind"], found["parts"]
    ('weights', [{'name': 'state_dict', 'tensors': 1, 'numbers': 6, 'bytes': 24}])
    """
    fit = _fit_loop(checkpoint)
    place = position(checkpoint)
    return {
        "kind": kind(checkpoint),
        "written_by": written_by(checkpoint),
        "layout": checkpoint.get(VERSION),
        "legacy_version": checkpoint.get(LEGACY_VERSION),
        "epoch": checkpoint.get("epoch"),
        "global_step": checkpoint.get("global_step"),
        "position": {"words": in_words(place), **place} if place else None,
        "parts": _parts(checkpoint),
        "optimizers": [_optimizer(state) for state in _list(checkpoint.get("optimizer_states"))],
        "schedulers": [plain(state) for state in _list(checkpoint.get("lr_schedulers"))],
        "callbacks": plain(checkpoint.get("callbacks") or {}),
        "hyperparameters": plain(checkpoint.get("hyper_parameters") or {}),
        "datamodule": _datamodule(checkpoint),
        "precision": {key: plain(value) for key, value in checkpoint.items() if is_precision(key, value)},
        "loaders": plain(fit.get("combined_loader") or []),
        "random_states": [_sources(state) for state in _list(fit.get("random"))],
        "other": {key: plain(value) for key, value in checkpoint.items() if _is_other(checkpoint, key, value)},
    }


def kind(checkpoint: Mapping[str, Any]) -> str:
    """What a checkpoint is good for, in a word or two."""
    if VERSION in checkpoint and "state_dict" in checkpoint:
        return "checkpoint" if all(key in checkpoint for key in TRAINING) else "checkpoint, weights only"
    if set(checkpoint) == {"state_dict"} or are_weights(checkpoint):
        return "weights"
    return "dictionary"


def written_by(checkpoint: Mapping[str, Any]) -> str | None:
    """The program that wrote a checkpoint, as far as it says so."""
    version = checkpoint.get(LEGACY_VERSION, checkpoint.get(VERSION))
    if version is None:
        return None
    if "seconds" in _fit_loop(checkpoint):
        return "lx"
    return f"Lightning {version}" + (", or lx" if version == FORMAT else "")  # lx writes the layout of one release


def are_weights(content: Mapping[str, Any]) -> bool:
    """Whether a file holds the weights alone, each under its name."""
    return bool(content) and all(isinstance(value, torch.Tensor) for value in content.values())


def under_state_dict(content: dict[str, Any]) -> dict[str, Any]:
    """Weights that lie in a file alone, each under its name, as a checkpoint has them; any other content as it is."""
    return {"state_dict": content} if are_weights(content) else content


def tensors(checkpoint: Mapping[str, Any]) -> list[dict[str, Any]]:
    """All tensors, each with its name, dtype, shape and bytes, in their order."""
    return [
        {"name": name_of(place), "dtype": dtype(value), "shape": list(value.shape), "bytes": value.nbytes}
        for place, value in leaves(checkpoint)
        if isinstance(value, torch.Tensor)
    ]


def dtype(tensor: torch.Tensor) -> str:
    """The name of a dtype, without `torch.`."""
    return str(tensor.dtype).removeprefix("torch.")


def plain(value: Any) -> Any:
    """A value in types that JSON has; a tensor of one number as the number, any other as its dtype and shape.

    >>> plain({"best": torch.tensor(0.5), "ids": torch.zeros(2, 3)})
    {'best': 0.5, 'ids': 'float32[2, 3]'}
    """
    if isinstance(value, torch.Tensor):
        return plain(value.item()) if value.numel() == 1 and not value.is_meta else f"{dtype(value)}{list(value.shape)}"
    if isinstance(value, Mapping):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(one) for one in value]
    if isinstance(value, bytes):
        return f"{len(value)} bytes"
    if isinstance(value, float) and not math.isfinite(value):  # for which JSON has no word
        return str(value)
    return value if value is None or isinstance(value, bool | int | float | str) else repr(value)


def _parts(checkpoint: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What the tensors of each part come to; those of parts without tensors are left out."""
    if are_weights(checkpoint):
        return [{"name": "weights", **asdict(amount(checkpoint))}]
    amounts = {key: amount(value) for key, value in checkpoint.items()}
    return [{"name": str(key), **asdict(found)} for key, found in amounts.items() if found.tensors]


def _optimizer(state: Any) -> dict[str, Any]:
    """A file does not say of which class an optimizer was; what it keeps for each parameter tells a reader."""
    groups, states = state.get("param_groups") or [], state.get("state") or {}
    return {
        "groups": [plain({key: value for key, value in group.items() if key != "params"}) for group in groups],
        "parameters": sum(len(group.get("params") or []) for group in groups),
        "states": len(states),
        "keeps": sorted({str(key) for one in states.values() if isinstance(one, Mapping) for key in one}),
        "bytes": amount(states).bytes,
    }


def _datamodule(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    path = checkpoint.get(DATAMODULE_CLASS)
    found = {
        "class": path,
        "state": plain(checkpoint.get(path.rpartition(".")[2])) if path else None,
        "hyperparameters": plain(checkpoint.get("datamodule_hyper_parameters") or {}),
    }
    return {key: value for key, value in found.items() if value}


def is_precision(key: str, value: Any) -> bool:
    """Whether a part is the state of a precision: its class is known by what scales losses."""
    return key not in KNOWN and isinstance(value, Mapping) and {"scale", "growth_factor"} <= value.keys()


def _is_other(checkpoint: Mapping[str, Any], key: str, value: Any) -> bool:
    if VERSION not in checkpoint and isinstance(value, torch.Tensor):
        return False
    of_datamodule = str(checkpoint.get(DATAMODULE_CLASS, "")).rpartition(".")[2] == key
    return not (key in KNOWN or of_datamodule or is_precision(key, value))


def _sources(state: Any) -> list[str]:
    """The names of the random generators whose states one process left."""
    if not isinstance(state, Mapping):
        return []
    names = list(state["process"]) if isinstance(state.get("process"), Mapping) else []
    return names + [f"{len(state[name])} of the {name} loaders" for name in ("train", "val") if state.get(name)]


def _fit_loop(checkpoint: Mapping[str, Any]) -> Mapping[str, Any]:
    """What lx keeps beside the counters of fit."""
    try:
        return checkpoint["loops"]["fit_loop"]["state_dict"] or {}
    except (KeyError, TypeError):
        return {}


def _list(value: Any) -> Iterable[Any]:
    return value if isinstance(value, list | tuple) else []
