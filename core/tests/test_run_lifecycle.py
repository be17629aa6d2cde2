"""What a run does before and after its loop: whose callbacks, who prepares data, which hyperparameters are sent, how it is closed."""

from typing import Any

import pytest
import torch

from lx import Callback, LightningDataModule, Trainer
from lx.interfaces import Profiler
from lx.kernel import PluginManager
from lx.kernel.errors import MisconfigurationException
from lx.rank_zero import PossibleUserWarning
from lx.testing import FakeLogger, FakeStrategy, TinyDataModule, TinyModule


def new_trainer(manager: PluginManager, **arguments: Any) -> Trainer:
    """One that is quiet."""
    quiet: dict[str, Any] = {"logger": False, "enable_checkpointing": False, "num_sanity_val_steps": 0, "log_every_n_steps": 1}
    return Trainer(**{"manager": manager, "max_epochs": 1, **quiet, **arguments})


# -- callbacks of the model ------------------------------------------------------------------------------------------------------


class Watches(Callback):
    """Does nothing."""


class WatchesMore(Watches):
    """The same, of a class derived from it."""


class Keeps(Callback):
    """Has a state."""

    def state_dict(self) -> dict[str, Any]:
        return {"a": 1}


def bringing(*callbacks: Any) -> TinyModule:
    """A model that brings callbacks, and makes them anew each time."""
    module: Any = TinyModule()
    module.configure_callbacks = lambda: [make() for make in callbacks]
    return module  # type: ignore[no-any-return]


def names(trainer: Trainer) -> list[str]:
    return [type(callback).__name__ for callback in trainer.callbacks]


def test_a_callback_of_the_model_replaces_those_of_its_class_and_of_its_bases(
    plugin_manager: PluginManager, tiny_data: TinyDataModule
) -> None:
    trainer = new_trainer(plugin_manager, callbacks=[Watches(), Keeps(), WatchesMore()])
    assert names(trainer) == ["Watches", "Keeps", "WatchesMore"]
    module = bringing(WatchesMore)
    trainer.fit(module, tiny_data)
    assert names(trainer) == ["Keeps", "WatchesMore"]
    brought = trainer.callbacks[1]
    trainer.test(module, tiny_data, verbose=False)  # the model is asked at each entry point
    assert names(trainer) == ["Keeps", "WatchesMore"]
    assert trainer.callbacks[1] is not brought
    trainer.validate(bringing(Watches), tiny_data, verbose=False)  # of a derived class are others
    assert names(trainer) == ["Keeps", "WatchesMore", "Watches"]


def test_a_callback_of_the_model_whose_state_would_lie_where_anothers_does(
    plugin_manager: PluginManager, tiny_data: TinyDataModule
) -> None:
    with pytest.raises(RuntimeError, match="two callbacks have the state_key 'Keeps'"):
        new_trainer(plugin_manager).fit(bringing(Keeps, Keeps), tiny_data)


def test_callbacks_can_log_from_the_first_hook_on(plugin_manager: PluginManager, tiny_data: TinyDataModule) -> None:
    class Logs(Callback):
        def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
            self.log("seen", 1.0)  # type: ignore[attr-defined]
            self.log_dict({"too": 2.0})  # type: ignore[attr-defined]

    trainer = new_trainer(plugin_manager, callbacks=[Logs()])
    trainer.fit(TinyModule(), tiny_data)
    assert (trainer.callback_metrics["seen"], trainer.callback_metrics["too"]) == (1.0, 2.0)


# -- data ------------------------------------------------------------------------------------------------------------------------


class Node(FakeStrategy):
    """A process of a node, of which another may be the first of all."""

    def __init__(self, global_rank: int, local_rank: int) -> None:
        super().__init__(4, global_rank)
        self._local_rank = local_rank

    @property
    def local_rank(self) -> int:
        return self._local_rank


@pytest.mark.parametrize(
    ("ranks", "per_node", "prepares"),
    [((0, 0), True, True), ((0, 0), False, True), ((2, 0), True, True), ((2, 0), False, False), ((1, 1), True, False)],
)
def test_data_is_prepared_by_the_first_process_of_every_node_or_of_all(
    plugin_manager: PluginManager, ranks: tuple[int, int], per_node: bool, prepares: bool
) -> None:
    prepared: list[str] = []

    class Data(TinyDataModule):
        prepare_data_per_node = per_node

        def prepare_data(self) -> None:
            prepared.append("data")

        def setup(self, stage: str) -> None:
            prepared.append("setup")

    class Module(TinyModule):
        def __init__(self) -> None:
            super().__init__()
            self.prepare_data_per_node = per_node

        def prepare_data(self) -> None:
            prepared.append("module")

    strategy: Any = Node(*ranks)
    new_trainer(plugin_manager, strategy=strategy).predict(Module(), Data())
    assert prepared == [*(["data", "module"] if prepares else []), "setup"]
    waited = [call.args[0] for call in strategy.called("barrier") if call.args]
    assert "prepare_data" in waited


# -- hyperparameters -------------------------------------------------------------------------------------------------------------


class Model(TinyModule):
    """Has hyperparameters."""

    def __init__(self, rate: float = 0.1, width: int = 4, logger: bool = True) -> None:
        super().__init__()
        self.save_hyperparameters("rate", "width", logger=logger)


class Data(TinyDataModule):
    """Has some, too."""

    def __init__(self, width: Any = 4, folder: str = "data") -> None:
        super().__init__()
        self.save_hyperparameters()


def sent(manager: PluginManager, module: Any, data: LightningDataModule, **arguments: Any) -> list[Any]:
    logger = FakeLogger()
    new_trainer(manager, logger=logger, **arguments).fit(module, data)
    assert [name for name in logger.called() if name in ("log_graph", "finalize")] == (
        ["log_graph", "finalize"] if arguments.get("enable_autolog_hparams", True) else ["finalize"]
    )
    return logger.hyperparams


def test_hyperparameters_of_module_and_data_are_sent_as_one(plugin_manager: PluginManager) -> None:
    assert sent(plugin_manager, Model(), Data()) == [{"rate": 0.1, "width": 4, "folder": "data"}]
    assert sent(plugin_manager, Model(logger=False), Data()) == [{"width": 4, "folder": "data"}]
    assert sent(plugin_manager, TinyModule(), TinyDataModule()) == []
    assert sent(plugin_manager, Model(), Data(), enable_autolog_hparams=False) == []


@pytest.mark.parametrize("width", [5, "4", None, torch.ones(2)])
def test_hyperparameters_that_contradict_each_other_are_named(plugin_manager: PluginManager, width: Any) -> None:
    with pytest.raises(MisconfigurationException, match=r"different values for the hyperparameters \['width'\]; name them differently"):
        sent(plugin_manager, Model(), Data(width=width))


# -- modes and the end -----------------------------------------------------------------------------------------------------------


def test_a_model_that_is_asleep_as_fit_begins_is_warned_of_and_stays_so(plugin_manager: PluginManager, tiny_data: TinyDataModule) -> None:
    module = TinyModule()
    module.layer.eval()
    with pytest.warns(PossibleUserWarning, match=r"1 module\(s\) are in eval mode as fit begins, the first 'layer'; they stay so"):
        new_trainer(plugin_manager).fit(module, tiny_data)
    assert (module.training, module.layer.training) == (True, False)


class Notes(Profiler):
    """Notes what it is told at the ends of a run."""

    def __init__(self, told: list[str]) -> None:
        super().__init__()
        self.told = told

    def setup(self, stage: str, local_rank: int | None = None, log_dir: str | None = None) -> None:
        self.told.append(f"setup {stage}")

    def start(self, action_name: str) -> None:
        """Measures nothing."""

    stop = start

    def describe(self) -> None:
        self.told.append("describe")

    def teardown(self, stage: str | None) -> None:
        self.told.append(f"teardown {stage}")


def test_a_profiler_is_set_up_first_and_torn_down_last_also_after_a_failure(
    plugin_manager: PluginManager, tiny_data: TinyDataModule
) -> None:
    class Ends(Callback):
        def setup(self, trainer: Trainer, pl_module: Any, stage: str) -> None:
            told.append("C.setup")

        def teardown(self, trainer: Trainer, pl_module: Any, stage: str) -> None:
            told.append("C.teardown")

    class Fails(TinyModule):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            raise ZeroDivisionError

    told: list[str] = []
    trainer = new_trainer(plugin_manager, callbacks=[Ends()], profiler=Notes(told))
    trainer.fit(TinyModule(), tiny_data)
    assert told == ["setup fit", "C.setup", "C.teardown", "describe", "teardown fit"]
    told.clear()
    with pytest.raises(ZeroDivisionError):
        new_trainer(plugin_manager, callbacks=[Ends()], profiler=Notes(told)).fit(Fails(), tiny_data)
    assert told == ["setup fit", "C.setup", "C.teardown", "teardown fit"]
