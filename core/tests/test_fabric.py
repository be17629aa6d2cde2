"""How Fabric starts, what its set-up gives back, and what it refuses."""

import copy
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, DistributedSampler, IterableDataset, TensorDataset

import lx.rng
from lx import Fabric
from lx.data.samplers import ShareSampler
from lx.interfaces.strategy import StrategyCapabilities
from lx.kernel import PluginManager
from lx.kernel.errors import MisconfigurationException
from lx.testing import FakePrecision, FakeStrategy
from lx.wrappers import FabricDataLoader, FabricModule, FabricOptimizer, is_wrapped


def sgd(module: nn.Module, lr: float = 0.1) -> torch.optim.Optimizer:
    return torch.optim.SGD(module.parameters(), lr=lr, momentum=0.9)


def layer() -> nn.Linear:
    made = nn.Linear(2, 1)
    with torch.no_grad():
        made.weight.fill_(1.0)
        made.bias.zero_()
    return made


# -- where it stands and how it starts ---------------------------------------------------------------------------------------


def test_it_stands_where_its_strategy_says(fabric: Fabric, second: Fabric) -> None:
    assert (fabric.world_size, fabric.global_rank, fabric.local_rank, fabric.node_rank, fabric.is_global_zero) == (1, 0, 0, 0, True)
    assert (second.world_size, second.global_rank, second.is_global_zero) == (2, 1, False)
    assert fabric.device == torch.device("cpu")
    assert fabric.accelerator is fabric.strategy.accelerator
    assert fabric.precision is fabric.strategy.precision


def test_launch_hands_the_fabric_to_a_function(fabric: Fabric) -> None:
    assert fabric.launch(lambda given, *args, **kwargs: (given is fabric, args, kwargs), 1, two=2) == (True, (1,), {"two": 2})
    assert fabric.launch() is None
    assert fabric.strategy.called("setup_environment") != []


def test_launch_goes_through_the_launcher_once(second: Fabric) -> None:
    assert second.launcher.called() == ["launch"]
    assert second.launch(lambda given: given.global_rank) == 1
    assert second.launcher.called() == ["launch"]


@pytest.mark.parametrize(("function", "message"), [(3, "takes a function, not 3"), (lambda: 1, "must take one argument at least")])
def test_launch_refuses_what_cannot_take_the_fabric(fabric: Fabric, function: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        fabric.launch(function)


NEEDS_LAUNCH = {
    "setup": lambda fabric: fabric.setup(layer()),
    "setup_module": lambda fabric: fabric.setup_module(layer()),
    "setup_optimizers": lambda fabric: fabric.setup_optimizers(sgd(layer())),
    "setup_dataloaders": lambda fabric: fabric.setup_dataloaders(DataLoader(range(2))),
    "init_module": lambda fabric: fabric.init_module(),
    "barrier": lambda fabric: fabric.barrier(),
    "broadcast": lambda fabric: fabric.broadcast(1),
    "all_gather": lambda fabric: fabric.all_gather(1),
    "all_reduce": lambda fabric: fabric.all_reduce(1),
    "save": lambda fabric: fabric.save("x", {}),
    "load": lambda fabric: fabric.load("x"),
    "load_raw": lambda fabric: fabric.load_raw("x", layer()),
}


@pytest.mark.parametrize("name", NEEDS_LAUNCH)
def test_several_devices_must_be_launched_first(plugin_manager: PluginManager, name: str) -> None:
    fabric = Fabric(manager=plugin_manager, strategy="fake_distributed", devices=2)
    with pytest.raises(RuntimeError, match=r"need 2 processes; call fabric.launch\(\)"):
        NEEDS_LAUNCH[name](fabric)


def test_one_device_needs_no_launch_under_any_strategy(plugin_manager: PluginManager) -> None:
    fabric = Fabric(manager=plugin_manager, strategy="fake_distributed", devices=1)
    assert isinstance(fabric.setup(layer()), FabricModule)


def test_the_environment_is_set_up_once_and_again_after_a_teardown(fabric: Fabric) -> None:
    fabric.setup(layer())
    fabric.setup(layer())
    assert len(fabric.strategy.called("setup_environment")) == 1
    fabric.teardown()
    fabric.teardown()
    assert len(fabric.strategy.called("teardown")) == 1
    fabric.setup(layer())
    assert len(fabric.strategy.called("setup_environment")) == 2


@pytest.mark.parametrize("plugins", ["no_such", [3], [FakePrecision(), FakePrecision()]])
def test_plugins_that_are_none_are_refused(plugin_manager: PluginManager, plugins: Any) -> None:
    with pytest.raises((MisconfigurationException, TypeError), match="plugins"):
        Fabric(manager=plugin_manager, plugins=plugins)


# -- set-up ------------------------------------------------------------------------------------------------------------------


def test_a_module_alone_comes_alone_and_with_optimizers_in_a_tuple(fabric: Fabric) -> None:
    assert isinstance(fabric.setup(layer()), FabricModule)
    assert isinstance(fabric.setup_module(layer()), FabricModule)
    module = layer()
    ready, one, two = fabric.setup(module, sgd(module), sgd(module, 0.2))
    assert (type(ready), one.param_groups[0]["lr"], two.param_groups[0]["lr"]) == (FabricModule, 0.1, 0.2)
    assert isinstance(fabric.setup_optimizers(sgd(module)), FabricOptimizer)
    assert [type(optimizer).__name__ for optimizer in fabric.setup_optimizers(sgd(module), sgd(module))] == ["FabricSGD"] * 2


def test_is_wrapped_knows_what_was_set_up(fabric: Fabric) -> None:
    module, optimizer = fabric.setup(layer(), sgd(layer()))
    loader = fabric.setup_dataloaders(DataLoader(range(2)))
    assert [is_wrapped(one) for one in (module, optimizer, loader, layer(), sgd(layer()), DataLoader(range(2)))] == [True] * 3 + [False] * 3


def test_what_was_set_up_is_not_set_up_again_and_nothing_moves_before(fabric: Fabric) -> None:
    module, optimizer = fabric.setup(layer(), sgd(layer()))
    loader = fabric.setup_dataloaders(DataLoader(range(2)))
    fabric.strategy.calls.clear()
    for again in (
        lambda: fabric.setup(module),
        lambda: fabric.setup(layer(), optimizer),
        lambda: fabric.setup_optimizers(optimizer),
        lambda: fabric.setup_dataloaders(loader),
    ):
        with pytest.raises(ValueError, match="was set up already; pass the original"):
            again()
    assert fabric.strategy.called() == []


def test_nothing_to_set_up_is_refused(fabric: Fabric) -> None:
    with pytest.raises(ValueError, match="one optimizer at least"):
        fabric.setup_optimizers()
    with pytest.raises(ValueError, match="one loader at least"):
        fabric.setup_dataloaders()


class Joint(FakeStrategy):
    capabilities = StrategyCapabilities(joint_setup=True)


def test_a_strategy_may_demand_that_module_and_optimizers_come_together(plugin_manager: PluginManager) -> None:
    fabric = Fabric(manager=plugin_manager, strategy=Joint())
    module = layer()
    ready, optimizer = fabric.setup(module, sgd(module))
    assert (type(ready), isinstance(optimizer, FabricOptimizer)) == (FabricModule, True)
    assert len(fabric.strategy.called("setup_module_and_optimizers")) == 1
    with pytest.raises(RuntimeError, match="together"):
        fabric.setup_optimizers(sgd(layer()))


def test_an_optimizer_of_parameters_on_the_meta_device_is_refused(fabric: Fabric) -> None:
    with pytest.raises(RuntimeError, match="meta device"):
        fabric.setup_optimizers(sgd(nn.Linear(1, 1, device="meta")))


def test_the_precision_and_the_strategy_get_the_module_in_that_order(plugin_manager: PluginManager) -> None:
    order: list[str] = []

    class Halves(FakePrecision):
        def convert_module(self, module: nn.Module) -> nn.Module:
            order.append("convert")
            return module

    class Moves(FakeStrategy):
        def module_to_device(self, module: nn.Module) -> None:
            order.append("move")

        def setup_module(self, module: nn.Module) -> nn.Module:
            order.append("wrap")
            return nn.Sequential(module)

    fabric = Fabric(manager=plugin_manager, strategy=Moves(), precision=Halves())
    module = layer()
    ready = fabric.setup(module)
    assert order == ["convert", "move", "wrap"]
    assert ready.module is module
    assert isinstance(ready.wrapped, nn.Sequential)
    fabric.setup(layer(), move_to_device=False)
    assert order == ["convert", "move", "wrap", "convert", "wrap"]


def test_parameters_on_several_devices_are_warned_of_unless_they_stay(fabric: Fabric) -> None:
    spread = nn.ModuleList([nn.Linear(1, 1), nn.Linear(1, 1, device="meta")])
    assert isinstance(fabric.setup(spread, move_to_device=False), FabricModule)
    with pytest.warns(UserWarning, match="several devices"), pytest.raises(NotImplementedError, match="meta"):
        fabric.setup(spread)


class Listener:
    """A callback of one's own; it needs no base class."""

    label = "not a function"

    def __init__(self) -> None:
        self.heard: list[Any] = []

    def on_after_setup(self, module: Any) -> None:
        self.heard.append(("setup", module))

    def on_after_optimizer_step(self, optimizer: Any) -> None:
        self.heard.append(("step", optimizer))

    def on_note(self, text: str, *, loud: bool = False) -> str:
        self.heard.append((text, loud))
        return "dropped"


def test_callbacks_hear_of_the_set_up_and_of_each_step(plugin_manager: PluginManager) -> None:
    listener, module = Listener(), layer()
    original = sgd(module)
    fabric = Fabric(manager=plugin_manager, callbacks=listener)
    ready, optimizer = fabric.setup(module, original)
    alone = fabric.setup_module(layer())
    fabric.backward(ready(torch.ones(1, 2)).sum())
    optimizer.step()
    assert listener.heard == [("setup", ready), ("setup", alone), ("step", original)]


def test_call_reaches_every_callback_that_has_the_method(plugin_manager: PluginManager) -> None:
    one, two = Listener(), Listener()
    fabric = Fabric(manager=plugin_manager, callbacks=[one, object(), two])
    assert fabric.call("on_note", "hello", loud=True, unknown=3) is None
    assert one.heard == two.heard == [("hello", True)]
    fabric.call("on_nothing", 1)
    with pytest.warns(UserWarning, match="Listener.label is no function"):
        fabric.call("label")


# -- loaders -----------------------------------------------------------------------------------------------------------------


def test_one_loader_comes_alone_and_several_in_a_list(fabric: Fabric) -> None:
    loader = DataLoader(TensorDataset(torch.arange(4.0)), batch_size=2)
    ready = fabric.setup_dataloaders(loader)
    assert isinstance(ready, FabricDataLoader)
    assert (len(ready), ready.batch_size, ready.loader) == (2, 2, loader)
    assert [batch[0].tolist() for batch in ready] == [[0.0, 1.0], [2.0, 3.0]]
    assert [type(one) for one in fabric.setup_dataloaders(loader, loader)] == [FabricDataLoader] * 2
    assert copy.copy(ready).loader is loader


def test_only_torchs_loaders_are_taken(fabric: Fabric) -> None:
    with pytest.raises(TypeError, match=r"cannot be set up as a DataLoader: pass an object of torch\.utils\.data"):
        fabric.setup_dataloaders([1, 2])


def test_batches_come_on_the_device_unless_told_otherwise(plugin_manager: PluginManager) -> None:
    class OnMeta(FakeStrategy):
        root_device = torch.device("meta")

        def setup_environment(self) -> None: ...

    fabric = Fabric(manager=plugin_manager, strategy=OnMeta())
    loader = DataLoader(TensorDataset(torch.arange(4.0)), batch_size=2)
    assert {part.device.type for batch in fabric.setup_dataloaders(loader) for part in batch} == {"meta"}
    assert {part.device.type for batch in fabric.setup_dataloaders(loader, move_to_device=False) for part in batch} == {"cpu"}


def test_each_process_gets_its_share(second: Fabric) -> None:
    loader = DataLoader(range(5), batch_size=2)
    assert [batch.tolist() for batch in second.setup_dataloaders(loader)] == [[1, 3], [0]]
    assert [batch.tolist() for batch in second.setup_dataloaders(loader, use_distributed_sampler=False)] == [[0, 1], [2, 3], [4]]
    own = DataLoader(range(4), sampler=DistributedSampler(range(4), 2, 0, shuffle=False))
    assert [batch.item() for batch in second.setup_dataloaders(own)] == [0, 2]


class Numbers(IterableDataset[int]):
    def __iter__(self) -> Any:
        return iter(range(3))


def test_an_iterable_data_set_shares_itself_out(second: Fabric) -> None:
    assert [batch.item() for batch in second.setup_dataloaders(DataLoader(Numbers()))] == [0, 1, 2]


def test_a_shuffled_share_follows_the_seed_and_changes_with_each_pass(second: Fabric, monkeypatch: pytest.MonkeyPatch) -> None:
    def passes(seed: str) -> list[list[int]]:
        monkeypatch.setenv(lx.rng.SEED_VARIABLE, seed)
        ready = second.setup_dataloaders(DataLoader(range(40), shuffle=True))
        return [[batch.item() for batch in ready] for _ in range(2)]

    first, again = passes("1")
    assert first != again
    assert passes("1") == [first, again]
    assert passes("2")[0] != first
    assert len(set(first)) == 20


def test_the_workers_are_seeded_where_the_program_asked_for_it(fabric: Fabric, monkeypatch: pytest.MonkeyPatch) -> None:
    own = DataLoader(range(2), worker_init_fn=print)
    monkeypatch.setenv(lx.rng.WORKERS_VARIABLE, "0")
    assert fabric.setup_dataloaders(DataLoader(range(2))).worker_init_fn is None
    monkeypatch.setenv(lx.rng.WORKERS_VARIABLE, "1")
    assert fabric.setup_dataloaders(DataLoader(range(2))).worker_init_fn is lx.rng.worker_init_function
    assert fabric.setup_dataloaders(own).worker_init_fn is print


def test_the_share_is_of_the_users_own_loader(second: Fabric) -> None:
    loader = DataLoader(range(4))
    ready = second.setup_dataloaders(loader)
    assert isinstance(ready.sampler, ShareSampler)
    assert not isinstance(loader.sampler, ShareSampler)
