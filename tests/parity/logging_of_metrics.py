"""Scenarios of metric objects: collections, several loaders, steps and epochs, callbacks, and what is refused."""

import warnings
from typing import Any

import torch
from logging_record import Record, rows, scenario
from torch import Tensor, nn
from torchmetrics import MaxMetric, MeanMetric, MeanSquaredError, Metric, MetricCollection, MinMetric, SumMetric
from torchmetrics.classification import BinaryAccuracy, BinaryPrecision, BinaryRecall, MulticlassAccuracy


def module_with(record: Record, hooks: dict[str, Any], **attributes: Any) -> Any:
    """A module with these hooks and these attributes."""
    module = record.module(**hooks)
    for name, value in attributes.items():
        setattr(module, name, value)
    return module


def training(use: Any) -> Any:
    """A training step that does `use(self, batch, batch_idx)` first."""

    def training_step(self: Any, batch: Any, batch_idx: int) -> Any:
        use(self, batch, batch_idx)
        return self.layer(batch).pow(2).mean()

    return training_step


def classes(batch: Tensor) -> tuple[Tensor, Tensor]:
    """Predictions and targets of two classes."""
    return batch[:, 0].sigmoid(), (batch[:, 1] > 0).long()


@scenario
def a_collection_that_is_called_at_steps(record: Record) -> None:
    def use(self: Any, batch: Any, batch_idx: int) -> None:
        self.metrics(*classes(batch))
        self.log_dict(self.metrics, on_step=True, on_epoch=True, prog_bar=True)

    metrics = MetricCollection([BinaryAccuracy(), BinaryPrecision(), BinaryRecall()])
    looking = record.looking("on_train_batch_end", "on_train_epoch_end")
    record.run("fit", module_with(record, {"training_step": training(use)}, metrics=metrics), callbacks=[looking], max_epochs=3)


@scenario
def a_collection_that_is_updated_in_compute_groups(record: Record) -> None:
    def step(self: Any, batch: Any, batch_idx: int) -> None:
        self.metrics.update(*classes(batch))
        self.log_dict(self.metrics)

    for groups in (True, False, [["BinaryPrecision", "BinaryRecall"], ["BinaryAccuracy"]]):
        metrics = MetricCollection([BinaryAccuracy(), BinaryPrecision(), BinaryRecall()], compute_groups=groups)  # type: ignore[arg-type]
        module = module_with(record, {"validation_step": step}, metrics=metrics)
        record.run("fit", module, max_epochs=3, num_sanity_val_steps=1)
        record.again("validate", module)


@scenario
def collections_within_collections(record: Record) -> None:
    def step(self: Any, batch: Any, batch_idx: int) -> None:
        self.metrics.update(batch)
        self.log_dict(self.metrics)

    inner = MetricCollection({"low": MinMetric(), "high": MaxMetric()}, postfix="_inner")
    metrics = MetricCollection({"total": SumMetric(), "range": inner}, prefix="val/")
    record.run("fit", module_with(record, {"validation_step": step}, metrics=metrics), max_epochs=2)


@scenario
def clones_with_prefixes_for_each_stage(record: Record) -> None:
    def use(self: Any, batch: Any, batch_idx: int) -> None:
        self.train_metrics(*classes(batch))
        self.log_dict(self.train_metrics, on_step=False, on_epoch=True)

    def step(self: Any, batch: Any, batch_idx: int) -> None:
        self.val_metrics.update(*classes(batch))

    def end(self: Any) -> None:
        self.log_dict(self.val_metrics)

    metrics = MetricCollection({"accuracy": BinaryAccuracy(), "recall": BinaryRecall()})
    hooks = {"training_step": training(use), "validation_step": step, "on_validation_epoch_end": end}
    stages = {"train_metrics": metrics.clone(prefix="train_"), "val_metrics": metrics.clone(prefix="val_", postfix="_all")}
    record.run("fit", module_with(record, hooks, **stages), max_epochs=3, num_sanity_val_steps=2)


@scenario
def computed_values_of_a_collection(record: Record) -> None:
    def step(self: Any, batch: Any, batch_idx: int) -> None:
        self.log_dict(self.metrics(*classes(batch)), on_step=True, on_epoch=True)

    def end(self: Any) -> None:
        self.log_dict({f"whole_{name}": value for name, value in self.metrics.compute().items()})
        self.metrics.reset()

    metrics = MetricCollection([BinaryAccuracy(), BinaryRecall()])
    hooks = {"validation_step": step, "on_validation_epoch_end": end}
    record.run("fit", module_with(record, hooks, metrics=metrics), max_epochs=2)


@scenario
def metrics_in_lists_and_mappings(record: Record) -> None:
    def step(self: Any, batch: Any, batch_idx: int) -> None:
        for index, metric in enumerate(self.listed):
            metric.update(batch * (index + 1))
            self.log(f"listed_{index}", metric)
        for name, metric in self.named.items():
            metric(batch)
            self.log(f"named_{name}", metric, on_step=True, on_epoch=True)

    listed = nn.ModuleList([MeanMetric(), SumMetric()])
    named = nn.ModuleDict({"low": MinMetric(), "high": MaxMetric()})
    module = module_with(record, {"validation_step": step}, listed=listed, named=named)
    record.run("fit", module, max_epochs=2)


@scenario
def one_collection_for_all_loaders(record: Record) -> None:
    """Its state is that of all batches up to then, for either loader."""

    def step(self: Any, batch: Any, batch_idx: int, dataloader_idx: int) -> None:
        self.metrics[dataloader_idx].update(*classes(batch))
        self.log_dict(self.metrics[dataloader_idx])

    metrics = nn.ModuleList([MetricCollection([BinaryAccuracy(), BinaryRecall()]) for _ in range(2)])
    module = module_with(record, {"validation_step": step}, metrics=metrics)
    record.run("validate", module, [rows(10, seed=1), rows(6, seed=2)])
    record.again("validate", module, [rows(6, seed=3), rows(10, seed=4)])


@scenario
def metrics_of_loaders_under_names_of_their_own(record: Record) -> None:
    def step(self: Any, batch: Any, batch_idx: int, dataloader_idx: int) -> None:
        metric = (self.first, self.second)[dataloader_idx]
        metric.update(batch)
        self.log(("first", "second")[dataloader_idx], metric, add_dataloader_idx=False)

    module = module_with(record, {"validation_step": step}, first=MeanMetric(), second=MaxMetric())
    record.run("fit", module, rows(8), [rows(10, seed=1), rows(6, seed=2)], max_epochs=2)


@scenario
def one_metric_that_all_stages_use(record: Record) -> None:
    def use(self: Any, batch: Any, batch_idx: int) -> None:
        self.mean(batch)
        self.log("train_mean", self.mean, on_step=True, on_epoch=False)

    def step(self: Any, batch: Any, batch_idx: int) -> None:
        self.other.update(batch)
        self.log("mean", self.other)

    module = module_with(
        record, {"training_step": training(use), "validation_step": step, "test_step": step}, mean=MeanMetric(), other=MeanMetric()
    )
    record.run("fit", module, max_epochs=2)
    record.again("test", module)
    record.again("validate", module)
    record.again("fit", module)


@scenario
def metrics_and_windows(record: Record) -> None:
    def use(self: Any, batch: Any, batch_idx: int) -> None:
        self.mean(batch)
        self.log("mean", self.mean, on_step=True, on_epoch=True)
        self.sum.update(batch)
        self.log("sum", self.sum, on_step=False, on_epoch=True)

    module = module_with(record, {"training_step": training(use)}, mean=MeanMetric(), sum=SumMetric())
    record.run("fit", module, rows(28), rows(4), accumulate_grad_batches=2, log_every_n_steps=2, max_epochs=2)


@scenario
def a_metric_with_two_validations_an_epoch(record: Record) -> None:
    def step(self: Any, batch: Any, batch_idx: int) -> None:
        self.sum.update(batch)
        self.log("sum", self.sum)

    def use(self: Any, batch: Any, batch_idx: int) -> None:
        self.seen.update(batch)
        self.log("seen", self.seen, on_step=False, on_epoch=True)

    module = module_with(record, {"validation_step": step, "training_step": training(use)}, sum=SumMetric(), seen=SumMetric())
    record.run("fit", module, rows(16), rows(8, seed=1), max_epochs=2, val_check_interval=2)


@scenario
def callbacks_that_log_metrics_of_the_module(record: Record) -> None:
    def batch_end(this: Any, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        module.error(batch[:, 0], batch[:, 1])
        this.log("error", module.error, on_step=True, on_epoch=True)
        this.log_dict(module.metrics, on_step=False, on_epoch=True)
        module.metrics.update(batch)

    def validated(this: Any, trainer: Any, module: Any) -> None:
        module.late.update(torch.tensor(float(trainer.current_epoch + 1)))
        this.log("late", module.late)

    metrics = {"error": MeanSquaredError(), "metrics": MetricCollection([MinMetric(), MaxMetric()]), "late": SumMetric()}
    callback = record.callback(on_train_batch_end=batch_end, on_validation_epoch_end=validated)
    record.run("fit", module_with(record, {}, **metrics), max_epochs=2, callbacks=[callback])


@scenario
def a_metric_that_only_its_attribute_names(record: Record) -> None:
    def step(self: Any, batch: Any, batch_idx: int) -> None:
        self.held[0].update(batch)
        self.log("mean", self.held[0], **options)

    for options in ({}, {"metric_attribute": "held"}):
        module = module_with(record, {"validation_step": step}, held=(MeanMetric(),))
        record.attempt(str(options), lambda module=module: record.run("validate", module))  # type: ignore[misc]


class Answer(Metric):
    """Computes whatever it was made with."""

    def __init__(self, answer: Any) -> None:
        super().__init__()
        self.answer = answer

    def update(self, batch: Tensor) -> None:
        """Takes anything."""

    def compute(self) -> Any:
        """The answer."""
        return self.answer


ANSWERS = {
    "one element": torch.tensor([3.0]),
    "integer": torch.tensor(3),
    "double": torch.tensor(0.1, dtype=torch.float64),
    "half": torch.tensor(0.1, dtype=torch.float16),
    "several": torch.tensor([1.0, 2.0]),
    "number": 3.0,
    "mapping": {"a": torch.tensor(1.0)},
}


@scenario
def what_compute_may_return(record: Record) -> None:
    def step(self: Any, batch: Any, batch_idx: int) -> None:
        self.metric.update(batch)
        self.log("metric", self.metric)

    def step_by_step(self: Any, batch: Any, batch_idx: int) -> None:
        self.metric(batch)
        self.log("metric", self.metric, on_step=True, on_epoch=False)

    for validation_step in (step, step_by_step):
        for what, answer in ANSWERS.items():
            module = module_with(record, {"validation_step": validation_step}, metric=Answer(answer))
            record.attempt(what, lambda module=module: record.run("validate", module))  # type: ignore[misc]


@scenario
def a_metric_that_computes_nothing(record: Record) -> None:
    def step(self: Any, batch: Any, batch_idx: int) -> None:
        self.metric.update(batch)
        self.log("metric", self.metric)

    module = module_with(record, {"validation_step": step}, metric=Answer(None))
    record.attempt("nothing", lambda: record.run("validate", module))


@scenario
def a_metric_that_gives_a_number_for_each_class(record: Record) -> None:
    def step(self: Any, batch: Any, batch_idx: int) -> None:
        self.metric.update(batch, (batch[:, 0] > 0).long())
        self.log("metric", self.metric)

    module = module_with(record, {"validation_step": step}, metric=MulticlassAccuracy(2, average=None))
    record.attempt("classes", lambda: record.run("validate", module))


@scenario
def a_metric_without_any_update(record: Record) -> None:
    def step(self: Any, batch: Any, batch_idx: int) -> None:
        self.log("sum", self.sum)

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The ``compute`` method", UserWarning)  # torchmetrics says that there was no update
        record.run("fit", module_with(record, {"validation_step": step}, sum=SumMetric()), max_epochs=2)


@scenario
def options_that_metrics_do_not_need(record: Record) -> None:
    """Reductions and weights are those of the metric, whatever is said."""

    def step(self: Any, batch: Any, batch_idx: int) -> None:
        self.mean.update(batch)
        self.log("mean", self.mean, reduce_fx="max", batch_size=7, sync_dist=True)
        self.top.update(batch)
        self.log("top", self.top, logger=False, prog_bar=True)

    module = module_with(record, {"validation_step": step}, mean=MeanMetric(), top=MaxMetric())
    record.run("fit", module, max_epochs=2)


@scenario
def a_metric_under_two_names(record: Record) -> None:
    def use(self: Any, batch: Any, batch_idx: int) -> None:
        self.mean(batch)
        self.log("one", self.mean, on_step=True, on_epoch=True)
        self.log("other", self.mean, on_step=False, on_epoch=True)

    record.run("fit", module_with(record, {"training_step": training(use)}, mean=MeanMetric()), max_epochs=2)


@scenario
def a_collection_beside_numbers(record: Record) -> None:
    def step(self: Any, batch: Any, batch_idx: int) -> None:
        self.metrics.update(batch)
        self.log_dict({"metric": self.metrics["MinMetric"], "number": batch.mean(), "plain": 1.0})

    module = module_with(record, {"validation_step": step}, metrics=MetricCollection([MinMetric(), MaxMetric()]))
    record.run("validate", module)


@scenario
def a_metric_is_a_monitor(record: Record) -> None:
    def step(self: Any, batch: Any, batch_idx: int) -> None:
        self.sum.update(batch.abs())
        self.log("sum", self.sum)

    stopper = record.world.callback("EarlyStopping", monitor="sum", patience=1)
    module = module_with(record, {"validation_step": step}, sum=SumMetric())
    record.run("fit", module, max_epochs=5, callbacks=[stopper])
    record.entries.append(("stopped at", record.trainer.current_epoch, float(stopper.best_score)))
