"""Automatic optimization with several optimizers: against the loop that one would write by hand."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import LBFGS, SGD, Adam, Optimizer
from torch.optim.lr_scheduler import StepLR

from lx import Callback, LightningModule, Trainer
from lx.kernel import PluginManager
from lx.kernel.errors import MisconfigurationException

BATCHES = list(torch.randn(5, 4, 8, generator=torch.Generator().manual_seed(0)))


class Two(LightningModule):
    """An encoder under SGD, a head under Adam."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.encoder, self.head = nn.Linear(8, 4), nn.Linear(4, 1)

    def loss(self, batch: Tensor) -> Tensor:
        return self.head(self.encoder(batch).tanh()).square().mean()

    def training_step(self, batch: Tensor, batch_idx: int) -> Any:
        return self.loss(batch)

    def configure_optimizers(self) -> Any:
        return [SGD(self.encoder.parameters(), lr=0.1, momentum=0.9), Adam(self.head.parameters(), lr=0.01)]


def fit(manager: PluginManager, model: LightningModule, **options: Any) -> Trainer:
    trainer = Trainer(manager=manager, **{"max_epochs": 2, "logger": False, "enable_checkpointing": False, **options})
    trainer.fit(model, BATCHES)
    return trainer


def by_hand(epochs: int = 2, window: int = 1, clip: float | None = None) -> Two:
    model = Two()
    optimizers = model.configure_optimizers()
    for _ in range(epochs):
        for first in range(0, len(BATCHES), window):
            batches = BATCHES[first : first + window]
            for optimizer in optimizers:
                optimizer.zero_grad()
            for batch in batches:
                (model.loss(batch) / len(batches)).backward()
            for optimizer in optimizers:
                if clip is not None:
                    nn.utils.clip_grad_norm_(optimizer.param_groups[0]["params"], clip)
            for optimizer in optimizers:
                optimizer.step()
    return model


def same(model: nn.Module, other: nn.Module) -> bool:
    return all(torch.equal(one, two) for one, two in zip(model.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize(("options", "expected"), [({}, {}), ({"accumulate_grad_batches": 2}, {"window": 2})], ids=["plain", "windows"])
def test_the_weights_are_those_of_the_loop_by_hand(plugin_manager: PluginManager, options: Any, expected: Any) -> None:
    model = Two()
    trainer = fit(plugin_manager, model, **options)
    assert same(model, by_hand(**expected))
    assert trainer.global_step == 2 * -(-len(BATCHES) // expected.get("window", 1))  # a step of all is one


class Clipping(Two):
    """Clips each optimizer's gradients by themselves."""

    def configure_gradient_clipping(self, optimizer: Any, gradient_clip_val: Any = None, gradient_clip_algorithm: Any = None) -> None:
        nn.utils.clip_grad_norm_(optimizer.param_groups[0]["params"], gradient_clip_val)


def test_gradients_are_clipped_for_each_optimizer(plugin_manager: PluginManager) -> None:
    model = Clipping()
    fit(plugin_manager, model, gradient_clip_val=0.01)
    assert same(model, by_hand(clip=0.01))


class Own(Two):
    """Steps its optimizers in `optimizer_step`."""

    def __init__(self) -> None:
        super().__init__()
        self.stepped: list[str] = []

    def optimizer_step(self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any = None) -> None:
        self.stepped.append(type(optimizer.optimizer).__name__)
        optimizer.step(closure=optimizer_closure)


def test_an_own_optimizer_step_is_called_for_each_and_evaluates_once(plugin_manager: PluginManager) -> None:
    model = Own()
    calls = []
    model.training_step = lambda batch, batch_idx: calls.append(batch_idx) or model.loss(batch)  # type: ignore[method-assign]
    fit(plugin_manager, model)
    assert same(model, by_hand())
    assert model.stepped == ["SGD", "Adam"] * 10
    assert len(calls) == 10


class Listener(Callback):
    """Notes the optimizers that events are about."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str]] = []

    def on_before_zero_grad(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        self.seen.append(("zero_grad", type(optimizer).__name__))

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        self.seen.append(("step", type(optimizer).__name__))


def test_events_come_for_each_optimizer(plugin_manager: PluginManager) -> None:
    listener = Listener()
    fit(plugin_manager, Two(), max_steps=1, callbacks=[listener])
    assert listener.seen == [("zero_grad", "SGD"), ("zero_grad", "Adam"), ("step", "SGD"), ("step", "Adam")]


class Skipping(Own):
    """Skips every second batch."""

    def training_step(self, batch: Tensor, batch_idx: int) -> Any:
        return self.loss(batch) if batch_idx % 2 == 0 else None


def test_a_skipped_batch_steps_none_of_them(plugin_manager: PluginManager) -> None:
    model = Skipping()
    trainer = fit(plugin_manager, model, max_epochs=1)
    hand, optimizers = Two(), None
    optimizers = hand.configure_optimizers()
    for batch in BATCHES[::2]:
        for optimizer in optimizers:
            optimizer.zero_grad()
        hand.loss(batch).backward()
        for optimizer in optimizers:
            optimizer.step()
    assert same(model, hand)
    assert trainer.global_step == 3


def test_schedulers_of_both_move(plugin_manager: PluginManager) -> None:
    class Scheduled(Two):
        def configure_optimizers(self) -> Any:
            optimizers = super().configure_optimizers()
            return optimizers, [{"scheduler": StepLR(optimizer, 1, gamma=0.5), "interval": "step"} for optimizer in optimizers]

    trainer = fit(plugin_manager, Scheduled(), max_steps=3)
    assert [optimizer.param_groups[0]["lr"] for optimizer in trainer.optimizers] == [0.1 / 8, 0.01 / 8]


def configured(*choices: Any) -> LightningModule:
    model = Two()
    model.configure_optimizers = lambda: [choose(model) for choose in choices]  # type: ignore[method-assign]
    return model


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (
            lambda: configured(lambda m: SGD(m.head.parameters()), lambda m: LBFGS(m.encoder.parameters())),
            "LBFGS evaluates the loss several",
        ),
        (lambda: configured(lambda m: SGD(m.parameters()), lambda m: Adam(m.head.parameters())), "Adam holds parameters that one before"),
    ],
    ids=["LBFGS", "shared"],
)
def test_what_cannot_step_together_is_refused(plugin_manager: PluginManager, model: Any, said: str) -> None:
    with pytest.raises(MisconfigurationException, match=said):
        fit(plugin_manager, model())


class Foreign(Optimizer):
    """An optimizer of another package, whose step demands nothing and is handed the closure."""

    def __init__(self, params: Any) -> None:
        super().__init__(params, {"lr": 0.1})

    def step(self, closure: Any = None) -> Any:
        """Plain descent."""
        loss = closure() if closure is not None else None
        with torch.no_grad():
            for parameter in self.param_groups[0]["params"]:
                parameter -= 0.1 * parameter.grad
        return loss


def test_an_optimizer_of_another_package_gets_the_closure(plugin_manager: PluginManager) -> None:
    model = configured(lambda m: Foreign(m.encoder.parameters()), lambda m: SGD(m.head.parameters(), lr=0.1))
    fit(plugin_manager, model, max_epochs=1)
    hand = Two()
    descent = SGD(hand.parameters(), lr=0.1)
    for batch in BATCHES:
        descent.zero_grad()
        hand.loss(batch).backward()
        descent.step()
    for one, two in zip(model.parameters(), hand.parameters(), strict=True):
        torch.testing.assert_close(one, two)


class ByHand(Two):
    """Steps both for each batch, so that a bound may lie between two steps."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch: Tensor, batch_idx: int) -> Any:
        for optimizer in self.optimizers():
            optimizer.zero_grad()
            self.manual_backward(self.loss(batch))
            optimizer.step()
        return self.loss(batch)


def test_a_bound_within_a_batch_ends_training_after_it(plugin_manager: PluginManager) -> None:
    trainer = fit(plugin_manager, ByHand(), max_steps=5)
    assert (trainer.global_step, trainer.batches_seen) == (6, 3)


def test_a_tensor_returned_by_hand_is_the_loss(plugin_manager: PluginManager) -> None:
    seen: list[Any] = []

    class Outputs(Callback):
        def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
            seen.append(outputs)

    fit(plugin_manager, ByHand(), max_epochs=1, callbacks=[Outputs()])
    assert all(set(outputs) == {"loss"} and not outputs["loss"].requires_grad for outputs in seen)
