"""What Fabric hands back: modules, optimizers and loaders that behave as the originals do."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, DistributedSampler

from lx import Fabric, LightningModule
from lx.interfaces.precision import Precision
from lx.testing import FakePrecision, FakeStrategy, TinyModule
from lx.wrappers import FabricDataLoader, FabricModule, FabricOptimizer, bind, unwrap


class Envelope(nn.Module):
    """What a strategy may wrap a module in; it counts the forwards that came its way."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        self.forwards = 0

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        self.forwards += 1
        return self.module(*args, **kwargs)


class Net(nn.Module):
    """Two layers, and ways past `forward`."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 1)
        self.scale = 1.0
        self.register_buffer("seen", torch.zeros(1))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.layer(inputs) * self.scale

    def embed(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.layer(inputs) + 1

    def describe(self) -> str:
        return f"scale {self.scale}"


def wrapped(module: nn.Module | None = None, precision: Precision | None = None) -> FabricModule:
    module = Net() if module is None else module
    return FabricModule(module, Envelope(module), FakeStrategy(), precision or Precision())


def bare(module: nn.Module | None = None, precision: Precision | None = None) -> FabricModule:
    """Under a strategy that wraps nothing."""
    module = Net() if module is None else module
    return FabricModule(module, module, FakeStrategy(), precision or Precision())


# -- modules -----------------------------------------------------------------------------------------------------------------


def test_calling_it_runs_the_strategys_wrapper() -> None:
    model, inputs = wrapped(), torch.ones(3, 2)
    assert torch.equal(model(inputs), model.module(inputs))
    assert torch.equal(model(inputs=inputs), model.module(inputs))
    assert model.wrapped.forwards == 2


class Halves(FakePrecision):
    """float16 inside, float32 outside; it notes when its context is open."""

    def __init__(self) -> None:
        self.inside = False
        self.context_at_output: bool | None = None

    def convert_input(self, data: Any) -> Any:
        return [part.half() for part in data] if isinstance(data, tuple) else data

    def convert_output(self, data: Any) -> Any:
        self.context_at_output = self.inside
        return data.float()

    @contextmanager
    def forward_context(self) -> Iterator[None]:
        self.inside = True
        yield
        self.inside = False


def test_inputs_and_outputs_are_converted_around_the_precisions_context() -> None:
    seen: list[Any] = []

    class Looks(nn.Module):
        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            seen.append((inputs.dtype, precision.inside))
            return inputs

    precision = Halves()
    assert bare(Looks(), precision)(torch.ones(1)).dtype is torch.float32
    assert seen == [(torch.float16, True)]
    assert precision.context_at_output is False


def test_attributes_are_read_from_the_original_and_written_to_it() -> None:
    model = wrapped()
    model.module.tag = "first"
    assert (model.tag, model.layer is model.module.layer, model.describe()) == ("first", True, "scale 1.0")
    model.scale = 3.0
    model.threshold = 0.5
    model._hidden = 1
    model.layer = nn.Linear(2, 1)
    assert (model.module.scale, model.module.threshold, model.module._hidden) == (3.0, 0.5, 1)
    assert model.module.layer is model.layer
    assert model.describe() == "scale 3.0"
    del model.threshold
    assert not hasattr(model.module, "threshold")
    with pytest.raises(AttributeError, match="no_such"):
        model.no_such
    with pytest.raises(AttributeError):
        del model.no_such


def test_modes_and_gradients_of_wrapper_and_original_are_one() -> None:
    model = wrapped()
    model.eval()
    assert not any(part.training for part in (model, model.wrapped, model.module, model.module.layer))
    model.train()
    assert all(part.training for part in (model, model.wrapped, model.module, model.module.layer))
    model(torch.ones(1, 2)).sum().backward()
    assert next(iter(model.parameters())).grad is model.module.layer.weight.grad
    model.zero_grad()
    assert model.module.layer.weight.grad is None
    assert len(list(model.parameters())) == 2


def test_its_state_has_no_prefixes_and_loads_into_the_original() -> None:
    model, other = wrapped(), Net()
    assert list(model.state_dict()) == ["seen", "layer.weight", "layer.bias"] == list(other.state_dict())
    model.load_state_dict(other.state_dict())
    assert torch.equal(model.module.layer.weight, other.layer.weight)
    assert model.load_state_dict({}, strict=False).missing_keys == ["seen", "layer.weight", "layer.bias"]


def test_a_copy_has_weights_of_its_own() -> None:
    model = wrapped()
    other = copy.deepcopy(model)
    with torch.no_grad():
        other.layer.weight.add_(1)
    assert not torch.equal(model.layer.weight, other.layer.weight)
    assert torch.equal(other(torch.ones(1, 2)), other.module(torch.ones(1, 2)))


def test_a_method_that_runs_layers_past_the_wrapper_is_refused_until_it_is_marked() -> None:
    model = wrapped()
    with pytest.raises(RuntimeError, match=r"embed\(\) runs Linear past .* model.mark_forward_method\('embed'\)"):
        model.embed(torch.ones(1, 2))
    assert torch.equal(model.module.embed(torch.ones(1, 2)), model(torch.ones(1, 2)) + 1)  # nothing is left of the refusal
    model.mark_forward_method("embed")
    before = model.wrapped.forwards
    assert torch.equal(model.embed(torch.ones(1, 2)), model(torch.ones(1, 2)) + 1)
    assert model.wrapped.forwards == before + 2
    by_method = wrapped()
    by_method.mark_forward_method(by_method.module.embed)
    assert by_method.embed(torch.ones(1, 2)).shape == (1, 1)


def test_under_a_strategy_that_wraps_nothing_every_method_may_be_called() -> None:
    model = bare()
    assert model.embed(torch.ones(1, 2)).shape == (1, 1)


@pytest.mark.parametrize(
    ("method", "error", "message"),
    [
        (3, TypeError, "takes a method or its name, not 3"),
        ("forward", ValueError, "forward is marked already"),
        ("no_such", AttributeError, "Net has no method 'no_such'"),
        ("scale", AttributeError, "Net has no method 'scale'"),
    ],
)
def test_what_is_no_method_cannot_be_marked(method: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        wrapped().mark_forward_method(method)


def test_the_steps_of_a_lightning_module_go_through_the_wrapper() -> None:
    class Quiet(TinyModule):
        def log(self, *args: Any, **kwargs: Any) -> None: ...

    model, rows = wrapped(Quiet()), torch.ones(2, 8)
    assert torch.equal(model.training_step(rows, 0), model.module.loss(rows))
    assert torch.equal(model.predict_step(rows, 0), model.module(rows))
    assert model.wrapped.forwards == 2


class Inner(LightningModule):
    """A step that calls the module itself, as most do."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 1)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.layer(inputs)

    def training_step(self, batch: torch.Tensor, fails: bool = False) -> torch.Tensor:
        if fails:
            raise RuntimeError("a step that fails")
        return self(batch).sum()


def test_a_step_calls_the_modules_own_forward_also_after_one_failed() -> None:
    model = wrapped(Inner())
    with pytest.raises(RuntimeError, match="a step that fails"):
        model.training_step(torch.ones(1, 1), fails=True)
    assert "forward" not in vars(model.module)
    assert torch.equal(model.training_step(torch.ones(1, 1)), model.module.layer(torch.ones(1, 1)).sum())
    own = model.module.forward = lambda inputs: inputs * 7
    assert model.training_step(torch.ones(1, 1)) == 7
    assert model.module.forward is own


def test_nothing_is_put_around_a_method_where_there_is_nothing_to_do() -> None:
    module = Net()
    assert bind(module.embed, module, module, Precision()) == module.embed
    assert bind(module.embed, module, module, FakePrecision()) != module.embed  # it overrides, to record


# -- optimizers --------------------------------------------------------------------------------------------------------------


def pair(optimizer_class: Any = torch.optim.SGD, **arguments: Any) -> tuple[nn.Linear, Any, FabricOptimizer, FakePrecision, list[Any]]:
    module, precision, told = nn.Linear(2, 1), FakePrecision(), []
    optimizer = optimizer_class(module.parameters(), lr=0.1, **arguments)
    ready = FabricOptimizer(optimizer, FakeStrategy(), precision, lambda event, **facts: told.append((event, facts)))
    return module, optimizer, ready, precision, told


def test_an_optimizer_is_of_the_originals_class_and_shares_all_it_holds() -> None:
    _, optimizer, ready, _, _ = pair()
    assert isinstance(ready, torch.optim.SGD)
    assert (type(ready).__name__, ready.optimizer is optimizer) == ("FabricSGD", True)
    assert ready.param_groups is optimizer.param_groups
    assert ready.defaults is optimizer.defaults
    ready.param_groups[0]["lr"] = 0.3
    assert optimizer.param_groups[0]["lr"] == 0.3
    ready.add_param_group({"params": [nn.Parameter(torch.ones(1))]})
    assert len(optimizer.param_groups) == 2


def test_a_step_goes_through_the_precision_and_then_tells_the_callbacks() -> None:
    module, optimizer, ready, precision, told = pair()
    with torch.no_grad():
        module.weight.zero_()
    module.weight.grad = torch.ones(1, 2)
    assert ready.step() is None
    assert torch.allclose(module.weight, torch.full((1, 2), -0.1))
    assert [call.args for call in precision.called("optimizer_step")] == [(optimizer, None)]
    assert [(event, facts["optimizer"]) for event, facts in told] == [("on_after_optimizer_step", optimizer)]
    ready.zero_grad()
    assert module.weight.grad is None


def test_a_step_gives_back_what_its_closure_gave() -> None:
    module, _, ready, _, _ = pair(torch.optim.LBFGS)

    def closure() -> torch.Tensor:
        ready.zero_grad()
        loss = (module(torch.ones(1, 2)) - 1).pow(2).sum()
        loss.backward()
        return loss

    assert ready.step(closure) > 0


def test_after_a_state_was_loaded_wrapper_and_original_still_share_it() -> None:
    module, optimizer, ready, _, _ = pair(momentum=0.9)
    module.weight.grad = torch.ones(1, 2)
    ready.step()
    state = copy.deepcopy(ready.state_dict())
    state["param_groups"][0]["lr"] = 0.7
    for load in (ready.load_state_dict, optimizer.load_state_dict):
        load(copy.deepcopy(state))
        assert ready.param_groups is optimizer.param_groups
        assert ready.state is optimizer.state
        assert (ready.param_groups[0]["lr"], list(ready.state) == [module.weight]) == (0.7, True)


def test_schedulers_drive_the_original_through_the_wrapper() -> None:
    _, optimizer, ready, _, _ = pair()
    scheduler = torch.optim.lr_scheduler.StepLR(ready, step_size=1, gamma=0.5)
    ready.step()
    scheduler.step()  # it would warn, had it not seen the step
    assert optimizer.param_groups[0]["lr"] == 0.05


# -- loaders -----------------------------------------------------------------------------------------------------------------


def test_a_loader_forwards_what_it_does_not_have() -> None:
    loader = DataLoader(range(5), batch_size=2, drop_last=True)
    loader.note = "mine"
    ready = FabricDataLoader(loader, None)
    assert (len(ready), ready.batch_size, ready.drop_last, ready.note) == (2, 2, True, "mine")
    loader.later = 3
    assert ready.later == 3
    with pytest.raises(AttributeError, match="no_such"):
        ready.no_such
    assert copy.copy(ready).dataset is loader.dataset


def test_each_iteration_tells_the_samplers_the_next_epoch() -> None:
    told: list[int] = []

    class Notes(DistributedSampler[int]):
        def set_epoch(self, epoch: int) -> None:
            told.append(epoch)

    sampler = Notes(range(4), num_replicas=2, rank=0)
    ready = FabricDataLoader(DataLoader(range(4), sampler=sampler), None)
    for _ in range(3):
        list(ready)
    assert sorted(set(told)) == [0, 1, 2]
    assert told == sorted(told)


def test_what_was_wrapped_is_unwrapped_and_the_rest_left_alone(fabric: Fabric) -> None:
    module = nn.Linear(1, 1)
    optimizer, loader = torch.optim.SGD(module.parameters(), lr=0.1), DataLoader(range(2))
    ready, stepped = fabric.setup(module, optimizer)
    assert [unwrap(ready), unwrap(stepped), unwrap(fabric.setup_dataloaders(loader)), unwrap(3)] == [module, optimizer, loader, 3]
