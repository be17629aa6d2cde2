"""lx trains PyTorch models; every part of it is a plugin. The names below are resolved on first use, without torch before."""

import importlib
from typing import Any

_HOMES = {
    "Callback": "lx.interfaces.callback",
    "CombinedLoader": "lx.data",
    "Fabric": "lx.fabric",
    "LightningDataModule": "lx.data",
    "LightningModule": "lx.module",
    "Trainer": "lx.trainer",
    "is_wrapped": "lx.fabric",
    "seed_everything": "lx.rng",
}

__all__ = ["Callback", "CombinedLoader", "Fabric", "LightningDataModule", "LightningModule", "Trainer", "__version__",
           "is_wrapped", "registry", "seed_everything"]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        value = getattr(importlib.import_module(_HOMES[name]), name)
    elif name == "registry":
        value = importlib.import_module("lx.kernel").default_manager().registry
    elif name == "__version__":
        value = importlib.import_module("importlib.metadata").version("lx-core")
    elif name in ("accelerators", "callbacks", "loggers", "plugins", "profilers", "strategies"):
        return importlib.import_module(f"lx.{name}")
    else:
        raise AttributeError(f"module 'lx' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
