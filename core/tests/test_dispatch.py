"""The order of callbacks, and the event tables that are compiled from who listens."""

import inspect
from typing import Any

import pytest

from lx import Callback, LightningDataModule, LightningModule, Trainer
from lx.dispatch import AFTER_MODULE, PHASES, Dispatch, order_callbacks, overrides, require_distinct_states
from lx.hooks import DataHooks
from lx.interfaces.callback import EVENTS
from lx.interfaces.profiler import PassThroughProfiler
from lx.kernel import PluginManager
from lx.kernel.errors import MisconfigurationException
from lx.testing import FakeCallback, FakeProfiler, TinyModule, fake_plugin_manager

# -- order -------------------------------------------------------------------------------------------------------------------


def made(*specs: tuple[str, dict[str, Any]]) -> list[Callback]:
    """One callback of a class of its own for each name and what it declares."""
    return [type(name, (Callback,), declared)() for name, declared in specs]


def order(*specs: tuple[str, dict[str, Any]], registry: Any = None) -> list[str]:
    return [type(callback).__name__ for callback in order_callbacks(made(*specs), registry)]


def test_without_demands_callbacks_stay_as_given_within_their_phase() -> None:
    given = [
        ("A", {"phase": "last"}),
        ("B", {}),
        ("C", {"phase": "first"}),
        ("D", {"phase": "monitor"}),
        ("E", {}),
        ("F", {"phase": "first"}),
    ]
    assert order(*given) == ["C", "F", "B", "D", "E", "A"]
    assert order() == []


def test_before_and_after_name_classes_in_either_spelling() -> None:
    for name in ("EarlyBird", "early_bird", "early-bird", "EARLYBIRD"[:5] + "_bird"):
        assert order(("A", {"after": (name,)}), ("EarlyBird", {})) == ["EarlyBird", "A"]
        assert order(("EarlyBird", {}), ("A", {"before": (name,)})) == ["A", "EarlyBird"]


def test_they_name_registered_names_and_aliases_too(plugin_manager: PluginManager) -> None:
    registry = plugin_manager.registry.callback
    registry.add("rates", "somewhere:LearningRateMonitor", aliases=("lr",))
    for name in ("rates", "lr", "LearningRateMonitor", "learning_rate_monitor"):
        assert order(("A", {"after": (name,)}), ("LearningRateMonitor", {}), registry=registry) == ["LearningRateMonitor", "A"]
    assert order(("A", {"after": ("rates",)}), ("LearningRateMonitor", {})) == ["A", "LearningRateMonitor"]


def test_those_that_are_not_there_demand_nothing() -> None:
    assert order(("A", {"after": ("Nobody",)}), ("B", {"before": ("Nobody", "Nothing")})) == ["A", "B"]


def test_a_demand_moves_as_little_as_it_must() -> None:
    assert order(("A", {"after": ("D",)}), ("B", {}), ("C", {}), ("D", {}), ("E", {})) == ["B", "C", "D", "A", "E"]
    assert order(("A", {}), ("B", {}), ("C", {"before": ("B",)}), ("D", {})) == ["A", "C", "B", "D"]


def test_demands_rank_over_phases() -> None:
    assert order(("A", {"phase": "first", "after": ("B",)}), ("B", {"phase": "last"}), ("C", {})) == ["C", "B", "A"]


def test_a_demand_holds_for_every_callback_of_a_name() -> None:
    (waits,) = made(("A", {"after": ("B",)}))
    cls = type("B", (Callback,), {})
    one, two = cls(), cls()
    assert order_callbacks([one, waits, two]) == [one, two, waits]


def test_callbacks_that_call_themselves_equal_are_told_apart() -> None:
    class Same(Callback):
        before = ("Z",)

        def __init__(self, phase: str) -> None:
            self.phase = phase

        def __eq__(self, other: object) -> bool:
            return isinstance(other, Same)

        def __hash__(self) -> int:
            return 0

    last, first = Same("last"), Same("first")
    ordered = order_callbacks([last, first])
    assert [id(one) for one in ordered] == [id(first), id(last)]


def test_a_cycle_names_those_in_it_alone() -> None:
    with pytest.raises(MisconfigurationException) as caught:
        order(("A", {}), ("B", {"after": ("C",)}), ("C", {"after": ("D",)}), ("D", {"after": ("B",)}), ("E", {"after": ("B",)}))
    assert str(caught.value) == "the callbacks B, C, D demand by `before` and `after` to stand before each other; drop one demand."


def test_an_unknown_phase_is_refused() -> None:
    with pytest.raises(MisconfigurationException, match=r"Odd\.phase is 'middle'; it must be one of first, normal, monitor, last"):
        order(("Odd", {"phase": "middle"}))
    assert set(AFTER_MODULE) < set(PHASES)


def test_the_trainer_orders_what_it_was_given_and_what_the_model_brings(tiny_data: Any) -> None:
    class Waits(Callback):
        after = ("fake",)

    class Brought(Callback):
        before = ("fake",)

    class Brings(TinyModule):
        def configure_callbacks(self) -> Any:
            return Brought()

    trainer = Trainer(manager=fake_plugin_manager(), callbacks=[Waits(), "fake"], fast_dev_run=True, enable_progress_bar=False)
    assert [type(callback).__name__ for callback in trainer.callbacks] == ["FakeCallback", "Waits"]
    trainer.fit(Brings(), tiny_data)
    assert [type(callback).__name__ for callback in trainer.callbacks] == ["Brought", "FakeCallback", "Waits"]


def test_two_states_cannot_lie_under_one_key() -> None:
    class Keeps(Callback):
        def state_dict(self) -> dict[str, Any]:
            return {"a": 1}

    require_distinct_states([Keeps(), Callback(), Callback()])
    with pytest.raises(RuntimeError, match=r"two callbacks have the state_key '.*Keeps'"):
        require_distinct_states([Keeps(), Keeps()])


# -- who listens -------------------------------------------------------------------------------------------------------------


class Log:
    """What a dispatch needs of the log."""

    def __init__(self) -> None:
        self.site: str | None = None
        self.settled = 0

    def settle(self) -> None:
        self.settled += 1


class Notes(Callback):
    """Notes what it hears, where, and with what."""

    def __init__(self, name: str, heard: list[Any]) -> None:
        self.name, self.heard = name, heard

    def on_train_batch_end(self, *args: Any) -> None:
        self.heard.append((self.name, *args))

    def on_train_epoch_end(self, *args: Any) -> None:
        self.heard.append(self.name)


class Watches(Notes):
    phase = "monitor"


class Saves(Notes):
    phase = "last"


class Net(LightningModule):
    def __init__(self, heard: list[Any] | None = None) -> None:
        super().__init__()
        self.heard = heard if heard is not None else []

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> int:
        self.heard.append("module")
        return -1

    def on_train_epoch_end(self) -> None:
        self.heard.append("module")


def dispatch(module: Any = None, callbacks: Any = (), log: Any = None, **options: Any) -> Dispatch:
    module = module if module is not None else LightningModule()
    return Dispatch("trainer", module, list(callbacks), log or Log(), base=LightningModule, **options)


def test_an_event_nobody_listens_to_is_none_and_an_unknown_one_an_error() -> None:
    table = dispatch()
    assert set(table.events) == set(EVENTS)
    assert set(table.events.values()) == {None}
    assert table.on_train_batch_end is None
    assert table.emit("on_train_start") is None
    with pytest.raises(AttributeError, match="there is no event 'on_tarin_start'"):
        _ = table.on_tarin_start


def test_listeners_are_called_in_order_with_what_the_event_carries_and_the_module_last() -> None:
    heard: list[Any] = []
    net = Net(heard)
    table = dispatch(net, [Notes("a", heard), Notes("b", heard)])
    assert table.on_train_batch_end("outputs", "batch", 3) is None
    assert heard == [("a", "trainer", net, "outputs", "batch", 3), ("b", "trainer", net, "outputs", "batch", 3)]


def test_what_the_module_returns_is_returned_and_what_callbacks_return_is_not() -> None:
    class Minus(Callback):
        def on_train_batch_start(self, *args: Any) -> int:
            return -1

    assert dispatch(Net(), [Minus()]).on_train_batch_start("batch", 0) == -1
    assert dispatch(None, [Minus()]).on_train_batch_start("batch", 0) is None


def test_hooks_set_on_an_instance_count_of_modules_and_of_callbacks() -> None:
    module, callback, heard = LightningModule(), Callback(), []
    module.on_fit_start = lambda: heard.append("module")
    callback.on_fit_start = lambda trainer, pl_module: heard.append("callback")
    table = dispatch(module, [callback])
    table.emit("on_fit_start")
    assert heard == ["callback", "module"]
    assert table.on_fit_end is None
    assert overrides(module, "on_fit_start", LightningModule)
    assert not overrides(module, "on_fit_end", LightningModule)
    assert overrides(LightningDataModule(), "on_exception", DataHooks)


def test_a_callback_may_drop_events_that_it_overrides() -> None:
    class Idle(FakeCallback):
        def listens_to(self, event: str) -> bool:
            return event == "on_fit_end"

    table = dispatch(None, [Idle()])
    assert [event for event, function in table.events.items() if function is not None] == ["on_fit_end"]


def test_setup_and_teardown_of_the_module_are_not_the_tables() -> None:
    class Sets(LightningModule):
        def setup(self, stage: str) -> None: ...

    assert dispatch(Sets()).setup is None


# -- after the module --------------------------------------------------------------------------------------------------------


def test_those_that_look_at_an_epochs_values_come_after_the_module() -> None:
    heard: list[Any] = []
    log = Log()
    table = dispatch(Net(heard), [Watches("monitor", heard), Notes("normal", heard), Saves("last", heard)], log)
    table.emit("on_train_epoch_end")
    assert heard == ["normal", "module", "monitor", "last"]
    assert log.settled == 1


def test_at_other_events_they_come_in_their_order() -> None:
    heard: list[Any] = []
    log = Log()

    class Ends(Net):
        def on_train_batch_end(self, *args: Any) -> None:
            self.heard.append(("module",))

    dispatch(Ends(heard), [Watches("monitor", heard), Notes("normal", heard)], log).on_train_batch_end({}, "batch", 0)
    assert [name for name, *_ in heard] == ["monitor", "normal", "module"]
    assert log.settled == 0


@pytest.mark.parametrize(("callback", "settled"), [(Notes, 1), (Watches, 0)])
def test_values_are_settled_for_them_if_anybody_could_have_logged(callback: type[Notes], settled: int) -> None:
    log = Log()
    dispatch(None, [callback("a", []), Saves("last", [])], log).emit("on_train_epoch_end")
    assert log.settled == settled


# -- where one is ------------------------------------------------------------------------------------------------------------


def test_the_site_is_the_event_while_it_runs_and_the_outer_one_afterwards() -> None:
    log, sites = Log(), []

    class Looks(Callback):
        def on_before_backward(self, *args: Any) -> None:
            sites.append(log.site)

        def on_train_epoch_end(self, *args: Any) -> None:
            sites.append(log.site)

    class Module(LightningModule):
        def on_train_epoch_end(self) -> None:
            sites.append(log.site)
            table.emit("on_before_backward", "loss")
            sites.append(log.site)

        def optimizer_step(self, *args: Any, **kwargs: Any) -> str:
            sites.append(log.site)
            return "stepped"

    table = dispatch(Module(), [Looks()], log)
    log.site = "training_step"
    table.emit("on_train_epoch_end")
    assert sites == ["on_train_epoch_end", "on_train_epoch_end", "on_before_backward", "on_train_epoch_end"]
    step = table.own("optimizer_step")
    assert step is not None
    assert (step(1, optimizer=2), sites[-1]) == ("stepped", "optimizer_step")
    assert log.site == "training_step"


@pytest.mark.parametrize("owner", ["callback", "callback beside the module", "module", "own"])
def test_the_site_is_put_back_when_a_listener_fails(owner: str) -> None:
    def fail(*args: Any, **kwargs: Any) -> None:
        raise ZeroDivisionError

    log, module, callback = Log(), LightningModule(), Callback()
    if owner.startswith("callback"):
        callback.on_after_backward = fail
    if owner != "callback":
        module.on_after_backward = module.backward = fail
    table = dispatch(module, [callback], log)
    log.site = "training_step"
    call = table.own("backward") if owner == "own" else table.on_after_backward
    with pytest.raises(ZeroDivisionError):
        call()
    assert log.site == "training_step"


def test_own_hooks_that_are_not_overridden_are_left_out_and_may_be_called_all_the_same() -> None:
    class Module(LightningModule):
        def on_validation_model_eval(self) -> None:
            heard.append(log.site)

    log, heard = Log(), []
    table = dispatch(Module(), log=log)
    assert table.own("on_validation_model_train") is None
    table.call_own("on_validation_model_eval")
    table.call_own("no_such_hook")
    module = LightningModule().train()
    dispatch(module).call_own("on_validation_model_eval")
    assert (heard, module.training) == (["on_validation_model_eval"], False)


# -- profiling ---------------------------------------------------------------------------------------------------------------


def test_without_an_active_profiler_nothing_is_wrapped() -> None:
    callback, net = Notes("a", []), Net()
    for profiler in (None, PassThroughProfiler()):
        table = dispatch(net, [callback], profiler=profiler)
        assert table.timed(print, net, "LightningModule", "hook") is print
        assert table.measured(print, "run") is print
        batches = iter([1])
        assert table.fetched(batches, "next") is batches
        assert not table.profiles
        held = inspect.getclosurevars(table.on_train_epoch_end).nonlocals
        assert (held["before"], held["hook"], held["after"]) == ((callback.on_train_epoch_end,), net.on_train_epoch_end, ())
        with table.action("anything"):
            pass


def test_a_profiler_sees_each_listener_under_the_name_of_its_owner() -> None:
    class Keyed(Notes):
        @property
        def state_key(self) -> str:
            return "Keyed{'monitor': 'loss'}"

    profiler = FakeProfiler()
    table = dispatch(Net(), [Notes("a", []), Keyed("b", []), Saves("c", [])], profiler=profiler)
    table.emit("on_train_epoch_end")
    expected = ["[Callback]Notes", "[Callback]Keyed{'monitor': 'loss'}", "[LightningModule]Net", "[Callback]Saves"]
    assert [(call.name, call.args[0]) for call in profiler.calls if call.name != "profile"] == [
        (moment, f"{owner}.on_train_epoch_end") for owner in expected for moment in ("start", "stop")
    ]
    assert table.profiles


def test_a_profiler_sees_blocks_functions_and_fetches_also_those_that_fail() -> None:
    profiler = FakeProfiler()
    table = dispatch(profiler=profiler)
    with table.action("save_checkpoint"):
        pass
    with pytest.raises(ZeroDivisionError):
        table.measured(lambda: 1 / 0, "run_training_batch")()
    assert list(table.fetched(iter([None, 2]), "next")) == [None, 2]
    actions = [call.args[0] for call in profiler.called("stop")]
    assert actions == ["save_checkpoint", "run_training_batch", "next", "next", "next"]


@pytest.mark.filterwarnings("ignore:an epoch has")
def test_the_actions_of_a_run(plugin_manager: PluginManager, tiny_module: Any, tiny_data: Any) -> None:
    trainer = Trainer(manager=plugin_manager, profiler="fake", callbacks="fake", max_epochs=1, logger=False, enable_progress_bar=False)
    trainer.fit(tiny_module, tiny_data)
    trainer.test(tiny_module, tiny_data, verbose=False)
    trainer.predict(tiny_module, tiny_data)
    trainer.save_checkpoint("x")
    actions = {call.args[0] for call in trainer.profiler.called("start")}
    assert {
        "run_training_epoch",
        "run_training_batch",
        "save_checkpoint",
        "[_TrainingEpochLoop].train_dataloader_next",
        "[_EvaluationLoop].val_next",
        "[_EvaluationLoop].test_next",
        "[_PredictionLoop].predict_next",
        "[Strategy]FakeStrategy.backward",
        "[LightningModule]TinyModule.training_step",
        "[LightningModule]TinyModule.configure_optimizers",
        "[LightningDataModule]TinyDataModule.setup",
        "[LightningDataModule]TinyDataModule.teardown",
        "[Callback]FakeCallback.setup",
        "[Callback]FakeCallback.on_save_checkpoint",
        "[Callback]FakeCallback.teardown",
    } <= actions
    assert len([call for call in trainer.profiler.called("start") if call.args[0] == "run_training_batch"]) == 4
    assert not any("on_train_batch_end" in action and "TinyModule" in action for action in actions)


# -- trace -------------------------------------------------------------------------------------------------------------------


def test_a_trace_says_each_time_which_event_it_is_and_who_listens() -> None:
    lines: list[str] = []
    table = dispatch(Net(), [Saves("a", []), Notes("b", [])], trace=lines.append)
    table.emit("on_train_epoch_end")
    table.emit("on_fit_end")
    assert table.on_train_batch_start("batch", 0) == -1
    assert lines == ["event on_train_epoch_end -> Notes, Net, Saves", "event on_fit_end -> nobody", "event on_train_batch_start -> Net"]


def test_a_trace_tells_of_events_that_the_run_hands_out_itself() -> None:
    class Sets(LightningModule):
        def setup(self, stage: str) -> None: ...

    lines: list[str] = []
    table = dispatch(Sets(), trace=lines.append)
    table.announce("setup", [LightningDataModule(), FakeCallback(), Callback(), Sets()])
    assert lines == ["event setup -> FakeCallback, Sets"]
    dispatch(Sets()).announce("setup", [Sets()])
    assert len(lines) == 1
