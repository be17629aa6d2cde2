"""The memory that a model and its optimizers take."""

import pytest
import torch
from torch import nn, optim

from lx.measures.footprint import footprint, kept_for_backward, states_size
from lx.measures.summary import ModelSummary

SIZE = 4 * (100 * 50 + 50)


def layer():
    return nn.Linear(100, 50)


def stepped(optimizer, model):
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()


@pytest.mark.parametrize(
    ("make", "times"),
    [
        (lambda parameters: optim.SGD(parameters, lr=0.1), 0),
        (lambda parameters: optim.SGD(parameters, lr=0.1, momentum=0.9), 1),
        (optim.Adam, 2),
        (lambda parameters: optim.AdamW(parameters, amsgrad=True), 3),
        (lambda parameters: optim.RMSprop(parameters, centered=True, momentum=0.1), 3),
        (optim.Adagrad, 1),
    ],
)
def test_states_are_foreseen_as_they_will_be(make, times):
    model = layer()
    optimizer = make(model.parameters())
    assert states_size(optimizer) == times * SIZE
    stepped(optimizer, model)
    assert states_size(optimizer) == times * SIZE


def test_groups_may_differ():
    model = layer()
    optimizer = optim.SGD([{"params": [model.weight], "momentum": 0.9}, {"params": [model.bias], "name": "bias"}], lr=0.1)
    assert states_size(optimizer) == 4 * 100 * 50


def test_an_optimizer_that_needs_more_than_a_step_is_not_known():
    assert states_size(optim.LBFGS(layer().parameters())) is None
    assert footprint(layer(), [optim.LBFGS(layer().parameters())]).optimizers is None


def test_parameters_gradients_and_buffers():
    model = nn.Sequential(layer(), nn.BatchNorm1d(50), layer(), nn.LazyLinear(3))
    model[2].weight = model[0].weight
    model[1].requires_grad_(False)
    found = footprint(model.half())
    shared = 2 * (100 * 50 + 2 * 50)
    assert (found.parameters, found.gradients, found.buffers) == (shared + 2 * 100, shared, 2 * 100 + 8)
    assert (found.optimizers, found.activations) == (None, None)
    assert found.total == found.parameters + found.gradients + found.buffers


def test_what_this_process_holds_of_a_sharded_model():
    class Shard(nn.Parameter):
        def to_local(self):
            return self.detach()[:2]

    model = nn.Linear(4, 8, bias=False)
    model.weight = Shard(torch.zeros(8, 4))
    assert footprint(model).parameters == 4 * 2 * 4
    summary = ModelSummary(model, example_input=torch.zeros(1, 4))
    assert summary.memory().activations is None


def test_what_a_forward_keeps():
    model, x = nn.Sequential(layer(), nn.ReLU(), nn.Linear(50, 1)), torch.randn(8, 100)
    with torch.no_grad():
        assert kept_for_backward(model, lambda: model(x)) == 4 * 8 * (100 + 50)


def test_the_summary_measures_activations_and_leaves_the_model_as_it_was():
    model = nn.Sequential(layer(), nn.BatchNorm1d(50), nn.Dropout())
    model.example_input_array = torch.randn(8, 100)
    summary, state = ModelSummary(model), torch.get_rng_state()
    memory = summary.memory([optim.Adam(model.parameters())])
    assert memory.activations >= 4 * 8 * 150
    assert memory.optimizers == 2 * memory.parameters
    assert all(module.training for module in model.modules())
    assert torch.equal(model[1].running_mean, torch.zeros(50))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert str(memory).startswith(f"{memory.total / 1e6:.3f} MB to train: ")


def test_a_forward_that_fails_with_gradients_costs_the_activations_alone():
    class Moody(nn.Linear):
        def forward(self, x):
            if torch.is_grad_enabled():
                raise RuntimeError("not enough memory")
            return super().forward(x)

    summary = ModelSummary(Moody(2, 2), example_input=torch.zeros(1, 2))
    with pytest.warns(UserWarning, match="activations of Moody are not known: RuntimeError: not enough memory"):
        memory = summary.memory()
    assert (memory.activations, memory.parameters) == (None, 24)


def test_nothing_is_compiled_for_it():
    compiled = []

    def backend(graph, inputs):
        compiled.append(graph)
        return graph.forward

    class Squared(nn.Linear):
        def forward(self, x):
            return super().forward(x).square()

    model, x = Squared(4, 4), torch.ones(2, 4)
    model.compile(backend=backend)
    assert kept_for_backward(model, lambda: model(x)) == 4 * 2 * (4 + 4)
    assert not compiled
    model(x)
    assert compiled
    torch._dynamo.reset()
