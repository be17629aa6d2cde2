"""Metric objects of any make: nothing but `update`, `compute` and `reset` is asked of them."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

from lx import LightningModule, Trainer
from lx.kernel.errors import MisconfigurationException
from lx.testing import FakeLogger, fake_plugin_manager


class Largest:
    """A metric of one's own, of no library: a plain class, which when called returns the value of the batch alone."""

    def __init__(self) -> None:
        self.value = torch.tensor(-torch.inf)

    def update(self, values: torch.Tensor) -> None:
        self.value = torch.maximum(self.value, values.max())

    def compute(self) -> torch.Tensor:
        return self.value

    def reset(self) -> None:
        self.value = torch.tensor(-torch.inf)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        self.update(values)
        return values.max()

    __call__ = forward


class Model(LightningModule):
    """Holds a plain metric object as an attribute."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
        self.largest = Largest()

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        self.largest(batch)
        self.log("largest", self.largest, on_step=True, on_epoch=True)
        return self.layer(batch).mean()

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def trainer_of_fakes(**options: Any) -> Trainer:
    neutral = {"logger": FakeLogger(), "max_epochs": 1, "num_sanity_val_steps": 0, "log_every_n_steps": 1}
    return Trainer(manager=fake_plugin_manager(), **{**neutral, **options})


def batches(*values: float) -> Any:
    return DataLoader([torch.full((2, 1), value) for value in values], batch_size=None)  # type: ignore[arg-type]


def sent(trainer: Trainer) -> list[dict[str, Any]]:
    return [call.kwargs["metrics"] for call in trainer.logger.called("log_metrics")]  # type: ignore[union-attr]


def test_a_plain_object_is_computed_at_steps_and_epochs_and_begins_anew() -> None:
    trainer = trainer_of_fakes(max_epochs=2)
    trainer.fit(Model(), batches(1.0, 3.0, 2.0))
    # A step's value is what it computes up to then: of an object that keeps no record of its last call, nobody knows that one's.
    epoch = [1.0, 3.0, 3.0]
    assert [row["largest_step"] for row in sent(trainer) if "largest_step" in row] == epoch * 2
    assert [row["largest_epoch"] for row in sent(trainer) if "largest_epoch" in row] == [3.0, 3.0]
    assert trainer.callback_metrics["largest_epoch"] == 3.0


def test_a_plain_object_of_a_part_of_the_module_is_the_modules() -> None:
    class Whole(Model):
        def __init__(self) -> None:
            super().__init__()
            self.part = Model()

        def validation_step(self, batch: Any, batch_idx: int) -> None:
            self.part.largest.update(batch)
            self.log("part", self.part.largest)

    assert trainer_of_fakes().validate(Whole(), batches(1.0, 5.0), verbose=False) == [{"part": 5.0}]


def test_a_plain_object_in_a_container_is_found_by_nobody_and_taken_with_a_name_for_it() -> None:
    class Held(Model):
        def __init__(self) -> None:
            super().__init__()
            self.held = [Largest()]
            self.options: dict[str, Any] = {}

        def validation_step(self, batch: Any, batch_idx: int) -> None:
            self.held[0].update(batch)
            self.log("held", self.held[0], **self.options)

    model = Held()
    with pytest.raises(MisconfigurationException, match=r"the metric Largest is no attribute of the module; assign it in __init__"):
        trainer_of_fakes().validate(model, batches(1.0), verbose=False)
    model.options, model.held = {"metric_attribute": "held"}, [Largest()]
    assert trainer_of_fakes().validate(model, batches(1.0, 4.0), verbose=False) == [{"held": 4.0}]


def test_a_step_with_a_metric_of_each_loader() -> None:
    class Several(Model):
        def __init__(self) -> None:
            super().__init__()
            self.second = Largest()

        def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int) -> None:
            metric = self.second if dataloader_idx else self.largest
            metric.update(batch)
            self.log("top", metric)

    trainer, model = trainer_of_fakes(), Several()
    for _ in range(2):
        rows = trainer.validate(model, [batches(1.0, 2.0), batches(7.0)], verbose=False)
        assert rows == [{"top/dataloader_idx_0": 2.0}, {"top/dataloader_idx_1": 7.0}]


class Collection(dict[str, Any]):
    """A collection of metric objects whose `items` copies what they hold, unless it is told not to, as that of torchmetrics does."""

    def __init__(self, **members: Any) -> None:
        super().__init__(**members)
        self.asked: list[bool] = []

    def compute(self) -> dict[str, Any]:
        return {name: member.compute() for name, member in super().items()}

    def items(self, copy_state: bool = True) -> Any:
        self.asked.append(copy_state)
        return super().items()


def test_a_collection_is_not_copied_at_each_step() -> None:
    class Collects(Model):
        def __init__(self) -> None:
            super().__init__()
            self.metrics = Collection(largest=self.largest)

        def validation_step(self, batch: Any, batch_idx: int) -> None:
            self.largest.update(batch)
            self.log_dict(self.metrics)

    model = Collects()
    assert trainer_of_fakes().validate(model, batches(1.0, 4.0), verbose=False) == [{"largest": 4.0}]
    assert model.metrics.asked == [False, False]


class Pairs:
    """A mapping by its `items` alone."""

    def items(self) -> Iterator[tuple[str, float]]:
        yield from {"a": 1.0, "b": 2.0}.items()


def test_log_dict_takes_whatever_has_items() -> None:
    class Logs(Model):
        def validation_step(self, batch: Any, batch_idx: int) -> None:
            self.log_dict(Pairs())  # type: ignore[arg-type]

    assert trainer_of_fakes().validate(Logs(), batches(1.0), verbose=False) == [{"a": 1.0, "b": 2.0}]
