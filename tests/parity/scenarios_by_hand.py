"""Scenarios of manual optimization: toggling, closures, several optimizers, schedulers and windows by hand."""

from collections.abc import Callable
from typing import Any

import torch
from recording import Recorder, linear, rows
from scenarios import scenario

SGD = torch.optim.SGD
Plateau = torch.optim.lr_scheduler.ReduceLROnPlateau


def by_hand(recorder: Recorder, training_step: Callable[..., Any], configure: Callable[[Any], Any]) -> Any:
    """A module of two layers, of which the second shares its bias with the first, that optimizes by hand."""

    def __init__(self: Any) -> None:
        super(model, self).__init__()
        self.automatic_optimization = False
        self.second = linear()
        self.second.bias = self.layer.bias

    methods = {"__init__": __init__, "training_step": training_step, "configure_optimizers": configure}
    model: Any = type("Model", (recorder.base_module(),), methods)
    return recorder.module(model)


def two(self: Any) -> Any:
    """An optimizer for each layer; the bias belongs to both."""
    return [SGD(self.layer.parameters(), lr=0.1), SGD(self.second.parameters(), lr=0.2, momentum=0.9)]


def flags(self: Any) -> dict[str, bool]:
    """Which parameters require gradients."""
    return {name: parameter.requires_grad for name, parameter in self.named_parameters()}


def loss_of(self: Any, batch: Any) -> Any:
    """A loss of both layers."""
    return (self.layer(batch) + self.second(batch)).pow(2).mean()


@scenario
def toggling_two_optimizers(recorder: Recorder) -> None:
    def training_step(self: Any, batch: Any, batch_idx: int) -> None:
        for optimizer in self.optimizers():
            self.toggle_optimizer(optimizer)
            recorder.write("toggled", flags(self))
            optimizer.zero_grad()
            self.manual_backward(loss_of(self, batch))
            optimizer.step()
            self.untoggle_optimizer(optimizer)
            recorder.write("untoggled", flags(self))

    recorder.run(module=by_hand(recorder, training_step, two))


@scenario
def toggling_with_a_frozen_parameter(recorder: Recorder) -> None:
    def training_step(self: Any, batch: Any, batch_idx: int) -> None:
        self.layer.weight.requires_grad_(False)
        for optimizer in self.optimizers():
            with optimizer.toggle_model(sync_grad=batch_idx % 2 == 0):
                recorder.write("toggled", flags(self))
                optimizer.zero_grad()
                self.manual_backward(loss_of(self, batch))
                optimizer.step()
            recorder.write("untoggled", flags(self))

    recorder.run(module=by_hand(recorder, training_step, two))


@scenario
def alternating_optimizers(recorder: Recorder) -> None:
    def training_step(self: Any, batch: Any, batch_idx: int) -> Any:
        optimizer = self.optimizers()[batch_idx % 2]
        optimizer.zero_grad()
        loss = loss_of(self, batch)
        self.manual_backward(loss)
        optimizer.step()
        return {"loss": loss, "which": batch_idx % 2}

    recorder.run(module=by_hand(recorder, training_step, two), data=recorder.data(train=lambda: rows(20)), max_epochs=2)


@scenario
def windows_by_hand(recorder: Recorder) -> None:
    def training_step(self: Any, batch: Any, batch_idx: int) -> None:
        optimizer = self.optimizers()
        self.manual_backward(self.layer(batch).pow(2).mean() / 2)
        if (batch_idx + 1) % 2 == 0 or self.trainer.is_last_batch:
            optimizer.step()
            optimizer.zero_grad()

    module = by_hand(recorder, training_step, lambda self: SGD(self.layer.parameters(), lr=0.1))
    recorder.run(module=module, data=recorder.data(train=lambda: rows(20)), max_epochs=2)


@scenario
def clipping_by_hand(recorder: Recorder) -> None:
    def training_step(self: Any, batch: Any, batch_idx: int) -> None:
        first, second = self.optimizers()
        for optimizer, value, algorithm in ((first, 0.1, "norm"), (second, 0.05, "value")):
            optimizer.zero_grad()
            self.manual_backward(loss_of(self, batch))
            self.clip_gradients(optimizer, gradient_clip_val=value, gradient_clip_algorithm=algorithm)
            optimizer.step()

    recorder.run(module=by_hand(recorder, training_step, two))


@scenario
def schedulers_by_hand(recorder: Recorder) -> None:
    def configure(self: Any) -> Any:
        optimizers = two(self)
        steps = torch.optim.lr_scheduler.StepLR(optimizers[0], 1, gamma=0.5)
        return optimizers, [{"scheduler": steps, "interval": "step"}, Plateau(optimizers[1], patience=0)]

    def training_step(self: Any, batch: Any, batch_idx: int) -> None:
        loss = loss_of(self, batch)
        steps, plateau = self.lr_schedulers()
        for optimizer in self.optimizers():
            optimizer.zero_grad()
        self.manual_backward(loss)
        for optimizer in self.optimizers():
            optimizer.step()
        steps.step()
        if self.trainer.is_last_batch:
            plateau.step(1.0)
        recorder.write("rates", {"lr": [optimizer.param_groups[0]["lr"] for optimizer in self.optimizers()]})

    recorder.run(module=by_hand(recorder, training_step, configure), max_epochs=3)


@scenario
def a_closure_evaluated_again_by_hand(recorder: Recorder) -> None:
    def training_step(self: Any, batch: Any, batch_idx: int) -> None:
        optimizer = self.optimizers()

        def closure() -> Any:
            optimizer.zero_grad()
            loss = self.layer(batch).pow(2).mean()
            self.manual_backward(loss)
            return loss

        optimizer.step(closure=closure)

    module = by_hand(recorder, training_step, lambda self: torch.optim.LBFGS(self.layer.parameters(), lr=0.1, max_iter=3))
    recorder.run(module=module, max_epochs=2)


@scenario
def bare_optimizers(recorder: Recorder) -> None:
    def training_step(self: Any, batch: Any, batch_idx: int) -> None:
        wrapped, bare = self.optimizers()[0], self.optimizers(use_pl_optimizer=False)[1]
        wrapped.zero_grad()
        bare.zero_grad()
        self.manual_backward(loss_of(self, batch))
        wrapped.step()
        bare.step()
        recorder.write("kinds", {"wrapped": isinstance(wrapped, SGD), "same": wrapped.optimizer is self.optimizers(False)[0]})

    recorder.run(module=by_hand(recorder, training_step, two))


@scenario
def several_steps_for_a_batch(recorder: Recorder) -> None:
    def training_step(self: Any, batch: Any, batch_idx: int) -> Any:
        first, second = self.optimizers()
        for _ in range(3):
            first.zero_grad()
            self.manual_backward(loss_of(self, batch))
            first.step()
        if batch_idx:
            second.zero_grad()
            loss = loss_of(self, batch)
            self.manual_backward(loss)
            second.step()
            return loss
        return None

    recorder.run(module=by_hand(recorder, training_step, two), max_epochs=2, val_check_interval=1)


@scenario
def gradients_kept_for_another_backward(recorder: Recorder) -> None:
    def training_step(self: Any, batch: Any, batch_idx: int) -> None:
        first, second = self.optimizers()
        loss = loss_of(self, batch)
        first.zero_grad()
        second.zero_grad()
        self.manual_backward(loss, retain_graph=True)
        self.manual_backward(loss * 0.5)
        first.step()
        second.step()

    recorder.run(module=by_hand(recorder, training_step, two))


@scenario
def steps_bounded_within_a_batch(recorder: Recorder) -> None:
    def training_step(self: Any, batch: Any, batch_idx: int) -> None:
        for optimizer in self.optimizers():
            optimizer.zero_grad()
            self.manual_backward(loss_of(self, batch))
            optimizer.step()

    recorder.run(module=by_hand(recorder, training_step, two), max_epochs=4, max_steps=5)


@scenario
def freezing_and_unfreezing(recorder: Recorder) -> None:
    def training_step(self: Any, batch: Any, batch_idx: int) -> None:
        optimizer = self.optimizers()
        optimizer.zero_grad()
        self.manual_backward(self.layer(batch).pow(2).mean())
        optimizer.step()
        recorder.write("frozen", {"itself": self.freeze() is self, **flags(self)})
        recorder.write("unfrozen", {"itself": self.unfreeze() is self, **flags(self)})

    recorder.run(module=by_hand(recorder, training_step, lambda self: SGD(self.parameters(), lr=0.1)))
