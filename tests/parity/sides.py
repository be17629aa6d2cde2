"""The two libraries that are compared, and a world in which one of them runs: its recording classes, its trainers, its folder."""

import importlib
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lx

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    LIGHTNING = importlib.import_module("lightning.pytorch")

for name in ("lightning.pytorch", "lightning.fabric"):
    logging.getLogger(name).setLevel(logging.ERROR)

SIDES: dict[str, Any] = {"lx": lx, "lightning": LIGHTNING}


@contextmanager
def quiet(side: str) -> Iterator[None]:
    """Within it the peer may warn as it likes, while a warning of lx stays an error."""
    with warnings.catch_warnings():
        if side == "lightning":
            warnings.simplefilter("ignore")
        yield


class World:
    """One library in a folder of its own, with what a scenario needs of it."""

    def __init__(self, side: str, root: Path) -> None:
        self.side = side
        self.api = SIDES[side]
        self.root = root / side

    def trainer(self, **options: Any) -> Any:
        """A trainer on the CPU that says nothing, and logs nothing unless asked to."""
        quietly = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
        return self.api.Trainer(**{"accelerator": "cpu", "default_root_dir": str(self.root), **quietly, **options})

    def callback(self, name: str, **options: Any) -> Any:
        """A callback of the library, by its class."""
        return getattr(self.api.callbacks, name)(**options)
