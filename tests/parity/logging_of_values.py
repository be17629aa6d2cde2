"""Scenarios of values: kinds, reductions, weights, metric objects, and what is refused."""

import warnings
from collections import namedtuple
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from logging_record import Record, rows, scenario
from torch import Tensor
from torch.utils.data import DataLoader
from torchmetrics import MaxMetric, MeanMetric, MetricCollection, MinMetric, SumMetric

KINDS: dict[str, Any] = {
    "float": 0.1,
    "int": 3,
    "large": 2**24 + 1,
    "bool": True,
    "numpy_float": np.float64(0.3),
    "numpy_float32": np.float32(0.3),
    "tensor": torch.tensor(0.7),
    "one": torch.tensor([0.7]),
    "nested": torch.tensor([[0.7]]),
    "double": torch.tensor(0.1, dtype=torch.float64),
    "half": torch.tensor(0.1, dtype=torch.float16),
    "bfloat": torch.tensor(0.1, dtype=torch.bfloat16),
    "integer": torch.tensor(5),
    "flag": torch.tensor(True),
    "nan": float("nan"),
    "inf": float("inf"),
}


def logging(values: dict[str, Any], **options: Any) -> Any:
    """A validation step that logs all of these."""

    def step(self: Any, batch: Any, batch_idx: int) -> None:
        for name, value in values.items():
            self.log(name, value(batch, batch_idx) if callable(value) else value, **options)

    return step


@scenario
def kinds_of_values(record: Record) -> None:
    finite = {name: value for name, value in KINDS.items() if name != "nan"}
    for options in ({}, {"on_step": True, "on_epoch": False}, {"reduce_fx": "sum"}, {"reduce_fx": "max"}, {"reduce_fx": "min"}):
        record.run("validate", record.module(validation_step=logging(finite, **options)))


@scenario
def not_a_number(record: Record) -> None:
    for reduce in ("mean", "sum", "max", "min"):
        value = lambda batch, batch_idx: float("nan") if batch_idx == 1 else 1.0  # noqa: E731
        record.run("validate", record.module(validation_step=logging({"nan": value}, reduce_fx=reduce)))
    record.entries = [tuple(map(str, entry)) for entry in record.entries]  # nan is not equal to itself


@scenario
def values_that_are_refused(record: Record) -> None:
    refused = {
        "text": "text",
        "number_as_text": "1.5",
        "mapping": {"a": 1.0},
        "nested": {"a": {"b": 1.0}},
        "list": [1.0],
        "tuple": (1.0, 2.0),
        "none": None,
        "two": torch.tensor([1.0, 2.0]),
        "empty": torch.tensor([]),
        "array": np.array([1.0, 2.0]),
        "object": object(),
    }
    for name, value in refused.items():
        record.attempt(name, lambda value=value: record.run("validate", record.module(validation_step=logging({"x": value}))))  # type: ignore[misc]


@scenario
def names_that_are_refused(record: Record) -> None:
    for name in ("a/dataloader_idx_0", "dataloader_idx_0"):
        record.attempt(name, lambda name=name: record.run("validate", record.module(validation_step=logging({name: 1.0}))))  # type: ignore[misc]


@scenario
def arguments_that_are_refused(record: Record) -> None:
    for options in (
        {"on_step": False, "on_epoch": False},
        {"reduce_fx": "median"},
        {"reduce_fx": torch.std},
        {"reduce_fx": lambda values: values[0]},
    ):
        step = logging({"x": 1.0}, **options)
        record.attempt(next(iter(options)), lambda step=step: record.run("validate", record.module(validation_step=step)))  # type: ignore[misc]


@scenario
def reductions(record: Record) -> None:
    def value(batch: Any, batch_idx: int) -> Any:
        return batch.sum() - 3 * batch_idx

    for reduce in ("mean", "avg", "sum", "min", "max", torch.mean, torch.sum, torch.min, torch.max, sum, min, max):
        record.run("validate", record.module(validation_step=logging({"x": value}, reduce_fx=reduce)), rows(11, 4))


@scenario
def reductions_of_training_values(record: Record) -> None:
    def training_step(self: Any, batch: Any, batch_idx: int) -> Any:
        loss = self.layer(batch).pow(2).mean()
        for reduce in ("mean", "sum", "min", "max"):
            self.log(reduce, loss, on_step=True, on_epoch=True, reduce_fx=reduce)
        return loss

    record.run("fit", record.module(training_step=training_step), rows(11), rows(4), max_epochs=2)


@scenario
def weights_that_are_given(record: Record) -> None:
    def step(self: Any, batch: Any, batch_idx: int) -> None:
        self.log("x", float(batch_idx), batch_size=10**batch_idx)

    record.run("validate", record.module(validation_step=step))


@dataclass
class Parts:
    """A batch as a dataclass."""

    first: Tensor
    second: Tensor


Pair = namedtuple("Pair", "first second")


@scenario
def weights_that_are_read_off_the_batch(record: Record) -> None:
    batches = {
        "tuple": lambda n: (torch.ones(n, 2), torch.ones(n)),
        "mapping": lambda n: {"text": ["a"] * 3, "x": torch.ones(n, 2)},
        "deep": lambda n: [{"a": (torch.ones(n, 1), [torch.ones(n, 5)])}],
        "dataclass": lambda n: Parts(torch.ones(n, 2), torch.ones(n)),
        "namedtuple": lambda n: Pair(torch.ones(n, 2), torch.ones(n)),
        "scalar": lambda n: torch.tensor(1.0),
        "differing": lambda n: (torch.ones(n, 2), torch.ones(n + 3)),
        "none_first": lambda n: (None, torch.ones(n)),
        "text": lambda n: ("four", torch.ones(n)),
    }

    def step(self: Any, batch: Any, batch_idx: int) -> None:
        self.log("x", float(batch_idx))

    for name, make in batches.items():
        loader = DataLoader([make(n) for n in (1, 2, 4)], batch_size=None)  # type: ignore[var-annotated, arg-type]
        record.entries.append((name,))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            record.run("validate", record.module(validation_step=step), loader)
        record.entries.append(("warns of the size", any("batch_size" in str(warning.message) for warning in caught)))


@scenario
def batches_without_a_size(record: Record) -> None:
    for value in (1.0, torch.tensor(1.0)):
        for reduce in ("mean", "sum"):
            step = logging({"x": value}, reduce_fx=reduce)
            loader = DataLoader(["a", "b"], batch_size=1)  # type: ignore[var-annotated, arg-type]
            record.attempt(reduce, lambda step=step, loader=loader: record.run("validate", record.module(validation_step=step), loader))  # type: ignore[misc]


@scenario
def where_values_go(record: Record) -> None:
    def training_step(self: Any, batch: Any, batch_idx: int) -> Any:
        for name, options in {"bar": {"prog_bar": True}, "none": {"logger": False}, "both": {"prog_bar": True, "logger": False}}.items():
            self.log(name, float(batch_idx), **options)
            self.log(f"{name}_forked", float(batch_idx), on_step=True, on_epoch=True, **options)
            self.log(f"{name}_epoch", float(batch_idx), on_step=False, on_epoch=True, **options)
        return self.layer(batch).pow(2).mean()

    looking = record.looking("on_train_batch_end", "on_train_epoch_end")
    record.run("fit", record.module(training_step=training_step), callbacks=[looking], max_epochs=2)


@scenario
def many_at_once(record: Record) -> None:
    def training_step(self: Any, batch: Any, batch_idx: int) -> Any:
        self.log_dict({"a": 1.0 + batch_idx, "b": torch.tensor(2.0)}, on_step=True, on_epoch=True, prog_bar=True)
        return self.layer(batch).pow(2).mean()

    record.run("fit", record.module(training_step=training_step))


@scenario
def a_long_epoch(record: Record) -> None:
    """More values than are folded at once, of unequal weights."""

    def step(self: Any, batch: Any, batch_idx: int) -> None:
        for reduce in ("mean", "sum", "min", "max"):
            self.log(reduce, float((batch_idx * 37) % 601), reduce_fx=reduce)

    record.run("validate", record.module(validation_step=step), rows(1201, 2))


# -- metric objects ------------------------------------------------------------------------------------------------------------


def with_metrics(record: Record, hooks: dict[str, Any], **metrics: Any) -> Any:
    """A module with metric objects as attributes."""
    module = record.module(**hooks)
    for name, metric in metrics.items():
        setattr(module, name, metric)
    return module


def updating(**options: Any) -> Any:
    """A validation step that updates `self.mean` and logs it."""

    def step(self: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        self.mean.update(batch)
        self.log("mean", self.mean, **options)

    return step


@scenario
def a_metric_by_epoch(record: Record) -> None:
    module = with_metrics(record, {"validation_step": updating()}, mean=MeanMetric())
    record.run("fit", module, max_epochs=3, callbacks=[record.looking("on_validation_batch_end", "on_validation_end")])
    for _ in range(2):
        record.again("validate", module)


@scenario
def a_metric_after_the_sanity_check(record: Record) -> None:
    module = with_metrics(record, {"validation_step": updating()}, mean=SumMetric())
    record.run("fit", module, num_sanity_val_steps=2)


@scenario
def a_metric_by_step_and_epoch(record: Record) -> None:
    def training_step(self: Any, batch: Any, batch_idx: int) -> Any:
        self.mean(batch)
        self.log("mean", self.mean, on_step=True, on_epoch=True, prog_bar=True)
        self.top(batch)
        self.log("top", self.top, on_step=True, on_epoch=False)
        return self.layer(batch).pow(2).mean()

    module = with_metrics(record, {"training_step": training_step}, mean=MeanMetric(), top=MaxMetric())
    looking = record.looking("on_train_batch_end", "on_train_epoch_end")
    record.run("fit", module, rows(16), rows(4), max_epochs=2, log_every_n_steps=2, callbacks=[looking])


@scenario
def a_metric_that_was_updated_only(record: Record) -> None:
    def training_step(self: Any, batch: Any, batch_idx: int) -> Any:
        self.mean.update(batch)
        self.log("mean", self.mean, on_step=True, on_epoch=True)
        return self.layer(batch).pow(2).mean()

    module = with_metrics(record, {"training_step": training_step}, mean=MeanMetric())
    record.run("fit", module, rows(16), rows(4), max_epochs=2)


@scenario
def a_metric_logged_at_the_end_of_the_epoch(record: Record) -> None:
    def step(self: Any, batch: Any, batch_idx: int) -> Any:
        self.mean.update(batch)
        return self.layer(batch).pow(2).mean()

    def end(self: Any) -> None:
        self.log("mean", self.mean)

    module = with_metrics(record, {"training_step": step, "on_train_epoch_end": end}, mean=MeanMetric())
    record.run("fit", module, max_epochs=3)
    module = with_metrics(record, {"validation_step": step, "on_validation_epoch_end": end}, mean=SumMetric())
    record.run("fit", module, max_epochs=3, num_sanity_val_steps=2)
    record.again("validate", module)


@scenario
def the_value_of_a_metric(record: Record) -> None:
    def step(self: Any, batch: Any, batch_idx: int) -> None:
        self.log("value", self.mean(batch))

    def end(self: Any) -> None:
        self.log("computed", self.mean.compute())
        self.mean.reset()

    module = with_metrics(record, {"validation_step": step, "on_validation_epoch_end": end}, mean=MeanMetric())
    record.run("fit", module, max_epochs=2)


@scenario
def a_collection_of_metrics(record: Record) -> None:
    def step(self: Any, batch: Any, batch_idx: int) -> None:
        self.metrics.update(batch)
        self.log_dict(self.metrics)

    module = with_metrics(record, {"validation_step": step}, metrics=MetricCollection([MinMetric(), MaxMetric()], prefix="val_"))
    record.run("fit", module, max_epochs=2)


@scenario
def a_metric_for_each_loader(record: Record) -> None:
    def step(self: Any, batch: Any, batch_idx: int, dataloader_idx: int) -> None:
        metric = (self.first, self.second)[dataloader_idx]
        metric(batch)
        self.log("metric", metric, on_step=True, on_epoch=True)

    module = with_metrics(record, {"validation_step": step}, first=MeanMetric(), second=MeanMetric())
    record.run("validate", module, [rows(10, seed=1), rows(6, seed=2)])
    record.again("validate", module, [rows(10, seed=1), rows(6, seed=2)])


@scenario
def a_metric_of_nobody(record: Record) -> None:
    def step(self: Any, batch: Any, batch_idx: int) -> None:
        metric = MeanMetric()
        metric.update(batch)
        self.log("metric", metric)

    record.attempt("nobody", lambda: record.run("validate", record.module(validation_step=step)))


@scenario
def a_metric_that_computes_no_tensor(record: Record) -> None:
    class Odd(MeanMetric):
        def compute(self) -> Any:
            return "text"

    module = with_metrics(record, {"validation_step": updating()}, mean=Odd())
    record.attempt("odd", lambda: record.run("validate", module))


@scenario
def a_name_with_another_kind_of_value(record: Record) -> None:
    def step(self: Any, batch: Any, batch_idx: int) -> None:
        self.mean.update(batch)
        self.log("x", self.mean if batch_idx else 1.0)

    module = with_metrics(record, {"validation_step": step}, mean=MeanMetric())
    record.attempt("other", lambda: record.run("validate", module))
