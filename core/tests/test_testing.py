"""What lx ships for tests: the fakes, the fixtures, `requires`, the bound on skips, and the base of the conformance suites."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import lx.testing
from lx import Trainer
from lx.kernel import KINDS, PluginManager
from lx.kernel.errors import CheckpointNotFoundError, UnknownComponentError
from lx.testing import FakeCallback, FakeCheckpointIO, FakeLogger, FakeStrategy, TinyDataModule, TinyModule, fake_plugin_manager
from lx.testing.conformance.component import Conformance, build
from lx.testing.fixtures import Distributions
from lx.testing.requires import missing, requires


def test_the_names_are_sorted_and_resolve() -> None:
    assert sorted(lx.testing.__all__) == lx.testing.__all__ == dir(lx.testing)
    for name in lx.testing.__all__:
        assert getattr(lx.testing, name).__name__ == name
    assert not hasattr(lx.testing, "NoSuchFake")


# -- fakes -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_there_is_a_fake_of_each_kind_that_implements_its_interface(plugin_manager: PluginManager, kind: str) -> None:
    registry = plugin_manager.registry.kind(kind)
    extra = {"environment": None, "num_processes": 1} if kind == "launcher" else {}
    fake = registry.build("fake", **extra)
    assert isinstance(fake, registry.interface)
    assert fake.calls == []


def test_fakes_record_calls_with_their_arguments() -> None:
    logger = FakeLogger()
    logger.log_metrics({"loss": 1.0}, step=3)
    logger.log_metrics(metrics={"loss": 0.5}, step=4)
    logger.finalize("success")
    assert logger.called() == ["log_metrics", "log_metrics", "finalize"]
    assert logger.called("log_metrics")[0] == ("log_metrics", ({"loss": 1.0},), {"step": 3})
    assert logger.metrics == [(3, {"loss": 1.0}), (4, {"loss": 0.5})]
    logger.calls.clear()
    assert logger.called() == []
    assert FakeLogger().calls == []  # each has its own


def test_a_fake_callback_hears_every_event_and_a_subclass_too() -> None:
    class Mine(FakeCallback):
        def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
            super().on_fit_start(trainer, pl_module)

    from lx.interfaces import EVENTS

    callback = Mine()
    assert all(callback.listens_to(event) for event in EVENTS)
    callback.on_fit_start(None, None)
    callback.on_train_end(None, None)
    assert callback.called() == ["listens_to"] * len(EVENTS) + ["on_fit_start", "on_train_end"]


def test_the_fake_strategy() -> None:
    one = torch.tensor([1.0, 2.0])
    assert FakeStrategy().all_gather(one) is one
    assert FakeStrategy(world_size=3).all_gather(one).shape == (3, 2)
    assert FakeStrategy(world_size=3).all_reduce(one, reduce_op="sum").tolist() == [3.0, 6.0]
    assert FakeStrategy(world_size=3).all_reduce(one).tolist() == [1.0, 2.0]
    assert (FakeStrategy(2, 1).is_global_zero, FakeStrategy().is_global_zero) == (False, True)
    assert FakeStrategy(2, 1).distributed_sampler_kwargs == {"num_replicas": 2, "rank": 1}


def test_the_fake_checkpoint_io_keeps_copies(tmp_path: Path) -> None:
    io, weights = FakeCheckpointIO(), {"w": torch.ones(2)}
    io.save_checkpoint(weights, tmp_path / "a.ckpt")
    weights["w"].zero_()
    assert io.load_checkpoint(tmp_path / "a.ckpt")["w"].tolist() == [1.0, 1.0]
    io.remove_checkpoint(tmp_path / "a.ckpt")
    with pytest.raises(CheckpointNotFoundError, match="there is no checkpoint"):
        io.load_checkpoint(tmp_path / "a.ckpt")
    assert list(tmp_path.iterdir()) == []


def test_fake_accelerators_setup_their_device_only(plugin_manager: PluginManager) -> None:
    accelerator = plugin_manager.registry.accelerator.build("fake")
    accelerator.setup_device(torch.device("cpu"))
    with pytest.raises(ValueError, match="works on the CPU, not on meta"):
        accelerator.setup_device(torch.device("meta"))
    assert accelerator.parse_devices("0,2") == [0, 2]


def test_layers_and_launches_pass_through(plugin_manager: PluginManager) -> None:
    layer = nn.BatchNorm1d(2)
    sync = plugin_manager.registry.layer_sync.build("fake")
    assert sync.revert(sync.apply(layer)) is layer
    launcher = plugin_manager.registry.launcher.build("fake", environment=None, num_processes=2)
    assert launcher.launch(max, 3, 5) == 5
    assert launcher.called() == ["launch"]


def test_the_builder_adds_components_of_a_test() -> None:
    class Mine(FakeCallback): ...

    manager = fake_plugin_manager({"callback": {"mine": Mine}}, distribution="acme")
    assert manager.registry.callback.find("mine").provider == "acme"
    assert manager.registry.callback.find("fake").provider == "lx-plugin-fake"
    assert manager.registry.precision.find("32-true").provider == "lx-core"
    assert [entry.name for entry in manager.registry.strategy.standing_for("one-device")] == ["fake"]
    with pytest.raises(UnknownComponentError):
        fake_plugin_manager().registry.callback.get("mine")


def test_the_builder_beside_what_is_installed() -> None:
    manager = fake_plugin_manager(installed=True)
    assert "32-true" in manager.registry.precision
    assert "lx-core" in [plugin.distribution for plugin in manager.plugins]
    assert "fake" in manager.registry.logger


# -- a run on fakes alone --------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:an epoch has 4 training batches")
def test_a_run_whose_every_part_is_a_fake(plugin_manager: PluginManager, tiny_module: TinyModule, tiny_data: TinyDataModule) -> None:
    trainer = Trainer(manager=plugin_manager, max_epochs=2, callbacks="fake", profiler="fake", precision="fake", enable_progress_bar=False)
    before = tiny_module.loss(next(iter(tiny_data.val_dataloader()))).item()
    trainer.fit(tiny_module, tiny_data)
    assert trainer.global_step == 8
    assert tiny_module.loss(next(iter(tiny_data.val_dataloader()))).item() < before
    heard = trainer.callbacks[0].called()
    assert heard.count("on_train_batch_end") == 8
    assert heard.count("on_validation_epoch_end") == 3
    assert {"train_loss_epoch", "val_loss"} <= {name for _, metrics in trainer.logger.metrics for name in metrics}
    assert "optimizer_step" in trainer.strategy.precision.called()
    assert "setup_environment" in trainer.strategy.called()
    assert [set(row) for row in trainer.test(tiny_module, tiny_data, verbose=False)] == [{"test_loss"}]
    assert [row.shape for row in trainer.predict(tiny_module, tiny_data)] == [(4, 1)] * 4


# -- fixtures --------------------------------------------------------------------------------------------------------------


def test_distributions_are_importable_until_the_test_ends(make_distribution: Distributions) -> None:
    folder = make_distribution("acme-clay", {"clay_fixture.py": "lx_api = 1\nvalue = 7"}, version="1.2", requires=("one", "two>=3"))
    import clay_fixture
    from importlib_metadata import distribution

    assert clay_fixture.value == 7
    assert (distribution("acme-clay").version, distribution("acme-clay").requires) == ("1.2", ["one", "two>=3"])
    assert [(point.name, point.value) for point in make_distribution.entry_points()] == [("clay_fixture", "clay_fixture")]
    assert make_distribution.path == str(folder)
    assert [plugin.slug for plugin in make_distribution.manager().survey()] == ["clay_fixture"]


def test_nothing_of_the_previous_test_is_left() -> None:
    from importlib_metadata import PackageNotFoundError, distribution

    assert "clay_fixture" not in sys.modules
    with pytest.raises(PackageNotFoundError):
        distribution("acme-clay")


# -- requires ----------------------------------------------------------------------------------------------------------------


def test_requires_what_is_there() -> None:
    assert missing("torch>=2.9", "pluggy") == ""
    assert requires("torch>=2.9", processes=2).args == (False,)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"modules": ("no-such-package>=2",)}, "it requires no-such-package>=2, which is not installed"),
        ({"modules": ("pluggy>=900",)}, "it requires pluggy>=900, and "),
        ({"modules": ("a-missing", "b-missing")}, "a-missing, which is not installed; it requires b-missing, which is not"),
        ({"device": "no_such_device"}, "it requires the accelerator 'no_such_device': there is no accelerator 'no_such_device'"),
    ],
)
def test_requires_what_is_not_there(arguments: dict[str, Any], reason: str) -> None:
    mark = requires(*arguments.pop("modules", ()), **arguments)
    assert mark.args == (True,)
    assert reason in mark.kwargs["reason"]


def test_requires_devices_of_an_accelerator(make_distribution: Distributions) -> None:
    source = """
        from lx.kernel import hookimpl
        lx_api = 1
        @hookimpl
        def lx_register(registry):
            registry.accelerator.add("wheel", "wheels:Wheel")
            registry.accelerator.add("flat", "wheels:Flat")
        class Wheel:
            is_available = staticmethod(lambda: True)
            parse_devices = staticmethod(lambda devices: [0, 1])
        class Flat:
            is_available = staticmethod(lambda: False)
    """
    make_distribution("acme-wheels", {"wheels.py": source})
    assert missing(device="wheel") == missing(device="wheel", devices=2) == ""
    assert missing(device="wheel", devices=3) == "it requires 3 devices of 'wheel', and this machine has 2"
    assert missing(device="flat") == "it requires the accelerator 'flat', and this machine has no such device that torch can use"


SKIPPING = """
import pytest
from lx.testing.requires import requires

@requires("no-such-package")
def test_one(): ...

@requires("other-package")
def test_two(): ...

def test_three(): ...
"""


@pytest.mark.parametrize(
    ("options", "code"),
    [([], 0), (["--skips-at-most", "2"], 0), (["--skips-at-most", "1"], 1), (["-o", "skips_at_most=1"], 1), (["-o", "skips_at_most=2"], 0)],
)
def test_the_bound_on_skips(tmp_path: Path, options: list[str], code: int) -> None:
    (tmp_path / "test_skipping.py").write_text(SKIPPING, "utf-8")
    (tmp_path / "pytest.ini").write_text("[pytest]\n", "utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "lx.testing.skips", "-p", "no:cacheprovider", *options]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stdout
    assert ("too many skips" in done.stdout) is bool(code)
    if code:
        assert "2 tests were skipped, and 1 may be" in done.stdout
        assert "test_skipping.py::test_two: " in done.stdout
        assert "it requires other-package, which is not installed" in done.stdout


# -- the base of the conformance suites ------------------------------------------------------------------------------------------


class TestNeutralPrecision(Conformance):
    """The base itself, on the one component that lx-core brings."""

    component = "32-true"
    kind = "precision"

    def test_it_is_built_anew_for_each_test(self, built: Any) -> None:
        assert built.precision == "32-true"
        assert self.build() is not built


def test_build_raises_like_the_registry() -> None:
    with pytest.raises(UnknownComponentError, match="there is no precision 'no_such'"):
        build("no_such", "precision")
