"""lx trains PyTorch models; every part of it is a plugin. The names below are resolved on first use, without torch before."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # what type checkers and editors see; at run time __getattr__ brings each name when it is used
    from lx import accelerators, callbacks, demos, loggers, plugins, profilers, strategies, tuner, utilities
    from lx.data import CombinedLoader, LightningDataModule
    from lx.fabric import Fabric, is_wrapped
    from lx.interfaces.callback import Callback
    from lx.kernel import Registry
    from lx.module import LightningModule
    from lx.rng import seed_everything
    from lx.trainer import Trainer

    registry: Registry
    __version__: str

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
_MODULES = (
    "accelerators",
    "callbacks",
    "demos",
    "interfaces",
    "kernel",
    "loggers",
    "plugins",
    "profilers",
    "strategies",
    "tuner",
    "utilities",
)

__all__ = [
    "Callback",
    "CombinedLoader",
    "Fabric",
    "LightningDataModule",
    "LightningModule",
    "Trainer",
    "__version__",
    "accelerators",
    "callbacks",
    "demos",
    "is_wrapped",
    "loggers",
    "plugins",
    "profilers",
    "registry",
    "seed_everything",
    "strategies",
    "tuner",
    "utilities",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        with importlib.import_module("lx.kernel.garbage").collection_relaxed():
            value = getattr(importlib.import_module(_HOMES[name]), name)
    elif name in _MODULES:
        return importlib.import_module(f"lx.{name}")
    elif name == "registry":
        return importlib.import_module("lx.kernel").default_manager().registry
    elif name == "__version__":
        value = importlib.import_module("importlib.metadata").version("lx-core")
    else:
        raise AttributeError(f"module 'lx' has no attribute {name!r}; it offers {', '.join(__all__)}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*__all__, *_MODULES})
