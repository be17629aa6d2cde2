"""What a snapshot puts back."""

import copy
from collections import deque

import pytest
import torch
from torch import nn

from lx.running.snapshot import LONG, Snapshot


class Rich(nn.Module):
    """A module with all kinds of state."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 2)
        self.tied = self.layer.weight
        self.register_buffer("kept", torch.ones(2))
        self.register_buffer("unkept", torch.ones(2), persistent=False)
        self.shadow = {"weight": self.layer.weight.detach().clone()}
        self.seen, self.recent, self.names = [], deque([1], maxlen=2), {"a"}
        self.count = 0
        self.plain = torch.arange(2)
        self.generator = torch.Generator().manual_seed(0)
        self.hidden = [nn.Linear(1, 1)]

    def change(self):
        """Changes all of it."""
        with torch.no_grad():
            for parameter in (*self.parameters(), *self.hidden[0].parameters()):
                parameter.add_(1)
            self.kept.add_(1)
            self.unkept.add_(1)
            self.shadow["weight"].add_(1)
        self.shadow["bias"] = torch.ones(1)
        self.seen.append(torch.ones(1))
        self.recent.extend([2, 3])
        self.names.add("b")
        self.count += 1
        self.plain.add_(1)
        self.new = nn.Linear(1, 1)
        self.layer.requires_grad_(False)
        self.layer.eval()
        torch.rand(1, generator=self.generator)
        del self.hidden[:]


def contents(module):
    numbers = [*module.parameters(), module.kept, module.unkept, module.shadow["weight"], module.plain]
    return (
        [number.tolist() for number in numbers],
        [number.requires_grad for number in numbers],
        sorted(vars(module)),
        sorted(module.shadow),
        (module.seen, module.recent, module.names, module.count, len(module.hidden), module.layer.training, sorted(module._modules)),
        module.generator.get_state().tolist(),
    )


def test_everything_in_a_module_comes_back_into_the_very_objects():
    module = Rich()
    before = copy.deepcopy(contents(module))
    objects = [module.tied, module.kept, module.shadow, module.seen, module.recent, module.hidden[0]]
    snapshot = Snapshot()
    snapshot.take(module)
    module.change()
    assert contents(module) != before
    snapshot.restore()
    assert contents(module) == before
    now = [module.layer.weight, module.kept, module.shadow, module.seen, module.recent, module.hidden[0]]
    assert all(one is other for one, other in zip(now, objects, strict=True))
    assert module.recent.maxlen == 2


@pytest.mark.parametrize("had_gradient", [True, False])
def test_gradients_are_there_afterwards_only_if_they_were_before(had_gradient):
    layer = nn.Linear(1, 1)
    if had_gradient:
        layer.weight.grad = torch.full((1, 1), 3.0)
    gradient = layer.weight.grad
    snapshot = Snapshot()
    snapshot.take(layer)
    layer(torch.ones(1)).sum().backward()
    snapshot.restore()
    assert layer.weight.grad is gradient
    assert gradient is None or gradient.item() == 3.0
    assert layer.bias.grad is None


def test_an_optimizer_has_the_states_that_it_had_and_no_others():
    first, second = nn.Linear(1, 1), nn.Linear(1, 1)
    optimizer = torch.optim.SGD([*first.parameters(), *second.parameters()], lr=0.1, momentum=0.9)

    def step(layer):
        layer(torch.ones(1)).sum().backward()
        optimizer.step()
        optimizer.zero_grad()

    step(first)
    states = {parameter: state["momentum_buffer"].clone() for parameter, state in optimizer.state.items()}
    groups, buffers = optimizer.param_groups, {key: state["momentum_buffer"] for key, state in optimizer.state.items()}
    snapshot = Snapshot()
    snapshot.take(optimizer)
    step(first)
    step(second)
    optimizer.param_groups[0]["lr"] = 7.0
    optimizer.add_param_group({"params": [nn.Parameter(torch.ones(1))]})
    snapshot.restore()
    assert optimizer.param_groups is groups
    assert [group["lr"] for group in groups] == [0.1]
    assert set(optimizer.state) == set(first.parameters())
    for parameter, state in optimizer.state.items():
        assert state["momentum_buffer"] is buffers[parameter]
        assert torch.equal(state["momentum_buffer"], states[parameter])


def test_a_parameter_that_was_given_other_data_has_its_own_again():
    parameter = nn.Parameter(torch.ones(2))
    snapshot = Snapshot()
    snapshot.take([parameter])
    parameter.data = torch.zeros(3, dtype=torch.float64)
    snapshot.restore()
    assert parameter.tolist() == [1.0, 1.0]
    assert parameter.dtype is torch.float32


def test_what_cannot_be_changed_in_place_is_let_alone():
    owner = [torch.ones(1).expand(3), torch.ones(2, device="meta"), nn.LazyLinear(2).weight, (torch.ones(1, requires_grad=True) * 2)]
    with torch.inference_mode():
        owner.append(torch.ones(1))
    snapshot = Snapshot()
    snapshot.take(owner)
    snapshot.restore()
    assert owner[-1].item() == 1.0


def test_data_are_no_state():
    rows = [torch.ones(1) for _ in range(LONG + 1)]
    snapshot = Snapshot()
    snapshot.take(rows)
    rows[0].add_(1)
    rows.append(None)
    snapshot.restore()
    assert len(rows) == LONG + 1
    assert rows[0].item() == 2.0


def test_an_object_that_keeps_its_state_itself_is_given_it_back():
    class Position:
        def __init__(self):
            self.at = [0]

        def state_dict(self):
            return {"at": self.at}

        def load_state_dict(self, state):
            self.at = list(state["at"])

    position, attributes = Position(), Snapshot()
    snapshot = Snapshot()
    snapshot.take_state(position)
    snapshot.take_state(object())
    position.at.append(1)
    snapshot.restore()
    assert position.at == [0]
    attributes.take_attributes(position)
    attributes.take_attributes(3)
    position.at, position.more = None, 1
    attributes.restore()
    assert vars(position) == {"at": [0]}
