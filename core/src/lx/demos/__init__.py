"""Small models and data that need no download, for trying things out and for reports of bugs; resolved on first use.

The model of lx's own tests, whose weights and data are the same each time, is `lx.testing.TinyModule`.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lx.demos.boring_classes import (
        BoringDataModule,
        BoringModel,
        DemoModel,
        ManualOptimBoringModel,
        RandomDataset,
        RandomDictDataset,
        RandomIterableDataset,
        RandomIterableDatasetWithLen,
    )
    from lx.demos.transformer import LightningTransformer, MadeUpText, Transformer

__all__ = [
    "BoringDataModule",
    "BoringModel",
    "DemoModel",
    "LightningTransformer",
    "MadeUpText",
    "ManualOptimBoringModel",
    "RandomDataset",
    "RandomDictDataset",
    "RandomIterableDataset",
    "RandomIterableDatasetWithLen",
    "Transformer",
]

_OF_TRANSFORMER = {"LightningTransformer", "MadeUpText", "Transformer"}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'lx.demos' has no attribute {name!r}; it offers {', '.join(__all__)}")
    return getattr(importlib.import_module(f"lx.demos.{'transformer' if name in _OF_TRANSFORMER else 'boring_classes'}"), name)


def __dir__() -> list[str]:
    return __all__
