"""What tests of plugins and of applications use: fakes, fixtures, `requires`, and the conformance suites; needs pytest.

`pytest_plugins = ["lx.testing.fixtures"]` brings the fixtures, `from lx.testing.requires import requires` the mark for what a
machine may lack, `lx.testing.conformance` a suite for each kind of component. The names below are resolved on first use.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lx.testing.fakes import (
        FakeAccelerator,
        FakeCallback,
        FakeCheckpointIO,
        FakeDistributedStrategy,
        FakeEnvironment,
        FakeLauncher,
        FakeLayerSync,
        FakeLogger,
        FakePlugin,
        FakePrecision,
        FakeProfiler,
        FakeStrategy,
        fake_plugin_manager,
    )
    from lx.testing.models import TinyDataModule, TinyModule

_HOMES = {"TinyDataModule": "lx.testing.models", "TinyModule": "lx.testing.models"}

__all__ = [
    "FakeAccelerator",
    "FakeCallback",
    "FakeCheckpointIO",
    "FakeDistributedStrategy",
    "FakeEnvironment",
    "FakeLauncher",
    "FakeLayerSync",
    "FakeLogger",
    "FakePlugin",
    "FakePrecision",
    "FakeProfiler",
    "FakeStrategy",
    "TinyDataModule",
    "TinyModule",
    "fake_plugin_manager",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'lx.testing' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES.get(name, "lx.testing.fakes")), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
