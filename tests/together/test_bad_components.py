"""Parts of a Trainer that cannot be had, or do not go together: the error, what it says, and that nothing was made before."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch

import lx
from lx import Callback, Trainer
from lx.interfaces.layer_sync import LayerSync
from lx.kernel import PluginManager, default_manager
from lx.kernel.errors import (
    BlockedError,
    CollisionError,
    ComponentArgumentError,
    ComponentStringError,
    ComponentTypeError,
    MisconfigurationException,
    NotInstalledError,
    UnknownComponentError,
)
from lx.strategies import DDPStrategy, SingleDeviceStrategy

INSTALLED = {
    "accelerator": "cpu, cuda, mps",
    "strategy": "ddp, ddp_find_unused_parameters_false, ddp_find_unused_parameters_true, single_device",
    "precision": "16-mixed, 16-true, 32-true, 64-true, bf16-mixed, bf16-true",
    "logger": "comet, csv, mlflow, tensorboard",
    "profiler": "passthrough, simple",
    "callbacks": "batch_size_finder, data_ledger, early_stopping, guard, ",
}


class Recorder(Callback):
    """Counts how many of it were made."""

    made: ClassVar[list["Recorder"]] = []

    def __init__(self) -> None:
        self.made.append(self)


class Sync(LayerSync):
    """Changes nothing."""

    def apply(self, model: Any) -> Any:
        return model

    def revert(self, model: Any) -> Any:
        return model


@pytest.fixture(autouse=True)
def nothing_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A component that would be made, and is not; nor is there a file or a process group afterwards."""
    lx.registry.callback.add("recorder", Recorder)
    Recorder.made.clear()
    monkeypatch.chdir(tmp_path)
    yield
    assert Recorder.made == []
    assert os.listdir(tmp_path) == []
    assert not torch.distributed.is_initialized()


def refused(error: Any, **arguments: Any) -> str:
    """What is said when a Trainer is made with such parts."""
    given = arguments.pop("callbacks", [])
    callbacks = ["recorder", *given] if isinstance(given, list) else given
    with pytest.raises(error) as caught:
        Trainer(**{"accelerator": "cpu", "logger": False, **arguments, "callbacks": callbacks})
    return str(caught.value)


# -- names ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argument", "given", "nearest"),
    [
        ("accelerator", "cppu", "Did you mean 'cpu'?"),
        ("accelerator", "abacus", ""),
        ("strategy", "dpp", "Did you mean 'ddp'?"),
        ("strategy", "abacus", ""),
        ("precision", "16-mixd", "Did you mean '16-mixed'?"),
        ("precision", "fp16", "Did you mean 'bf16-mixed' or '16-mixed'?"),
        ("precision", 17, ""),
        ("logger", "csvv", "Did you mean 'csv'?"),
        ("logger", ["csv", "tensor-bord"], "Did you mean 'tensorboard'?"),
        ("profiler", "simpel", "Did you mean 'simple'?"),
        ("callbacks", ["early_stoping(monitor='x')"], "Did you mean 'early_stopping'?"),
        ("callbacks", [{"early_stoping": {"monitor": "x"}}], "Did you mean 'early_stopping'?"),
        ("callbacks", ["abacus"], ""),
    ],
)
def test_an_unknown_name_is_told_with_the_nearest_and_what_is_installed(argument: str, given: Any, nearest: str) -> None:
    message = refused(UnknownComponentError, **{argument: given})
    unknown = (given[-1] if isinstance(given, list) else given) if not isinstance(given, list | int) or argument == "logger" else ""
    assert message.startswith(f"there is no {argument.removesuffix('s')} {unknown and repr(unknown)}")
    assert nearest in message
    assert ("Did you mean" in message) == bool(nearest)
    assert f"Installed: {INSTALLED[argument]}" in message
    refused(ValueError, **{argument: given})
    refused(MisconfigurationException, **{argument: given})


def test_a_plugin_that_is_known_and_not_installed_comes_with_its_command() -> None:
    nothing = PluginManager(entry_points=[])
    with pytest.raises(NotInstalledError, match=r"pip install lx-plugin-ddp"):
        nothing.registry.strategy.find("ddp")
    with pytest.raises(ModuleNotFoundError, match=r"pip install lx-standard"):
        Trainer(manager=nothing)


def test_a_plugin_that_was_kept_out_says_by_what(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LX_DISABLE", "csv")
    default_manager.cache_clear()
    with pytest.raises(BlockedError, match=r"'csv'.*LX_DISABLE"):
        Trainer(accelerator="cpu", logger="csv")


@pytest.mark.parametrize(
    ("name", "slug"), [("async_io", "async-io"), ("safetensors_io(verify=False)", "safetensors-io"), ("16-mixed", "amp")]
)
def test_an_entry_of_plugins_whose_plugin_is_kept_out_says_so_too(name: str, slug: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LX_DISABLE", slug)
    default_manager.cache_clear()
    with pytest.raises(BlockedError, match=rf"{slug}.*LX_DISABLE"):
        Trainer(accelerator="cpu", plugins=name)


def test_two_plugins_with_one_name_are_told_apart_by_the_distribution() -> None:
    class EarlyStopping(Recorder):
        """Another one."""

    lx.registry.callback.add("early_stopping", EarlyStopping)
    message = refused(CollisionError, callbacks=["early_stopping(monitor='x')"])
    assert "'early_stopping' is offered by 'lx-plugin-early-stopping' and 'this-program'" in message
    assert "Say which one you mean: 'early_stopping@lx-plugin-early-stopping' or 'early_stopping@this-program'" in message
    refused(ValueError, callbacks=["early_stopping(monitor='x')"])
    qualified = Trainer(accelerator="cpu", barebones=True, callbacks="early_stopping@lx-plugin-early-stopping(monitor='x')")
    assert type(qualified.callbacks[0]).__module__.startswith("lx_plugin_early_stopping")


# -- component strings ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("early_stopping", r"'early_stopping': missing a required argument: 'monitor'.* It accepts: monitor, min_delta, patience"),
        (
            "early_stopping(monitor='x', patiens=3)",
            r"unexpected keyword argument 'patiens'\. Did you mean 'patience'\? It accepts: monitor",
        ),
        ({"early_stopping": {"monitor": "x", "zzz": 3}}, r"unexpected keyword argument 'zzz'\. It accepts: monitor"),
        ("timer(1, 2, 3, 4, 5, 6)", r"'timer': too many positional arguments.* It accepts: duration"),
    ],
)
def test_a_wrong_argument_in_a_component_string_is_told_with_those_that_are_accepted(given: Any, said: str) -> None:
    with pytest.raises(ComponentArgumentError, match=said):
        Trainer(accelerator="cpu", logger=False, callbacks=["recorder", given])
    refused(TypeError, callbacks=[given])
    refused(MisconfigurationException, callbacks=[given])


@pytest.mark.parametrize(
    ("written", "fault"),
    [
        ("early_stopping(monitor=val)", "'val', which is no literal"),
        ("early_stopping(monitor='x', min_delta=1/2)", "'1/2', which is no literal"),
        ("early_stopping(monitor=open('/etc/passwd').read())", "which is no literal"),
        ("early_stopping(monitor=__import__('os').getcwd())", "which is no literal"),
        ("early_stopping(*['x'])", "unpacks arguments; write each one out"),
        ("early_stopping(monitor='x', monitor='y')", "gives the argument 'monitor' twice"),
        ("early_stopping(monitor='x'", "is not a component string. Write it as 'early_stopping'"),
        ("early stopping", "is not a component string. Write it as 'early_stopping'"),
        ("", "is not a component string. Write it as 'early_stopping'"),
        (
            {"early_stopping": {"monitor": "x"}, "timer": {}},
            "must have one key, the component's name. Several components are given as a list",
        ),
        ({"early_stopping": ["x"]}, "must be a mapping of names to values"),
        ({}, "must have one key"),
    ],
)
def test_what_is_no_component_string_is_told_with_the_argument_and_the_forms(written: Any, fault: str) -> None:
    message = refused(ComponentStringError, callbacks=[written])
    assert message.startswith("callbacks: ")
    assert fault in message
    refused(ValueError, callbacks=[written])


def test_a_path_in_the_place_of_a_logger_is_told_with_the_loggers_that_there_are() -> None:
    message = refused(ComponentStringError, logger="/tmp/logs")
    assert message.startswith("logger: '/tmp/logs' is not a component string.")
    assert message.endswith(f"Installed: {INSTALLED['logger']}.")


def test_a_value_that_a_component_refuses_is_told_with_the_component() -> None:
    with pytest.raises(MisconfigurationException, match=r"mode='best': it must be 'min' or 'max'") as caught:
        Trainer(accelerator="cpu", logger=False, callbacks="early_stopping(monitor='x', mode='best')")
    assert caught.value.__notes__ == ["This came from the callback \"early_stopping(monitor='x', mode='best')\"."]


# -- objects ---------------------------------------------------------------------------------------------------------------------


class Look(Callback):
    """A callback of the user's."""


class ForeignCallback:
    """As one of another library: of the same name, and no callback of lx."""


ForeignCallback.__name__ = "Callback"


@pytest.mark.parametrize(
    ("argument", "given", "said"),
    [
        ("accelerator", 1, "accelerator: 1 is no name, component string or mapping, and no Accelerator object. Installed: cpu, cuda, mps."),
        ("accelerator", None, "accelerator: None is no name"),
        ("strategy", None, "strategy: None is no name"),
        ("strategy", DDPStrategy, "Did you mean DDPStrategy(...)?"),
        ("strategy", ["ddp"], "Give one, not a collection."),
        ("precision", 16.0, "precision: 16.0 is no name"),
        ("precision", torch.float16, "precision: torch.float16 is no name"),
        ("precision", True, "precision: True is no name"),
        ("logger", 1, "logger: 1 is no name"),
        ("logger", [None], "logger: None is no name"),
        ("logger", [True], "logger: True is no name"),
        ("profiler", True, "profiler: True is no name"),
        ("callbacks", Look, "Did you mean Look(...)?"),
        ("callbacks", [Look], "Did you mean Look(...)?"),
        ("callbacks", [3], "callbacks: 3 is no name, component string or mapping, and no Callback object."),
        ("callbacks", [None], "callbacks: None is no name"),
        ("callbacks", [[Look()]], "Give one, not a collection."),
        ("callbacks", True, "callbacks: True is no name"),
        ("callbacks", [ForeignCallback()], "which is another library; lx needs its own."),
        ("plugins", [3], "plugins: 3 is no registered name, and no object of Precision, CheckpointIO, ClusterEnvironment, LayerSync."),
        ("plugins", Sync, "Did you mean Sync(...)?"),
        ("plugins", "16-tru", "Did you mean '16-true'? Installed: precision: 16-mixed, "),
        ("plugins", Look(), "is no registered name, and no object of Precision"),
    ],
)
def test_an_object_that_is_no_component_is_told_with_what_would_be_one(argument: str, given: Any, said: str) -> None:
    message = refused(ComponentTypeError, **{argument: given})
    assert message.startswith(f"{argument}: ")
    assert said in message
    for builtin in (TypeError, ValueError, MisconfigurationException):  # what Lightning raises differs from one to the other
        refused(builtin, **{argument: given})


def test_any_iterable_of_components_is_as_good_as_a_list() -> None:
    trainer = Trainer(accelerator="cpu", barebones=True, callbacks=(Look() for _ in range(1)))
    assert [type(callback) for callback in trainer.callbacks] == [Look]


# -- devices -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["cuda", "mps"])
def test_an_accelerator_that_is_not_here_is_told_with_those_that_are(name: str) -> None:
    if lx.registry.accelerator.get(name).is_available():
        pytest.skip(f"this machine has a {name} device")
    message = refused(MisconfigurationException, accelerator=name)
    assert message.startswith(f"accelerator={name!r}: this machine has no such device that torch can use. Choose one of those")
    assert "cpu" in message


def test_a_gpu_that_is_not_here_is_told_with_why_each_was_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("cuda", "mps"):
        monkeypatch.setattr(lx.registry.accelerator.get(name), "is_available", staticmethod(lambda: False))
    message = refused(MisconfigurationException, accelerator="gpu")
    assert message.startswith("accelerator='gpu': no accelerator can be used: mps (no such device here); cuda (no such device here).")
    assert "Choose one of those that can be used here (cpu), or 'auto'" in message


# -- parts that do not go together -------------------------------------------------------------------------------------------------

GPU = torch.device("cuda", 0)


def part(kind: str, name: str) -> Any:
    """A component that a strategy may bring along."""
    return lx.registry.kind(kind).build(name)


def test_a_precision_is_given_once() -> None:
    message = refused(ValueError, precision="16-true", plugins=[part("precision", "bf16-true")])
    assert message == "precision='16-true' and a precision in plugins: give one of the two."
    assert "is the second precision" in refused(MisconfigurationException, plugins=["16-true", "bf16-true"])


@pytest.mark.parametrize(
    ("brought", "kind", "name", "beside"),
    [
        ("accelerator", "accelerator", "cpu", {"accelerator": "cpu"}),
        ("precision_plugin", "precision", "16-true", {"precision": "16-true"}),
        ("precision_plugin", "precision", "16-true", {"plugins": "16-true"}),
        ("checkpoint_io", "checkpoint_io", "torch_io", {"plugins": "torch_io"}),
        ("cluster_environment", "environment", "local", {"plugins": "local"}),
    ],
)
def test_a_part_is_given_in_the_strategy_or_beside_it(brought: str, kind: str, name: str, beside: dict[str, Any]) -> None:
    strategy = DDPStrategy(**{brought: part(kind, name)})
    message = refused(MisconfigurationException, **{"accelerator": "auto", **beside, "strategy": strategy})
    assert message.startswith(f"{brought.removesuffix('_plugin')} is given twice: in the strategy DDPStrategy and beside it; give it once.")


@pytest.mark.parametrize(
    ("strategy", "arguments"),
    [
        (DDPStrategy(parallel_devices=[GPU]), {"accelerator": "cpu"}),
        (SingleDeviceStrategy(GPU), {"accelerator": "cpu"}),
        (DDPStrategy(parallel_devices=[torch.device("cpu")] * 2), {"devices": 3}),
    ],
)
def test_the_devices_of_a_strategy_agree_with_what_is_asked_for(strategy: Any, arguments: dict[str, Any]) -> None:
    message = refused(MisconfigurationException, strategy=strategy, **arguments)
    assert "do not go with the devices of the strategy" in message
    assert message.endswith("; give them once.")


def test_devices_that_a_strategy_brings_are_the_devices() -> None:
    trainer = Trainer(barebones=True, strategy=DDPStrategy(parallel_devices=[torch.device("cpu")] * 2))
    assert (trainer.num_devices, trainer.world_size, trainer.fabric.launcher.num_processes) == (2, 2, 2)


def test_a_strategy_that_does_not_run_on_an_accelerator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lx.registry.accelerator.get("mps"), "is_available", staticmethod(lambda: True))
    message = refused(ValueError, accelerator="mps", strategy="ddp")
    assert message.startswith("strategy='ddp' does not run on accelerator='mps', only on cpu, cuda, ")


def test_one_device_alone_for_a_strategy_of_one() -> None:
    message = refused(MisconfigurationException, strategy="single_device", devices=2)
    assert "strategy='single_device' works on one device, and devices=2, num_nodes=1 ask for 2; give devices=1 or a strategy for" in message


def test_synchronised_batch_norm_of_two_kinds() -> None:
    message = refused(MisconfigurationException, sync_batchnorm=True, plugins=Sync(), strategy="ddp")
    assert message == "sync_batchnorm=True and another layer sync in plugins exclude each other; give one of the two."


TYPED_IN = """
from lx import Trainer
from lx.testing import TinyDataModule, TinyModule

class Module(TinyModule):
    def prepare_data(self):
        print("CALLED")

trainer = Trainer(accelerator="cpu", devices=2, strategy="ddp", barebones=True)
try:
    trainer.fit(Module(), TinyDataModule())
except Exception as error:
    print(type(error).__name__, error)
"""


def test_a_program_that_was_typed_in_cannot_be_run_again_for_each_device() -> None:
    done = subprocess.run([sys.executable, "-"], input=TYPED_IN, capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout.startswith("MisconfigurationException strategy='ddp' runs the program's command again for each device"), done.stderr
    assert "Save it as a file and run that, or use devices=1." in done.stdout
    assert "CALLED" not in done.stdout
