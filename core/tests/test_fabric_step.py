"""What Fabric does for a loop of one's own: backward, clipping, contexts, collectives, loggers."""

import pytest
import torch
from torch import nn

import lx.rng
from lx import Fabric
from lx.kernel import PluginManager
from lx.testing import FakeLogger, FakePrecision, FakeStrategy


def sgd(module: nn.Module, lr: float = 0.1) -> torch.optim.Optimizer:
    return torch.optim.SGD(module.parameters(), lr=lr, momentum=0.9)


def layer() -> nn.Linear:
    made = nn.Linear(2, 1)
    with torch.no_grad():
        made.weight.fill_(1.0)
        made.bias.zero_()
    return made


# -- a step ------------------------------------------------------------------------------------------------------------------


def test_backward_goes_through_the_precision(plugin_manager: PluginManager) -> None:
    class Doubles(FakePrecision):
        def scale_loss(self, loss: torch.Tensor) -> torch.Tensor:
            return loss * 2

    fabric = Fabric(manager=plugin_manager, precision=Doubles())
    module = layer()
    fabric.backward(module(torch.ones(1, 2)).sum(), retain_graph=False)
    assert module.weight.grad.tolist() == [[2.0, 2.0]]


def with_gradient(module: nn.Linear) -> nn.Linear:
    module.weight.grad, module.bias.grad = torch.tensor([[3.0, -4.0]]), torch.tensor([0.0])
    return module


def test_gradients_are_clipped_by_norm_or_by_value(fabric: Fabric) -> None:
    module = with_gradient(layer())
    ready, optimizer = fabric.setup(module, sgd(module))
    assert fabric.clip_gradients(ready, optimizer, max_norm=1.0) == 5.0
    assert torch.allclose(module.weight.grad, torch.tensor([[0.6, -0.8]]))
    with_gradient(module)
    assert fabric.clip_gradients(ready, optimizer, max_norm=2.0, norm_type=float("inf")) == 4.0
    assert torch.allclose(module.weight.grad, torch.tensor([[1.5, -2.0]]))
    with_gradient(module)
    assert fabric.clip_gradients(ready, optimizer, clip_val=3.5) is None
    assert module.weight.grad.tolist() == [[3.0, -3.5]]


def test_gradients_are_unscaled_before_they_are_clipped(plugin_manager: PluginManager) -> None:
    fabric = Fabric(manager=plugin_manager, precision="fake")
    module = with_gradient(layer())
    original = sgd(module)
    ready, optimizer = fabric.setup(module, original)
    fabric.clip_gradients(ready, optimizer, clip_val=1.0)
    assert [call.args for call in fabric.precision.called("unscale_gradients")] == [(original,)]


@pytest.mark.parametrize("arguments", [{}, {"clip_val": 1.0, "max_norm": 1.0}])
def test_exactly_one_way_of_clipping_must_be_given(fabric: Fabric, arguments: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="either clip_val or max_norm"):
        fabric.clip_gradients(layer(), sgd(layer()), **arguments)


def test_a_norm_that_is_not_finite_is_refused_unless_told_otherwise(fabric: Fabric) -> None:
    module = with_gradient(layer())
    module.weight.grad[0, 0] = torch.nan
    with pytest.raises(RuntimeError, match="non-finite"):
        fabric.clip_gradients(module, sgd(module), max_norm=1.0)
    assert fabric.clip_gradients(module, sgd(module), max_norm=1.0, error_if_nonfinite=False).isnan()


def test_gradients_stay_in_this_process_within_no_backward_sync(fabric: Fabric) -> None:
    ready = fabric.setup(layer())
    with fabric.no_backward_sync(ready, enabled=False):
        pass
    assert [call.args for call in fabric.strategy.called("no_backward_sync")] == [(ready.wrapped, False)]
    with pytest.raises(TypeError, match=r"a module from fabric.setup, not Linear"):
        fabric.no_backward_sync(layer())


def test_autocast_is_the_precisions_forward_context(plugin_manager: PluginManager) -> None:
    fabric = Fabric(manager=plugin_manager, precision="fake")
    with fabric.autocast():
        pass
    assert fabric.precision.called() == ["forward_context"]


def test_tensors_collections_and_modules_move_to_the_device(plugin_manager: PluginManager) -> None:
    class OnMeta(FakeStrategy):
        root_device = torch.device("meta")

    fabric = Fabric(manager=plugin_manager, strategy=OnMeta())
    assert fabric.to_device({"x": [torch.ones(1)]})["x"][0].device.type == "meta"
    module = layer()
    assert fabric.to_device(module) is module
    assert module.weight.device.type == "meta"


# -- contexts ----------------------------------------------------------------------------------------------------------------


def test_modules_and_tensors_are_made_where_the_run_is(plugin_manager: PluginManager) -> None:
    class OnMeta(FakeStrategy):
        root_device = torch.device("meta")

        def setup_environment(self) -> None: ...

    fabric = Fabric(manager=plugin_manager, strategy=OnMeta())
    with fabric.init_module():
        assert layer().weight.device.type == "meta"
    with fabric.init_tensor():
        assert torch.ones(1).device.type == "meta"
    with fabric.sharded_model():
        assert layer().weight.device.type == "meta"


def test_weights_may_be_left_uninitialised(fabric: Fabric) -> None:
    made = torch.zeros(3)
    with fabric.init_module(empty_init=True):
        assert nn.init.uniform_(made) is made
        assert nn.init.normal_(tensor=made) is made
        assert nn.init.kaiming_uniform_(made.view(1, 3)).eq(0).all()
        assert (made + 1).tolist() == [1.0, 1.0, 1.0]
    assert made.tolist() == [0.0, 0.0, 0.0]
    with fabric.init_module(empty_init=False):
        nn.init.uniform_(made, 1.0, 2.0)
    assert made.min() >= 1.0


@pytest.mark.parametrize(("rank", "order"), [(0, ["block", "barrier", "barrier"]), (1, ["barrier", "block", "barrier"])])
def test_rank_zero_runs_a_block_first(plugin_manager: PluginManager, rank: int, order: list[str]) -> None:
    fabric = Fabric(manager=plugin_manager, strategy=FakeStrategy(2, rank))
    fabric.setup_environment()
    fabric.strategy.calls.clear()
    with fabric.rank_zero_first():
        fabric.strategy.calls.append(("block", (), {}))
    assert [call[0] for call in fabric.strategy.calls] == order


# -- processes ---------------------------------------------------------------------------------------------------------------


def test_collections_with_numbers_in_them_are_gathered_and_reduced(fabric: Fabric, second: Fabric) -> None:
    data = {"loss": torch.tensor([1.0, 2.0]), "seen": 3, "share": [0.5], "done": True, "name": "a"}
    gathered = second.all_gather(data)
    assert gathered["loss"].tolist() == [[1.0, 2.0], [1.0, 2.0]]
    assert (gathered["seen"].tolist(), gathered["share"][0].tolist(), gathered["done"].tolist()) == ([3, 3], [0.5, 0.5], [1, 1])
    assert gathered["name"] == "a"
    assert second.all_reduce(data, reduce_op="sum")["seen"] == 6
    assert second.all_reduce(data)["share"][0] == 0.5
    assert fabric.all_gather(data)["loss"] is data["loss"]
    assert fabric.all_gather(3).tolist() == 3
    assert data["seen"] == 3


def test_broadcast_and_barrier_are_the_strategys(fabric: Fabric) -> None:
    assert fabric.broadcast({"a": 1}, src=0) == {"a": 1}
    fabric.barrier("here")
    assert [call.args for call in fabric.strategy.called("barrier")] == [("here",)]


def test_only_local_rank_zero_prints(fabric: Fabric, plugin_manager: PluginManager, capsys: pytest.CaptureFixture[str]) -> None:
    class Second(FakeStrategy):
        local_rank = 1

    fabric.print("one", "two", sep="-")
    Fabric(manager=plugin_manager, strategy=Second()).print("never")
    assert capsys.readouterr().out == "one-two\n"


def test_seeding_seeds_the_workers_too_unless_told_otherwise(fabric: Fabric, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (lx.rng.SEED_VARIABLE, lx.rng.WORKERS_VARIABLE):
        monkeypatch.setenv(name, "9")
    with lx.rng.isolate_rng():
        assert fabric.seed_everything(3, verbose=False) == 3
        drawn = torch.rand(1)
        assert lx.rng.os.environ[lx.rng.WORKERS_VARIABLE] == "1"
        fabric.seed_everything(3, workers=False, verbose=False)
        assert lx.rng.os.environ[lx.rng.WORKERS_VARIABLE] == "0"
        assert torch.rand(1) == drawn


# -- loggers -----------------------------------------------------------------------------------------------------------------


def test_values_go_to_every_logger_as_numbers(plugin_manager: PluginManager) -> None:
    one, two = FakeLogger(), FakeLogger()
    fabric = Fabric(manager=plugin_manager, loggers=[one, two])
    fabric.log("loss", torch.tensor([1.5]), step=3)
    fabric.log_dict({"a": 1, "b": torch.tensor(2)})
    assert one.metrics == two.metrics == [(3, {"loss": 1.5}), (None, {"a": 1, "b": 2})]
    assert fabric.logger is one
    with pytest.raises(ValueError, match="'x' is a tensor of 2 elements"):
        fabric.log("x", torch.ones(2))


def test_only_rank_zero_logs(plugin_manager: PluginManager) -> None:
    logger = FakeLogger()
    Fabric(manager=plugin_manager, strategy=FakeStrategy(2, 1), loggers=logger).log("loss", 1.0)
    assert logger.metrics == []


def test_a_logger_may_be_named_and_without_one_there_is_none(plugin_manager: PluginManager) -> None:
    assert isinstance(Fabric(manager=plugin_manager, loggers="fake(name='mine')").logger, FakeLogger)
    assert Fabric(manager=plugin_manager).logger is None
