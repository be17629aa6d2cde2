"""What Fabric saves and loads, and what it refuses to."""

from typing import Any

import pytest
import torch
from torch import nn

from lx import Fabric
from lx.kernel import PluginManager
from lx.kernel.errors import CheckpointMismatchError, CheckpointNotFoundError
from lx.testing import FakeStrategy


def sgd(module: nn.Module, lr: float = 0.1) -> torch.optim.Optimizer:
    return torch.optim.SGD(module.parameters(), lr=lr, momentum=0.9)


def layer() -> nn.Linear:
    made = nn.Linear(2, 1)
    with torch.no_grad():
        made.weight.fill_(1.0)
        made.bias.zero_()
    return made


# -- checkpoints -------------------------------------------------------------------------------------------------------------


class Counter:
    """Anything with a state."""

    def __init__(self) -> None:
        self.count = 0

    def state_dict(self) -> dict[str, int]:
        return {"count": self.count}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.count = state["count"]


def trained(fabric: Fabric) -> dict[str, Any]:
    module = layer()
    ready, optimizer = fabric.setup(module, sgd(module))
    fabric.backward(ready(torch.ones(1, 2)).sum())
    optimizer.step()
    counter = Counter()
    counter.count = 7
    return {"model": ready, "optimizer": optimizer, "counter": counter, "step": 1}


def fresh(fabric: Fabric) -> dict[str, Any]:
    module = nn.Linear(2, 1)
    ready, optimizer = fabric.setup(module, sgd(module, 0.7))
    return {"model": ready, "optimizer": optimizer, "counter": Counter(), "step": 0}


def test_everything_that_has_a_state_is_saved_by_it_and_loaded_in_place(fabric: Fabric) -> None:
    saved = trained(fabric)
    fabric.save("x", saved)
    assert fabric.strategy.called()[-1] == "barrier"
    content = fabric.load("x")
    assert list(content["model"]) == ["weight", "bias"]
    assert content["optimizer"]["param_groups"][0]["lr"] == 0.1
    assert (content["counter"], content["step"]) == ({"count": 7}, 1)
    state = fresh(fabric)
    model, optimizer, counter = state["model"], state["optimizer"], state["counter"]
    assert fabric.load("x", state) == {}
    assert (state["model"], state["optimizer"], state["counter"], state["step"]) == (model, optimizer, counter, 1)
    assert torch.equal(model.weight, saved["model"].weight)
    assert counter.count == 7
    assert optimizer.param_groups[0]["lr"] == 0.1
    buffers = [parameter["momentum_buffer"].tolist() for parameter in optimizer.state.values()]
    assert buffers == [[[1.0, 1.0]], [1.0]]


def test_what_the_state_does_not_ask_for_is_handed_back(fabric: Fabric) -> None:
    fabric.save("x", {"a": 1, "b": 2})
    state = {"a": 0}
    assert fabric.load("x", state) == {"b": 2}
    assert state == {"a": 1}


def test_a_missing_key_is_named_before_anything_is_loaded(fabric: Fabric) -> None:
    fabric.save("x", trained(fabric))
    state = {**fresh(fabric), "epoch": 0}
    before = state["model"].weight.clone()
    with pytest.raises(KeyError, match="x holds no 'epoch'; it holds 'model', 'optimizer', 'counter', 'step'"):
        fabric.load("x", state)
    assert torch.equal(state["model"].weight, before)
    assert fabric.load("x", state, strict=False) == {}
    assert (state["epoch"], state["step"]) == (0, 1)
    assert not torch.equal(state["model"].weight, before)


def test_a_filter_picks_what_is_saved(fabric: Fabric) -> None:
    fabric.save("x", trained(fabric), filter={"model": lambda name, value: "bias" in name and value.numel() == 1})
    content = fabric.load("x")
    assert list(content["model"]) == ["bias"]
    assert "state" in content["optimizer"]
    state = {"model": fabric.setup(layer())}
    with pytest.raises(CheckpointMismatchError, match="weight"):
        fabric.load("x", state)
    fabric.load("x", state, strict=False)
    assert state["model"].bias.item() == content["model"]["bias"].item()


@pytest.mark.parametrize(
    ("filters", "error", "message"),
    [
        (3, TypeError, "must map keys of the state to functions"),
        ({"model": 3}, TypeError, "must map keys of the state to functions"),
        ({"modle": lambda name, value: True}, ValueError, r"names \['modle'\], which the state does not hold; it holds \['model'"),
        ({"step": lambda name, value: True}, TypeError, r"filter\['step'\] picks among the items of a mapping, and .* is a int"),
    ],
)
def test_a_filter_that_cannot_work_is_refused_before_anything_is_written(
    fabric: Fabric, filters: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        fabric.save("x", trained(fabric), filter=filters)
    assert fabric.strategy.checkpoint_io.stored == {}


def test_only_rank_zero_writes(plugin_manager: PluginManager) -> None:
    fabric = Fabric(manager=plugin_manager, strategy=FakeStrategy(2, 1))
    fabric.save("x", {"a": 1})
    assert fabric.strategy.checkpoint_io.stored == {}


def test_a_bare_state_is_loaded_into_one_object(fabric: Fabric) -> None:
    module, ready = layer(), fabric.setup(nn.Linear(2, 1))
    fabric.save("raw", module.state_dict())
    fabric.load_raw("raw", ready)
    assert torch.equal(ready.weight, module.weight)
    fabric.save("part", {"bias": torch.tensor([3.0])})
    with pytest.raises(CheckpointMismatchError):
        fabric.load_raw("part", ready)
    fabric.load_raw("part", ready, strict=False)
    assert ready.bias.item() == 3.0
    optimizer = sgd(module, 0.9)
    fabric.save("optimizer", optimizer.state_dict())
    other = fabric.setup_optimizers(sgd(layer()))
    fabric.load_raw("optimizer", other)
    assert other.param_groups[0]["lr"] == 0.9
    with pytest.raises(TypeError, match="not a int"):
        fabric.load_raw("raw", 3)


def test_a_checkpoint_that_is_not_there_is_not_found(fabric: Fabric) -> None:
    for load in (lambda: fabric.load("none"), lambda: fabric.load_raw("none", layer())):
        with pytest.raises(FileNotFoundError) as caught:
            load()
        assert isinstance(caught.value, CheckpointNotFoundError)
