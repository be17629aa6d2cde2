"""Hyperparameters that are configurations of OmegaConf: plain in a checkpoint, so that it is read safely, and configurations again then.

OmegaConf is no dependency: nothing here imports it unless a configuration was given, or is in a file.
"""

import copy
import importlib
import sys
from collections.abc import Mapping
from typing import Any

from lx.rank_zero import rank_zero_warn

LIBRARY = "omegaconf"
WHOLE = "*"
"""Stands for all hyperparameters, where one configuration holds them."""


def is_configuration(value: Any) -> bool:
    """Whether a value is a configuration, or a list of one."""
    library = sys.modules.get(LIBRARY)
    return library is not None and library.OmegaConf.is_config(value)


def as_plain(value: Any) -> Any:
    """A configuration as dictionaries, lists and plain values, its references resolved, if they can be."""
    convert = sys.modules[LIBRARY].OmegaConf.to_container
    try:
        return convert(value, resolve=True)
    except Exception:  # a reference to what is only known later
        return convert(value, resolve=False)


def without(value: Any, names: set[str]) -> Any:
    """A copy of a configuration that lacks some names."""
    if names & set(value):
        return sys.modules[LIBRARY].OmegaConf.masked_copy(value, [name for name in value if name not in names])
    return copy.deepcopy(value)


def pack(hparams: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Hyperparameters for a checkpoint, and which of them were configurations."""
    if is_configuration(hparams):
        return as_plain(hparams), [WHOLE]
    names = [name for name, value in hparams.items() if is_configuration(value)]
    return {name: as_plain(value) if name in names else value for name, value in hparams.items()}, names


def unpack(hparams: dict[str, Any], names: list[str]) -> Any:
    """What `pack` was given; with a warning, and plain, where OmegaConf is not installed."""
    if not names:
        return hparams
    try:
        create = importlib.import_module(LIBRARY).OmegaConf.create
    except ImportError:
        rank_zero_warn("the checkpoint holds hyperparameters of OmegaConf, which come as plain dictionaries; `pip install omegaconf`.")
        return hparams
    if WHOLE in names:
        return create(hparams)
    return {name: create(value) if name in names else value for name, value in hparams.items()}
