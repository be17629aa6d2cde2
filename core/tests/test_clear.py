"""What a step leaves behind is let go: gradients before the next one, its graph at once."""

import weakref
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lx import Trainer
from lx.kernel import PluginManager
from lx.loops.steps import find_clear
from lx.testing import TinyModule


class Own(torch.optim.SGD):
    """Has a `zero_grad` of its own."""

    def zero_grad(self, set_to_none: bool = True) -> None:
        super().zero_grad(set_to_none=False)


def model_with_gradients() -> nn.Linear:
    model = nn.Linear(2, 1)
    model(torch.ones(1, 2)).sum().backward()
    return model


def test_what_torch_does_is_done() -> None:
    model = model_with_gradients()
    optimizer = torch.optim.SGD([{"params": [model.weight]}], lr=0.1)
    clear = find_clear(optimizer, profiles=False)
    optimizer.add_param_group({"params": [model.bias]})  # such as when layers are thawed in the course of a training
    clear()
    assert model.weight.grad is model.bias.grad is None
    clear()


@pytest.mark.parametrize("profiles", [False, True])
def test_an_own_zero_grad_is_called(profiles: bool) -> None:
    model = model_with_gradients()
    find_clear(Own(model.parameters(), lr=0.1), profiles)()
    assert isinstance(model.weight.grad, Tensor)
    assert not model.weight.grad.any()


def test_one_that_was_put_on_the_object_is_called() -> None:
    optimizer: Any = torch.optim.SGD(nn.Linear(2, 1).parameters(), lr=0.1)
    called = []
    optimizer.zero_grad = lambda: called.append(True)
    find_clear(optimizer, profiles=False)()
    assert called == [True]


def test_a_profile_shows_that_of_torch_by_its_name() -> None:
    optimizer = torch.optim.SGD(model_with_gradients().parameters(), lr=0.1)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        find_clear(optimizer, profiles=True)()
    assert "Optimizer.zero_grad#SGD.zero_grad" in [event.key for event in profile.key_averages()]


class Watched(TinyModule):
    """Notes whether the graph of a step is there when its batch ends."""

    def __init__(self) -> None:
        super().__init__()
        self.alive: list[bool] = []
        self.node: Any = None

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss = super().training_step(batch, batch_idx)
        node = loss.grad_fn
        node.metadata["watched"] = watched = Mark()
        self.node = weakref.ref(watched)
        return loss

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        assert outputs["loss"].grad_fn is None
        self.alive.append(self.node() is not None)


class Mark:
    """Lives as long as the node that it was given to."""


@pytest.mark.parametrize("options", [{}, {"accumulate_grad_batches": 2}, {"gradient_clip_val": 1.0}], ids=["plain", "windows", "clipping"])
def test_the_graph_of_a_step_ends_with_it(plugin_manager: PluginManager, options: Any, tiny_data: Any) -> None:
    model = Watched()
    Trainer(manager=plugin_manager, max_epochs=1, logger=False, enable_checkpointing=False, **options).fit(model, tiny_data)
    assert model.alive
    assert not any(model.alive)
