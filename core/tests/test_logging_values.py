"""What `self.log` takes, what it makes of it over an epoch, and that what was logged stays what it was."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from lx import LightningModule, Trainer
from lx.kernel.errors import MisconfigurationException
from lx.testing import FakeLogger, fake_plugin_manager


class Model(LightningModule):
    """One layer, which logs nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(2, 1)

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return self.layer(batch).mean()

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Sum:
    """A metric object like those of torchmetrics, as small as can be: `update`, `compute`, `reset`, and what `forward` returned last."""

    def __init__(self) -> None:
        self._forward_cache: torch.Tensor | None = None
        self.reset()

    def update(self, values: torch.Tensor) -> None:
        self.total = self.total + values.sum()
        self.updates += 1

    def compute(self) -> torch.Tensor:
        return self.total

    def reset(self) -> None:
        self.total, self.updates, self._forward_cache = torch.tensor(0.0), 0, None

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        self.update(values)
        self._forward_cache = values.sum()
        return self._forward_cache


class SumModule(Sum, torch.nn.Module):
    """The same as a module, so that a LightningModule finds it among its own."""

    def __init__(self) -> None:
        torch.nn.Module.__init__(self)
        Sum.__init__(self)


def batches(*sizes: int) -> Any:
    """Batches of so many rows each, filled with 1, 2, 3 ..."""
    return DataLoader([torch.full((size, 2), place + 1.0) for place, size in enumerate(sizes)], batch_size=None)  # type: ignore[arg-type, var-annotated]


def trainer_of_fakes(**options: Any) -> Trainer:
    neutral = {"logger": FakeLogger(), "max_epochs": 1, "num_sanity_val_steps": 0, "log_every_n_steps": 1}
    return Trainer(manager=fake_plugin_manager(), **{**neutral, **options})


def validate(step: Any, loader: Any = None) -> Trainer:
    """A trainer that has run one validation with this step."""
    trainer = trainer_of_fakes()
    trainer.validate(type("Own", (Model,), {"validation_step": step})(), loader or batches(1, 2, 4), verbose=False)
    return trainer


def fit(step: Any, loader: Any = None, **options: Any) -> Trainer:
    """A trainer that has fitted with this training step."""
    trainer = trainer_of_fakes(**options)
    trainer.fit(type("Own", (Model,), {"training_step": step})(), loader or batches(1, 2, 4))
    return trainer


def logs(value: Any, **options: Any) -> Any:
    """A step that logs one value under `x`; a function is asked for it with the index of the batch."""

    def step(self: Any, batch: Any, batch_idx: int) -> None:
        self.log("x", value(batch_idx) if callable(value) else value, **options)

    return step


# -- kinds ---------------------------------------------------------------------------------------------------------------------

KINDS = {
    "float": (0.25, 0.25),
    "int": (3, 3.0),
    "bool": (True, 1.0),
    "numpy float64": (np.float64(0.25), 0.25),
    "numpy float32": (np.float32(0.25), 0.25),
    "numpy int": (np.int64(3), 3.0),
    "tensor": (torch.tensor(0.25), 0.25),
    "one element": (torch.tensor([0.25]), 0.25),
    "one element, nested": (torch.tensor([[[0.25]]]), 0.25),
    "parameter": (torch.nn.Parameter(torch.tensor(0.25)), 0.25),
    "float64": (torch.tensor(0.25, dtype=torch.float64), 0.25),
    "float16": (torch.tensor(0.25, dtype=torch.float16), 0.25),
    "bfloat16": (torch.tensor(0.25, dtype=torch.bfloat16), 0.25),
    "int64": (torch.tensor(3), 3.0),
    "int32": (torch.tensor(3, dtype=torch.int32), 3.0),
    "uint8": (torch.tensor(3, dtype=torch.uint8), 3.0),
    "flag": (torch.tensor(True), 1.0),
    "infinite": (math.inf, math.inf),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_number_of_any_kind_is_logged_by_step_and_by_epoch(kind: str) -> None:
    value, number = KINDS[kind]
    trainer = validate(logs(value, on_step=True))
    assert trainer.logger.metrics == [*((step, {"x_step": number}) for step in range(3)), (0, {"x_epoch": number, "epoch": 0})]
    published = trainer.callback_metrics["x"]
    assert (published.shape, published.dtype, published.requires_grad) == ((), torch.float32, False)
    alone = fit(lambda self, batch, batch_idx: self.log("x", value))
    assert alone.callback_metrics["x"] == number
    assert alone.callback_metrics["x"].dtype is (torch.float64 if kind == "float64" else torch.float32)


def test_numbers_below_float32_do_not_lose_what_they_sum_up_to() -> None:
    trainer = validate(
        logs(lambda place: torch.tensor(2048.0 if place == 0 else 1.0, dtype=torch.float16), reduce_fx="sum"), batches(*[1] * 9)
    )
    assert trainer.callback_metrics["x"] == 2056.0  # in float16 it would stay 2048


REFUSED = {
    "text": "text",
    "a number as a text": "1.5",
    "a mapping": {"a": 1.0},
    "a nested mapping": {"a": {"b": 1.0}},
    "a list": [1.0],
    "nothing": None,
    "an object": object(),
    "an array": np.array([1.0, 2.0]),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_no_number_is_refused(kind: str) -> None:
    value = REFUSED[kind]
    with pytest.raises(ValueError, match=rf"self\.log\('x', .*: a {type(value).__name__} cannot be logged; pass a number, a tensor of one"):
        validate(lambda self, batch, batch_idx: self.log("x", value))


@pytest.mark.parametrize("shape", [(2,), (0,), (1, 2)])
def test_a_tensor_of_several_elements_is_refused_with_their_number(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=rf"a tensor of {math.prod(shape)} elements cannot be logged; reduce it to one number first"):
        validate(logs(torch.ones(shape)))


def test_a_value_that_is_refused_leaves_nothing_behind() -> None:
    def step(self: Any, batch: Any, batch_idx: int) -> None:
        if batch_idx == 0:
            with pytest.raises(ValueError, match="cannot be logged"):
                self.log("x", "text", on_step=True)
        else:
            self.log("x", float(batch_idx))

    assert validate(step, batches(1, 1, 1)).callback_metrics == {"x": 1.5}


# -- what was logged stays -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"on_epoch": True}, {"on_epoch": True, "reduce_fx": "sum"}, {"on_step": False, "on_epoch": True}])
def test_a_tensor_that_changes_later_does_not_change_what_was_logged(options: dict[str, Any]) -> None:
    def step(self: Any, batch: Any, batch_idx: int) -> None:
        value = torch.tensor(float(batch_idx))
        self.log("x", value, **options)
        value.fill_(100.0)

    trainer = fit(step, batches(1, 1, 1))
    of_epoch = [3.0] if options.get("reduce_fx") == "sum" else [1.0] if options else []
    of_steps = [0.0, 1.0, 2.0] if options.get("on_step", True) else []
    assert [value for _, row in trainer.logger.metrics for name, value in row.items() if name != "epoch"] == of_steps + of_epoch


def test_a_value_that_is_held_stays_when_more_are_logged() -> None:
    held = []

    def step(self: Any, batch: Any, batch_idx: int) -> None:
        self.log("x", float(batch_idx), on_epoch=True)
        held.append(self.trainer.callback_metrics["x"])

    fit(step, batches(*[1] * 600))
    assert [value.item() for value in held] == [float(place) for place in range(600)]


def test_the_graph_is_let_go_unless_it_is_asked_for() -> None:
    for keeps in (False, True):

        def step(self: Any, batch: Any, batch_idx: int, keeps: bool = keeps) -> Any:
            loss = self.layer(batch).mean()
            self.log("x", loss, on_epoch=True, enable_graph=keeps)
            assert self.trainer.callback_metrics["x_step"].requires_grad is keeps
            return loss

        assert fit(step).callback_metrics["x_epoch"].requires_grad is keeps


def test_a_kept_graph_leads_back_to_the_weights() -> None:
    def step(self: Any, batch: Any, batch_idx: int) -> None:
        for _ in range(2):
            self.log("x", self.layer(batch).sum(), on_epoch=True, enable_graph=True, reduce_fx="sum", batch_size=1)

    def end(self: Any) -> None:
        (gradient,) = torch.autograd.grad(self.trainer.callback_metrics["x_epoch"], self.layer.bias)
        self.log("gradient", gradient)

    trainer = trainer_of_fakes()
    trainer.fit(type("Own", (Model,), {"training_step": step, "on_train_epoch_end": end})(), batches(3))
    assert trainer.callback_metrics["gradient"] == 6.0


# -- reductions ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reduce", "expected"),
    [
        ("mean", (1 * 5 + 2 * -3 + 4 * 2) / 7),
        ("avg", 1.0),
        (torch.mean, 1.0),
        ("sum", 4.0),
        (sum, 4.0),
        (torch.sum, 4.0),
        ("min", -3.0),
        (min, -3.0),
        (torch.min, -3.0),
        ("max", 5.0),
        (max, 5.0),
        (torch.max, 5.0),
    ],
)
def test_the_epoch_is_reduced_as_asked(reduce: Any, expected: float) -> None:
    trainer = validate(logs(lambda place: [5.0, -3.0, 2.0][place], reduce_fx=reduce))
    assert trainer.callback_metrics["x"].item() == pytest.approx(expected, rel=1e-7)


@pytest.mark.parametrize("reduce", ["mean", "sum", "min", "max"])
def test_what_is_not_a_number_shows(reduce: str) -> None:
    assert math.isnan(validate(logs(lambda place: math.nan if place == 1 else 1.0, reduce_fx=reduce)).callback_metrics["x"])


def test_more_values_than_are_kept_side_by_side() -> None:
    count = 1000  # three times 256, and some
    values = [float((37 * place) % 601 - 300) for place in range(count)]
    sizes = [place % 5 + 1 for place in range(count)]

    def step(self: Any, batch: Any, batch_idx: int) -> None:
        for reduce in ("mean", "sum", "min", "max"):
            self.log(reduce, values[batch_idx], reduce_fx=reduce)

    metrics = validate(step, batches(*sizes)).callback_metrics
    mean = sum(value * size for value, size in zip(values, sizes, strict=True)) / sum(sizes)
    assert {name: value.item() for name, value in metrics.items()} == {
        "mean": torch.tensor(mean).item(),
        "sum": sum(values),
        "min": -300.0,
        "max": 300.0,
    }


def test_values_of_changing_dtypes_add_up() -> None:
    kinds = [torch.float32, torch.float64, torch.int64, torch.bfloat16]
    trainer = validate(logs(lambda place: torch.tensor(2, dtype=kinds[place % 4]), reduce_fx="sum"), batches(*[1] * 10))
    assert trainer.callback_metrics["x"] == 20.0


def test_sums_are_kept_in_float64() -> None:
    """A million added to itself and small things beside it: float32 would lose the small things."""
    values = [1e8, *[1.0] * 999, -1e8]
    trainer = validate(logs(lambda place: values[place], reduce_fx="sum"), batches(*[1] * 1001))
    assert trainer.callback_metrics["x"] == 999.0
    weighted = validate(logs(lambda place: values[place]), batches(*[3] * 1000, 3))
    assert weighted.callback_metrics["x"] == torch.tensor(999 / 1001)


# -- weights -------------------------------------------------------------------------------------------------------------------


def test_a_mean_is_weighted_by_the_sizes_of_the_batches_or_by_what_is_given() -> None:
    assert validate(logs(float)).callback_metrics["x"] == torch.tensor((0 * 1 + 1 * 2 + 2 * 4) / 7)

    def step(self: Any, batch: Any, batch_idx: int) -> None:
        self.log("x", float(batch_idx), batch_size=10**batch_idx)
        self.log("y", float(batch_idx))

    metrics = validate(step).callback_metrics
    assert metrics["x"] == torch.tensor(210 / 111)
    assert metrics["y"] == torch.tensor(10 / 7)


def test_what_an_epochs_hook_logs_weighs_one() -> None:
    def end(self: Any) -> None:
        self.log("x", 1.0)
        self.log("x", 2.0)

    trainer = trainer_of_fakes()
    trainer.fit(type("Own", (Model,), {"on_train_epoch_end": end})(), batches(1, 7))
    assert trainer.callback_metrics["x"] == 1.5


@pytest.mark.parametrize(
    "make",
    [
        lambda size: (torch.ones(size, 2), torch.ones(size)),
        lambda size: {"text": ["ab"] * 3, "x": torch.ones(size, 2)},
        lambda size: ("a name", {"deep": [torch.ones(size)]}),
        lambda size: [None, torch.ones(size)],
    ],
)
def test_the_size_is_that_of_the_first_tensor(make: Any) -> None:
    loader = DataLoader([make(size) for size in (1, 2, 4)], batch_size=None)  # type: ignore[var-annotated, arg-type]
    assert validate(logs(float), loader).callback_metrics["x"] == torch.tensor(10 / 7)


@pytest.mark.parametrize("batch", [(torch.ones(2, 1), torch.ones(5)), (torch.ones(2), "text")])
def test_a_size_that_something_disagrees_with_warns(batch: Any) -> None:
    with pytest.warns(UserWarning, match=r"the batch size was read as 2, and something else in the batch differs from it; pass self\.log"):
        assert validate(logs(1.0), DataLoader([batch], batch_size=None)).callback_metrics["x"] == 1.0  # type: ignore[var-annotated, arg-type]


def test_without_a_tensor_a_mean_needs_a_size() -> None:
    loader = DataLoader([["a"], ["b", "c"]], batch_size=None)  # type: ignore[var-annotated, arg-type]
    with pytest.raises(MisconfigurationException, match=r"the batch holds no tensor from which its size could be read; pass self\.log"):
        validate(logs(1.0), loader)
    assert validate(logs(float, reduce_fx="max"), loader).callback_metrics["x"] == 1.0
    assert validate(logs(float, batch_size=1), loader).callback_metrics["x"] == 0.5


# -- metric objects ------------------------------------------------------------------------------------------------------------


def with_sum(**hooks: Any) -> Any:
    """A model with a metric object as an attribute."""
    model = type("Own", (Model,), hooks)()
    model.sum = SumModule()
    return model


def rows(trainer: Any, name: str) -> list[tuple[int, float]]:
    """What the logger got under a name: step and value."""
    return [(step, values[name]) for step, values in trainer.logger.metrics if name in values]


def test_a_metric_object_is_computed_and_reset_each_epoch() -> None:
    def step(self: Any, batch: Any, batch_idx: int) -> None:
        self.sum.update(batch)
        self.log("sum", self.sum)

    model, trainer = with_sum(validation_step=step), trainer_of_fakes(max_epochs=3, num_sanity_val_steps=2)
    trainer.fit(model, batches(1), batches(1, 1))
    assert rows(trainer, "sum") == [(0, 6.0), (1, 6.0), (2, 6.0)]
    assert model.sum.updates == 0
    assert trainer.validate(model, batches(1, 1), verbose=False) == [{"sum": 6.0}]


def test_a_metric_object_logs_for_the_step_what_its_forward_returned() -> None:
    def step(self: Any, batch: Any, batch_idx: int) -> Any:
        self.sum(batch)
        self.log("sum", self.sum, on_step=True, on_epoch=True)
        return self.layer(batch).mean()

    trainer = trainer_of_fakes(max_epochs=2)
    trainer.fit(with_sum(training_step=step), batches(1, 2))
    assert rows(trainer, "sum_step") == [(0, 2.0), (1, 8.0), (2, 2.0), (3, 8.0)]
    assert rows(trainer, "sum_epoch") == [(1, 10.0), (3, 10.0)]


def test_a_metric_object_that_was_updated_only_has_no_value_for_the_step() -> None:
    def step(self: Any, batch: Any, batch_idx: int) -> Any:
        self.sum.update(batch)
        self.log("sum", self.sum, on_step=True, on_epoch=True)

    trainer = trainer_of_fakes()
    trainer.fit(with_sum(training_step=step), batches(1, 2))
    assert (rows(trainer, "sum_step"), rows(trainer, "sum_epoch")) == ([], [(1, 10.0)])


def test_a_metric_object_logged_at_the_end_of_the_epoch() -> None:
    hooks = {
        "training_step": lambda self, batch, batch_idx: self.sum.update(batch),
        "on_train_epoch_end": lambda self: self.log("sum", self.sum),
    }
    trainer = trainer_of_fakes(max_epochs=2)
    trainer.fit(with_sum(**hooks), batches(1, 2))
    assert rows(trainer, "sum") == [(1, 10.0), (3, 10.0)]


def test_a_metric_object_begins_anew_after_a_run_that_failed() -> None:
    def step(self: Any, batch: Any, batch_idx: int) -> None:
        self.sum.update(batch)
        self.log("sum", self.sum)
        if self.fails:
            raise ValueError("on purpose")

    model, trainer = with_sum(validation_step=step), trainer_of_fakes()
    model.fails = True
    with pytest.raises(ValueError, match="on purpose"):
        trainer.validate(model, batches(1), verbose=False)
    model.fails = False
    assert trainer.validate(model, batches(1), verbose=False) == [{"sum": 2.0}]


def test_a_metric_object_of_nobody_is_refused_unless_an_attribute_is_named() -> None:
    metric = Sum()

    def step(self: Any, batch: Any, batch_idx: int, **options: Any) -> None:
        metric.update(batch)
        self.log("sum", metric, **options)

    with pytest.raises(
        MisconfigurationException, match=r"the metric Sum is no attribute of the module; assign it in __init__, or pass metric_at"
    ):
        validate(step)
    metric.reset()
    named = validate(lambda self, batch, batch_idx: step(self, batch, batch_idx, metric_attribute="somewhere.else"), batches(1))
    assert named.callback_metrics["sum"] == 2.0


@pytest.mark.parametrize(
    ("computed", "what"), [("text", "a str"), ({"a": torch.tensor(1.0)}, "a dict"), (torch.ones(2), "a tensor of 2 elements")]
)
def test_a_metric_object_must_compute_one_number(computed: Any, what: str) -> None:
    model = with_sum(validation_step=lambda self, batch, batch_idx: self.log("sum", self.sum))
    model.sum.compute = lambda: computed
    with pytest.raises(ValueError, match=rf"self\.log\('sum'\): the metric's compute\(\) returned {what}, and a tensor of one element is"):
        trainer_of_fakes().validate(model, batches(1), verbose=False)


@pytest.mark.parametrize(("first", "message"), [(True, "was a metric object before, and a number later"), (False, "was a number before")])
def test_a_name_is_of_a_metric_object_or_of_numbers(first: bool, message: str) -> None:
    def step(self: Any, batch: Any, batch_idx: int) -> None:
        self.sum.update(batch)
        self.log("x", self.sum if (batch_idx == 0) is first else torch.tensor(1.0))

    with pytest.raises(MisconfigurationException, match=message):
        trainer_of_fakes().validate(with_sum(validation_step=step), batches(1, 1), verbose=False)
