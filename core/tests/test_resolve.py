"""From a request to the parts of a run: each decision, its reason, and what was passed over."""

from typing import Any

import pytest
import torch

from lx import Callback
from lx.interfaces.accelerator import AcceleratorCapabilities
from lx.interfaces.precision import Precision
from lx.interfaces.strategy import StrategyCapabilities
from lx.kernel import PluginManager
from lx.kernel.errors import (
    CollisionError,
    ComponentArgumentError,
    ComponentTypeError,
    MisconfigurationException,
    NotInstalledError,
    UnknownComponentError,
)
from lx.resolution.request import Request, Resolution
from lx.resolution.resolve import resolve
from lx.testing import (
    FakeAccelerator,
    FakeCallback,
    FakeCheckpointIO,
    FakeDistributedStrategy,
    FakeEnvironment,
    FakeLayerSync,
    FakeLogger,
    FakePrecision,
    FakeProfiler,
    FakeStrategy,
)


def resolved(manager: PluginManager, **asked: Any) -> Resolution:
    return resolve(Request(**asked), manager.registry)


def decisions(manager: PluginManager, **asked: Any) -> dict[str, tuple[str, str, str]]:
    """Choice, provider and reason by topic."""
    return {topic: rest for topic, *rest in map(list, resolved(manager, **asked).decisions) for rest in [tuple(rest)]}


BEST = "the best that is installed"
FAKES = "lx-plugin-fake"

# -- the whole ---------------------------------------------------------------------------------------------------------------


class Bar(FakeCallback):
    roles = frozenset({"progress-bar"})


class Summary(FakeCallback):
    roles = frozenset({"model-summary"})


class Saves(FakeCallback):
    roles = frozenset({"checkpoint"})


class Clock(Callback):
    roles = frozenset({"timer"})

    def __init__(self, duration: Any = None, interval: str = "epoch") -> None:
        self.duration, self.interval = duration, interval


@pytest.fixture
def manager(plugin_manager: PluginManager) -> PluginManager:
    """The fakes, and a callback for each role that a Trainer looks for."""
    with plugin_manager.registry.provided_by("acme"):
        for name, cls in (("bar", Bar), ("summary", Summary), ("saves", Saves), ("clock", Clock)):
            (role,) = cls.roles
            plugin_manager.registry.callback.add(name, cls, roles={role: 5})
    return plugin_manager


def test_explain_says_of_each_part_what_it_is_who_provides_it_and_why(manager: PluginManager) -> None:
    text = resolved(manager, callbacks=["fake", FakeCallback()], precision="fake").explain()
    assert text.splitlines() == [
        "what            choice        provided by     why",
        "accelerator     fake          lx-plugin-fake  the best that is installed",
        "devices         1 (index 0)   lx-plugin-fake  devices='auto' is 1 on fake",
        "strategy        fake          lx-plugin-fake  1 device(s) on 1 node(s); the best that is installed",
        "precision       fake          lx-plugin-fake  precision='fake'",
        "environment     -             -               no cluster was detected, and fake works in one process",
        "launcher        -             -               fake starts no processes",
        "checkpoint I/O  fake          lx-plugin-fake  the best that is installed",
        "layer sync      -             -               sync_batchnorm=False",
        "profiler        passthrough   lx-core         the best that is installed",
        "logger          fake          lx-plugin-fake  the best that is installed",
        "callback        fake          lx-plugin-fake  callbacks='fake'",
        "callback        FakeCallback  lx-plugin-fake  an instance was given",
        "progress bar    bar           acme            the best that is installed",
        "model summary   summary       acme            the best that is installed",
        "checkpoint      saves         acme            the best that is installed",
    ]


def test_a_run_on_several_devices_needs_an_environment_and_a_launcher(manager: PluginManager) -> None:
    found = decisions(manager, devices=2)
    assert found["devices"] == ("2 (index 0, 1)", FAKES, "devices=2")
    assert found["strategy"] == ("fake_distributed", FAKES, f"2 device(s) on 1 node(s); {BEST}")
    assert found["environment"] == ("fake", FAKES, f"no cluster was detected; {BEST}")
    assert found["launcher"] == ("fake", FAKES, "fake_distributed starts its processes with it")
    assert decisions(manager, num_nodes=3)["strategy"][2] == f"1 device(s) on 3 node(s); {BEST}"


def test_each_decision_is_traced_when_it_is_made_also_of_a_run_that_is_refused(manager: PluginManager) -> None:
    lines: list[str] = []
    with pytest.raises(UnknownComponentError):
        resolve(Request(strategy="no_such"), manager.registry, lines.append)
    assert lines == [
        f"choice accelerator: fake ({FAKES}), the best that is installed",
        f"choice devices: 1 (index 0) ({FAKES}), devices='auto' is 1 on fake",
    ]


def test_nothing_is_built(manager: PluginManager) -> None:
    made: list[str] = []
    kinds = {"strategy": "many-devices", "precision": "default", "environment": "default", "logger": "default", "callback": "progress-bar"}
    fakes = {
        "strategy": FakeDistributedStrategy,
        "precision": FakePrecision,
        "environment": FakeEnvironment,
        "logger": FakeLogger,
        "callback": Bar,
    }
    for kind, role in kinds.items():
        noting = {"__init__": lambda self, kind=kind, **options: made.append(kind)}
        manager.registry.kind(kind).add("noting", type("Noting", (fakes[kind],), noting), roles={role: 9})
    resolution = resolved(manager, devices=2)
    assert made == []
    for choice in (resolution.strategy, resolution.precision, resolution.environment, *resolution.loggers):
        choice.make()
    assert made == ["strategy", "precision", "environment", "logger"]


# -- defaults ----------------------------------------------------------------------------------------------------------------


def test_the_highest_rank_wins_and_equal_ranks_go_by_name(manager: PluginManager) -> None:
    manager.registry.logger.add("better", FakeLogger, roles={"default": 2})
    assert decisions(manager)["logger"] == ("better", "this-program", BEST)
    manager.registry.logger.add("also", FakeLogger, roles={"default": 2})
    assert decisions(manager)["logger"][0] == "also"


@pytest.mark.parametrize(
    ("kind", "role", "topic"),
    [
        ("accelerator", "auto", "accelerator"),
        ("strategy", "one-device", "strategy"),
        ("precision", "default", "precision"),
        ("checkpoint_io", "default", "checkpoint I/O"),
        ("profiler", "default", "profiler"),
        ("logger", "default", "logger"),
        ("callback", "progress-bar", "progress bar"),
    ],
)
def test_a_better_default_that_is_broken_is_passed_over_with_its_reason(manager: PluginManager, kind: str, role: str, topic: str) -> None:
    before = decisions(manager)[topic]
    manager.registry.kind(kind).add("better", "lx_no_such_module:Class", roles={role: 9})
    choice, provider, reason = decisions(manager)[topic]
    assert (choice, provider) == before[:2]
    assert "passed over: better (" in reason
    assert "cannot be imported from 'lx_no_such_module:Class': ModuleNotFoundError" in reason


def test_so_is_one_that_needs_arguments_or_fails_when_it_is_asked(manager: PluginManager) -> None:
    class Needs(FakeLogger):
        def __init__(self, url: str) -> None: ...

    class Raises(FakeAccelerator):
        @staticmethod
        def is_available() -> bool:
            raise OSError("the driver is gone")

    manager.registry.logger.add("needs", Needs, roles={"default": 9})
    manager.registry.accelerator.add("raises", Raises, roles={"auto": 9})
    found = decisions(manager)
    assert found["logger"][0] == "fake"
    assert "passed over: needs (the logger 'needs': missing a required argument: 'url'" in found["logger"][2]
    assert found["accelerator"] == ("fake", FAKES, f"{BEST}; passed over: raises (OSError: the driver is gone)")


def test_an_accelerator_that_is_absent_is_passed_over_and_refused_where_it_was_asked_for(manager: PluginManager) -> None:
    class Absent(FakeAccelerator):
        @staticmethod
        def is_available() -> bool:
            return False

    manager.registry.accelerator.add("absent", Absent, roles={"auto": 9, "gpu": 9})
    for role in ("auto", "gpu", " GPU "):
        assert decisions(manager, accelerator=role)["accelerator"] == ("fake", FAKES, f"{BEST}; passed over: absent (no such device here)")
    with pytest.raises(MisconfigurationException, match=r"accelerator='absent': this machine has no such device.*\(fake\)"):
        resolved(manager, accelerator="absent")
    manager.registry.accelerator.remove("fake")
    with pytest.raises(MisconfigurationException, match=r"accelerator='gpu': no accelerator can be used: absent \(no such device here\)"):
        resolved(manager, accelerator="gpu")


def test_what_a_run_cannot_do_without_is_said_to_be_missing(manager: PluginManager) -> None:
    manager.registry.strategy.remove("fake")
    with pytest.raises(NotInstalledError, match=r"nothing that is installed provides the strategy.*pip install lx-standard"):
        resolved(manager)


def test_what_a_run_can_do_without_is_left_out(manager: PluginManager) -> None:
    for kind, name in (("checkpoint_io", "fake"), ("logger", "fake"), ("callback", "bar"), ("callback", "summary"), ("callback", "saves")):
        manager.registry.kind(kind).remove(name)
    found = decisions(manager)
    for topic in ("checkpoint I/O", "logger", "progress bar", "model summary", "checkpoint"):
        assert found[topic] == ("-", "-", "none is installed")
    for asked, topic in (("enable_progress_bar", "progress bar"), ("enable_checkpointing", "checkpoint"), ("logger", "logger")):
        with pytest.raises(NotInstalledError, match=f"provides the {topic}"):
            resolved(manager, **{asked: True})
    manager.registry.logger.add("better", "lx_no_such_module:Class", roles={"default": 9})
    assert decisions(manager)["logger"][2].startswith("none is installed; passed over: better (")


# -- what was asked for ------------------------------------------------------------------------------------------------------


def test_components_are_named_in_any_spelling_with_arguments_or_by_a_mapping(manager: PluginManager) -> None:
    for asked in ("Fake(name='mine')", {"fake": {"name": "mine"}}):
        resolution = resolved(manager, logger=asked)
        (choice,) = resolution.loggers
        assert choice.make(save_dir="x", root_dir="y").name == "mine"
        assert choice.reason.startswith("logger=")
    with pytest.raises(ComponentArgumentError, match=r"the logger 'fake'.*Did you mean 'name'"):
        resolved(manager, logger="fake(nam='mine')")


def test_what_the_engine_hands_over_gives_way_to_the_user(manager: PluginManager) -> None:
    (choice,) = resolved(manager, logger="fake").loggers
    assert choice.make(save_dir="given by the engine").save_dir == "given by the engine"
    (choice,) = resolved(manager, logger="fake(save_dir='mine')").loggers
    assert choice.make(save_dir="given by the engine").save_dir == "mine"


def test_two_distributions_with_one_name_are_told_apart(manager: PluginManager) -> None:
    class Other(FakeLogger): ...

    with manager.registry.provided_by("acme"):
        manager.registry.logger.add("fake", Other)
    with pytest.raises(CollisionError, match=r"'fake@acme' or 'fake@lx-plugin-fake'|'fake@lx-plugin-fake' or 'fake@acme'"):
        resolved(manager, logger="fake")
    assert resolved(manager, logger="fake@acme").loggers[0].cls is Other
    found = decisions(manager, logger="fake@lx-plugin-fake(name='x')")["logger"]
    assert found[:2] == ("fake", FAKES)
    assert decisions(manager)["logger"][:2] == ("fake", FAKES)  # as a default it needs no such name


def test_instances_are_taken_as_they_are(manager: PluginManager) -> None:
    class Mine(FakeLogger): ...

    strategy, logger, profiler, io = FakeStrategy(), Mine(), FakeProfiler(), FakeCheckpointIO()
    resolution = resolved(manager, strategy=strategy, logger=logger, profiler=profiler, plugins=[io, FakePrecision()])
    taken = (resolution.strategy, resolution.loggers[0], resolution.profiler, resolution.checkpoint_io)
    assert [choice.make() for choice in taken] == [strategy, logger, profiler, io]
    found = {topic: (choice, provider, reason) for topic, choice, provider, reason in resolution.decisions}
    assert found["strategy"] == ("FakeStrategy", FAKES, "an instance was given")
    assert found["logger"] == ("Mine", __name__.partition(".")[0], "an instance was given")
    assert found["checkpoint I/O"] == ("FakeCheckpointIO", FAKES, "given in plugins")
    assert found["precision"] == ("fake", FAKES, "given in plugins")


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"logger": 3}, "logger: 3 is no name, component string or mapping, and no Logger object"),
        ({"callbacks": [FakeCallback]}, r"Did you mean FakeCallback\(...\)\?"),
        ({"strategy": FakeLogger()}, "strategy: .* no Strategy object"),
        ({"plugins": [FakeLogger()]}, "plugins: .* no object of Precision, CheckpointIO, ClusterEnvironment, LayerSync"),
    ],
)
def test_what_is_no_component_of_its_kind_is_refused(manager: PluginManager, asked: dict[str, Any], message: str) -> None:
    with pytest.raises(ComponentTypeError, match=message):
        resolved(manager, **asked)


@pytest.mark.parametrize(
    ("asked", "error"),
    [
        ({"num_nodes": 0}, ValueError),
        ({"devices": 0}, MisconfigurationException),
        ({"devices": []}, MisconfigurationException),
        ({"devices": 2, "strategy": "fake"}, MisconfigurationException),
        ({"plugins": [FakePrecision(), Precision()]}, MisconfigurationException),
        ({"plugins": [FakePrecision()], "precision": "fake"}, ValueError),
    ],
)
def test_impossible_requests_are_refused(manager: PluginManager, asked: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        resolved(manager, **asked)


# -- capabilities ------------------------------------------------------------------------------------------------------------


class Picky(FakeStrategy):
    capabilities = StrategyCapabilities(precisions=frozenset({"fake"}), device_types=frozenset({"cpu"}))


def test_a_strategy_may_work_with_some_precisions_only_however_they_are_given(manager: PluginManager) -> None:
    manager.registry.strategy.add("picky", Picky)
    for precision in ("fake", FakePrecision()):
        assert resolved(manager, strategy="picky", precision=precision).precision.cls is FakePrecision
    assert resolved(manager, strategy="picky", plugins=FakePrecision()).precision.name == "fake"
    for asked in ({"precision": "32-true"}, {"precision": Precision()}, {"plugins": Precision()}, {}):
        with pytest.raises(ValueError, match="precision='32-true' does not go with strategy='picky', which takes fake"):
            resolved(manager, strategy="picky", **asked)


class Elsewhere(FakeAccelerator):
    capabilities = AcceleratorCapabilities(device_type="meta", max_devices=1)


def test_a_strategy_may_run_on_some_devices_only(manager: PluginManager) -> None:
    manager.registry.accelerator.add("elsewhere", Elsewhere)
    with pytest.raises(ValueError, match="strategy='Picky' does not run on accelerator='elsewhere', only on cpu"):
        resolved(manager, strategy=Picky(), accelerator="elsewhere", precision="fake")
    with pytest.raises(ValueError, match="works with 1 device"):
        resolved(manager, accelerator="elsewhere", devices=2)


def test_what_a_strategy_brings_is_used(manager: PluginManager) -> None:
    parts = FakeAccelerator(), FakeEnvironment(), FakeCheckpointIO(), FakePrecision()
    strategy = FakeDistributedStrategy(
        accelerator=parts[0],
        parallel_devices=[torch.device("cpu")] * 2,
        cluster_environment=parts[1],
        checkpoint_io=parts[2],
        precision_plugin=parts[3],
    )
    found = decisions(manager, strategy=strategy)
    brought = {topic: reason for topic, (_, _, reason) in found.items() if "the strategy brings" in reason}
    assert list(brought) == ["accelerator", "devices", "precision", "environment", "checkpoint I/O"]
    assert found["devices"][0] == "2 (index 0, 1)"
    for asked in ({"accelerator": "fake"}, {"precision": "fake"}, {"plugins": FakeCheckpointIO()}, {"plugins": FakeEnvironment()}):
        with pytest.raises(MisconfigurationException, match="is given twice: in the strategy FakeDistributedStrategy and beside it"):
            resolved(manager, strategy=strategy, **asked)


# -- environments ------------------------------------------------------------------------------------------------------------


class Detected(FakeEnvironment):
    @staticmethod
    def detect() -> bool:
        return True


class Trips(FakeEnvironment):
    @staticmethod
    def detect() -> bool:
        raise RuntimeError("half installed")


def test_a_cluster_is_detected_the_highest_rank_first(manager: PluginManager) -> None:
    registry = manager.registry.environment
    registry.add("trips", Trips, roles={"detect": 9})
    registry.add("gone", "lx_no_such_module:Class", roles={"detect": 8})
    registry.add("high", Detected, roles={"detect": 3})
    registry.add("low", Detected, roles={"detect": 2})
    rows = [rest for topic, *rest in resolved(manager, strategy="fake").decisions if topic == "environment"]
    assert rows[0] == ["-", "this-program", "passed over: trips (RuntimeError: half installed)"]
    assert rows[1][2].startswith("passed over: gone (the environment 'gone'")
    assert rows[2:] == [["high", "this-program", "it was detected"]]
    assert decisions(manager, plugins=FakeEnvironment())["environment"] == ("FakeEnvironment", FAKES, "given in plugins")


# -- layer sync --------------------------------------------------------------------------------------------------------------


class Syncs(FakeDistributedStrategy):
    capabilities = StrategyCapabilities(distributed=True, sync_batchnorm=True)


class OtherSync(FakeLayerSync): ...


def test_batch_norm_is_synchronised_where_the_strategy_can(manager: PluginManager) -> None:
    found = decisions(manager, sync_batchnorm=True, strategy=Syncs())
    assert found["layer sync"] == ("fake", FAKES, f"sync_batchnorm=True; {BEST}")
    assert resolved(manager, sync_batchnorm=True).layer_sync is None
    assert decisions(manager, sync_batchnorm=True)["layer sync"][2] == "not synchronised: fake does not work on several devices"
    given = OtherSync()
    assert resolved(manager, plugins=given, strategy=Syncs()).layer_sync.make() is given
    with pytest.raises(MisconfigurationException, match="sync_batchnorm=True and another layer sync in plugins exclude each other"):
        resolved(manager, plugins=given, sync_batchnorm=True, strategy=Syncs())


# -- callbacks and loggers ---------------------------------------------------------------------------------------------------


def names(resolution: Resolution) -> list[str]:
    return [choice.name for choice in resolution.callbacks]


def test_a_callback_that_was_given_takes_the_place_of_the_default(manager: PluginManager) -> None:
    assert names(resolved(manager)) == ["bar", "summary", "saves"]
    assert names(resolved(manager, callbacks=[Bar(), "saves", "saves"])) == ["Bar", "saves", "saves", "summary"]
    with pytest.raises(MisconfigurationException, match=r"callbacks holds 2 progress bars \(Bar, bar\)"):
        resolved(manager, callbacks=[Bar(), "bar"])


def test_switches_leave_defaults_out_and_contradict_what_was_given(manager: PluginManager) -> None:
    off = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False, "logger": False}
    found = decisions(manager, **off)
    reasons = [found[topic][2] for topic in ("progress bar", "model summary", "checkpoint", "logger")]
    assert reasons == [f"{argument}=False" for argument in off]
    assert names(resolved(manager, callbacks="summary", enable_model_summary=False)) == ["summary", "bar", "saves"]
    for argument, given in (("enable_progress_bar", "bar"), ("enable_checkpointing", "saves")):
        with pytest.raises(MisconfigurationException, match=f"{argument}=False, and callbacks holds {given}; drop one"):
            resolved(manager, callbacks=given, **{argument: False})


def test_a_quiet_run_has_no_defaults_and_one_in_development_keeps_its_bar(manager: PluginManager) -> None:
    quiet = resolved(manager, quiet=True)
    assert (names(quiet), quiet.loggers) == ([], [])
    found = decisions(manager, quiet=True)
    assert {found[topic][2] for topic in ("progress bar", "model summary", "checkpoint", "logger")} == {"barebones or fast_dev_run"}
    assert names(resolved(manager, quiet=True, keeps_bar=True)) == ["bar", "summary"]
    assert names(resolved(manager, quiet=True, callbacks="fake")) == ["fake"]


def test_a_bound_of_time_brings_a_timer(manager: PluginManager) -> None:
    (timer,) = [choice for choice in resolved(manager, max_time="00:01:00:00").callbacks if choice.topic == "timer"]
    assert (timer.name, timer.reason) == ("clock", f"max_time is given; {BEST}")
    assert (timer.make().duration, timer.make().interval) == ("00:01:00:00", "step")
    assert names(resolved(manager, max_time="00:01:00:00", callbacks=Clock())).count("clock") == 0
    manager.registry.callback.remove("clock")
    with pytest.raises(NotInstalledError, match="provides the timer"):
        resolved(manager, max_time="00:01:00:00")


def test_loggers_are_one_or_several_or_none(manager: PluginManager) -> None:
    assert [choice.name for choice in resolved(manager, logger=["fake", FakeLogger()]).loggers] == ["fake", "FakeLogger"]
    assert [choice.name for choice in resolved(manager, logger=True).loggers] == ["fake"]
    for none in (False, [], ()):
        assert resolved(manager, logger=none).loggers == []


def test_a_fabric_has_no_profiler_no_callbacks_and_no_default_logger(manager: PluginManager) -> None:
    resolution = resolved(manager, trainer=False)
    assert (resolution.profiler, resolution.loggers, resolution.callbacks) == (None, [], [])
    assert [choice.reason for choice in resolved(manager, trainer=False, logger="fake").loggers] == ["loggers='fake'"]


# -- what is there beside what was asked for --------------------------------------------------------------------------------------


class Better(FakeAccelerator):
    available = True

    @staticmethod
    def is_available() -> bool:
        return Better.available

    @staticmethod
    def auto_device_count() -> int:
        return 4


class Failing(FakeAccelerator):
    @staticmethod
    def is_available() -> bool:
        raise OSError("no driver")


def test_an_accelerator_that_auto_would_prefer_is_named_where_another_was_asked_for(
    manager: PluginManager, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager.registry.accelerator.add("failing", Failing, roles={"auto": 99})
    manager.registry.accelerator.add("better", Better, roles={"auto": 90})
    manager.registry.accelerator.add("worse", type("Worse", (FakeAccelerator,), {}), roles={"auto": -90})
    line = "not used: better, with 4 device(s); fake was asked for, and accelerator='auto' takes the best."
    row = ("accelerator", "-", "-", "not used: better, with 4 device(s)")
    with caplog.at_level("INFO", logger="lx"):
        assert row in resolved(manager, accelerator="fake").decisions
        assert [record.message for record in caplog.records] == [line]
        assert row in resolved(manager, accelerator=FakeAccelerator()).decisions
        caplog.clear()
        assert row not in resolved(manager).decisions
        assert row not in resolved(manager, accelerator="better").decisions
        assert row not in resolved(manager, accelerator="fake", trainer=False).decisions
        monkeypatch.setattr(Better, "available", False)
        assert row not in resolved(manager, accelerator="fake").decisions
        assert caplog.records == []


def test_a_profiler_of_some_devices_is_refused_with_others(manager: PluginManager) -> None:
    class OfXla(FakeProfiler):
        device_types = frozenset({"xla"})

    manager.registry.profiler.add("of_xla", OfXla)
    for profiler in ("of_xla", OfXla()):
        with pytest.raises(MisconfigurationException, match=r"profiler='\w+' measures xla only, and the accelerator is 'fake'; use"):
            resolved(manager, profiler=profiler)
    OfXla.device_types = frozenset({"xla", "cpu"})
    assert resolved(manager, profiler="of_xla").profiler.cls is OfXla  # type: ignore[union-attr]
