"""Fake components, one of each kind: they do as little as their interface allows, and record every call in `calls`."""

import copy
import inspect
from collections.abc import Callable, Mapping
from functools import wraps
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch
from torch import nn

from lx import neutral
from lx.devices import device_indices
from lx.interfaces.accelerator import Accelerator, AcceleratorCapabilities
from lx.interfaces.callback import Callback
from lx.interfaces.checkpoint_io import CheckpointIO
from lx.interfaces.environment import ClusterEnvironment
from lx.interfaces.launcher import Launcher
from lx.interfaces.layer_sync import LayerSync
from lx.interfaces.logger import Logger
from lx.interfaces.precision import Precision
from lx.interfaces.profiler import Profiler
from lx.interfaces.strategy import Strategy, StrategyCapabilities
from lx.kernel import PluginManager, Registry, hookimpl
from lx.kernel.errors import CheckpointNotFoundError
from lx.kernel.manager import CORE

Fake = TypeVar("Fake", bound=type[Any])


class Call(NamedTuple):
    """One recorded call: the name of the method and its arguments."""

    name: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


class Recorded:
    """What every fake has: its calls in order."""

    @property
    def calls(self) -> list[Call]:
        """The calls so far; the list may be cleared."""
        found: list[Call] = self.__dict__.setdefault("recorded_calls", [])
        return found

    def called(self, name: str | None = None) -> Any:
        """The names of the calls in order, or, given a name, its calls."""
        if name is None:
            return [call.name for call in self.calls]
        return [call for call in self.calls if call.name == name]


def recording(interface: type[Any]) -> Callable[[Fake], Fake]:
    """A class decorator that has every public method of an interface record its calls before it is run.

    Static methods and properties are left alone: they are asked before there is an instance, or any number of times.
    """

    def decorate(cls: Fake) -> Fake:
        for name in dir(interface):
            attribute = inspect.getattr_static(cls, name)
            if not name.startswith("_") and inspect.isfunction(attribute):
                setattr(cls, name, _recorded(name, attribute))
        return cls

    return decorate


def _recorded(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(method)
    def call(self: Recorded, *args: Any, **kwargs: Any) -> Any:
        self.calls.append(Call(name, args, kwargs))
        return method(self, *args, **kwargs)

    return call


@recording(Accelerator)
class FakeAccelerator(Recorded, Accelerator):
    """Four devices that are all the CPU, always available."""

    capabilities = AcceleratorCapabilities()

    @staticmethod
    def name() -> str:
        return "fake"

    @staticmethod
    def is_available() -> bool:
        return True

    @staticmethod
    def auto_device_count() -> int:
        return 1

    @staticmethod
    def parse_devices(devices: int | str | list[int]) -> list[int]:
        return device_indices(devices, 4, "fake device")

    @staticmethod
    def get_parallel_devices(devices: list[int]) -> list[torch.device]:
        return [torch.device("cpu") for _ in devices]

    def setup_device(self, device: torch.device) -> None:
        if device.type != "cpu":
            raise ValueError(f"the fake accelerator works on the CPU, not on {device}.")


@recording(Strategy)
class FakeStrategy(Recorded, Strategy):
    """One process, or, with `world_size`, one that believes the others hold what it holds itself."""

    capabilities = StrategyCapabilities()

    def __init__(self, world_size: int = 1, global_rank: int = 0, **parts: Any) -> None:
        super().__init__(**parts)
        self._world_size = world_size
        self._global_rank = global_rank

    @property
    def root_device(self) -> torch.device:
        return torch.device("cpu")

    @property
    def world_size(self) -> int:
        return self._world_size

    @property
    def global_rank(self) -> int:
        return self._global_rank

    def all_reduce(self, tensor: torch.Tensor, group: Any = None, reduce_op: str = "mean") -> torch.Tensor:
        return tensor * self._world_size if reduce_op == "sum" else tensor

    def all_gather(self, tensor: torch.Tensor, group: Any = None, sync_grads: bool = False) -> torch.Tensor:
        return tensor if self._world_size == 1 else torch.stack([tensor] * self._world_size)

    def broadcast(self, obj: Any, src: int = 0) -> Any:
        return obj

    def barrier(self, name: str | None = None) -> None:
        pass


class FakeDistributedStrategy(FakeStrategy):
    """A FakeStrategy that declares several processes, started by the fake launcher."""

    capabilities = StrategyCapabilities(distributed=True, launcher="fake")


@recording(Precision)
class FakePrecision(Recorded, Precision):
    """The neutral precision under another name."""

    precision = "fake"


@recording(Launcher)
class FakeLauncher(Recorded, Launcher):
    """Starts nothing: the function runs once, in this process."""

    @property
    def is_interactive_compatible(self) -> bool:
        return True

    def launch(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)


@recording(ClusterEnvironment)
class FakeEnvironment(Recorded, ClusterEnvironment):
    """A cluster of one process, that believes what it is told of its size and rank."""

    def __init__(self, external: bool = False) -> None:
        self._external = external
        self._size, self._rank = 1, 0

    @property
    def creates_processes_externally(self) -> bool:
        return self._external

    @property
    def main_address(self) -> str:
        return "127.0.0.1"

    @property
    def main_port(self) -> int:
        return 29500

    @staticmethod
    def detect() -> bool:
        return False

    def world_size(self) -> int:
        return self._size

    def global_rank(self) -> int:
        return self._rank

    def local_rank(self) -> int:
        return self._rank

    def node_rank(self) -> int:
        return 0

    def set_world_size(self, size: int) -> None:
        self._size = size

    def set_global_rank(self, rank: int) -> None:
        self._rank = rank


@recording(CheckpointIO)
class FakeCheckpointIO(Recorded, CheckpointIO):
    """Keeps copies of checkpoints in memory, by path."""

    def __init__(self) -> None:
        self.stored: dict[str, dict[str, Any]] = {}

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        self.stored[str(path)] = copy.deepcopy(checkpoint)

    def load_checkpoint(self, path: str | Path, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        if str(path) not in self.stored:
            raise CheckpointNotFoundError(f"there is no checkpoint {str(path)!r} in memory.")
        return copy.deepcopy(self.stored[str(path)])

    def remove_checkpoint(self, path: str | Path) -> None:
        self.stored.pop(str(path), None)


@recording(LayerSync)
class FakeLayerSync(Recorded, LayerSync):
    """Hands models through."""

    def apply(self, model: nn.Module) -> nn.Module:
        return model

    def revert(self, model: nn.Module) -> nn.Module:
        return model


@recording(Logger)
class FakeLogger(Recorded, Logger):
    """Keeps what it is given: `metrics` as (step, values), `hyperparams` as they came."""

    def __init__(self, name: str = "fake", version: int | str = 0, save_dir: str | None = None) -> None:
        self._name, self._version, self._save_dir = name, version, save_dir
        self.metrics: list[tuple[int | None, dict[str, float]]] = []
        self.hyperparams: list[Any] = []

    @property
    def name(self) -> str:
        return self._name

    @property
    def version(self) -> int | str:
        return self._version

    @property
    def save_dir(self) -> str | None:
        return self._save_dir

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        self.metrics.append((step, dict(metrics)))

    def log_hyperparams(self, params: Mapping[str, Any], *args: Any, **kwargs: Any) -> None:
        self.hyperparams.append(params)


@recording(Profiler)
class FakeProfiler(Recorded, Profiler):
    """Measures nothing, and is active, so that all actions come by."""

    def start(self, action_name: str) -> None:
        pass

    def stop(self, action_name: str) -> None:
        pass


@recording(Callback)
class FakeCallback(Recorded, Callback):
    """Listens to every event."""

    def listens_to(self, event: str) -> bool:
        return True


class FakePlugin:
    """The plugin object that registers every fake as `"fake"` (and `"fake_distributed"`), standing for every automatic choice."""

    lx_api = 1

    @hookimpl
    def lx_register(self, registry: Registry) -> None:
        """Registers the fakes."""
        registry.accelerator.add("fake", FakeAccelerator, roles={"auto": 1, "gpu": 1}, summary="four fake devices")
        registry.strategy.add("fake", FakeStrategy, roles={"one-device": 1}, summary="one process")
        registry.strategy.add("fake_distributed", FakeDistributedStrategy, roles={"many-devices": 1}, summary="several processes")
        registry.precision.add("fake", FakePrecision, summary="the neutral precision")
        registry.launcher.add("fake", FakeLauncher, summary="starts nothing")
        registry.environment.add("fake", FakeEnvironment, roles={"default": 1}, summary="a cluster of one process")
        registry.checkpoint_io.add("fake", FakeCheckpointIO, roles={"default": 1}, summary="checkpoints in memory")
        registry.layer_sync.add("fake", FakeLayerSync, roles={"sync-batchnorm": 1}, summary="hands models through")
        registry.logger.add("fake", FakeLogger, roles={"default": 1}, summary="keeps metrics in memory")
        registry.profiler.add("fake", FakeProfiler, summary="measures nothing")
        registry.callback.add("fake", FakeCallback, summary="listens to everything")


def fake_plugin_manager(
    components: Mapping[str, Mapping[str, Any]] | None = None, *, distribution: str = "lx-plugin-fake", installed: bool = False
) -> PluginManager:
    """A plugin manager with the fakes (registered by `lx-plugin-fake`), and what lx-core registers itself.

    `components` are further ones, by kind and name, registered by `distribution`: `{"callback": {"mine": MyCallback}}`.
    With `installed`, the plugins that are really installed are there too.

    >>> manager = fake_plugin_manager({"callback": {"mine": FakeCallback}})
    >>> manager.registry.callback.names(), manager.registry.precision.names()
    (['fake', 'mine'], ['32-true', 'fake'])
    """
    manager = PluginManager(entry_points=None if installed else [])
    if not installed:
        manager.register(neutral, CORE)
    manager.register(FakePlugin(), "lx-plugin-fake")
    with manager.registry.provided_by(distribution):
        for kind, named in (components or {}).items():
            for name, target in named.items():
                manager.registry.kind(kind).add(name, target)
    return manager
