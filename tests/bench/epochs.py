"""Epochs of one and the same training, by a plain loop of PyTorch and by a framework, each timed by the CPU clock of its thread."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

STEPS = 400
STILL_STEPS = 4 * STEPS
"""Steps in which nothing is computed are short, so there are more of them to an epoch."""

MODES: dict[str, dict[str, Any]] = {
    "barebones": {"barebones": True},
    "plain": {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False},
    "default": {"enable_progress_bar": False, "enable_model_summary": False},
}
"""Arguments of a Trainer: with nothing at all, without logger and checkpoints, and with both as a user gets them."""


class Ready:
    """Batches that are there: loading them costs little on either side.

    A plain loop's time includes that an iteration begins, which takes 4 us a batch here, since views are made; a framework's is taken from
    its first hook on.
    """

    def __init__(self, steps: int = STEPS) -> None:
        generator = torch.Generator().manual_seed(0)
        self._steps = steps
        self._x = torch.randn(steps, 16, 32, generator=generator)
        self._y = torch.randn(steps, 16, 1, generator=generator)

    def __len__(self) -> int:
        return self._steps

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return iter([(self._x[step], self._y[step]) for step in range(self._steps)])


def perceptron() -> nn.Module:
    """A model so small that what surrounds it shows."""
    return nn.Sequential(nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 1))


def digits() -> DataLoader[Any]:
    """The 1,797 scanned digits, 32 to a batch, through an ordinary loader."""
    found = load_digits()
    images = torch.tensor(found.images, dtype=torch.float32).unsqueeze(1) / 16
    return DataLoader(TensorDataset(images, torch.tensor(found.target)), batch_size=32, shuffle=True)


def convolutional() -> nn.Module:
    """A model for the digits."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.Flatten(),
        nn.Linear(512, 10),
    )  # fmt: skip


def plain_epoch(loader: Any, network: Callable[[], nn.Module], loss_of: Callable[..., Tensor]) -> float:
    """Seconds of an epoch written by hand."""
    model = network().train()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    start = time.thread_time()
    for x, y in loader:
        optimizer.zero_grad()
        loss = loss_of(model(x), y)
        loss.backward()
        optimizer.step()
    return time.thread_time() - start


def framework_epoch(
    api: Any, loader: Any, network: Callable[[], nn.Module], loss_of: Callable[..., Tensor], log: str, **options: Any
) -> float:
    """Seconds of the same epoch in a Trainer of `api`, from the first hook of the epoch to the last of the module.

    `log` says what a step logs: `"none"`, its loss as a value of the `"step"`, or also as one of the `"epoch"`.
    """

    class Model(api.LightningModule):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.network = network()
            self.start = self.seconds = 0.0

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            x, y = batch
            loss = loss_of(self.network(x), y)
            if log == "step":
                self.log("loss", loss)
            elif log == "epoch":
                self.log("loss", loss, on_step=True, on_epoch=True)
            return loss

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=1e-3)

        def on_train_epoch_start(self) -> None:
            self.start = time.thread_time()

        def on_train_epoch_end(self) -> None:
            self.seconds = time.thread_time() - self.start

    model = Model()
    api.Trainer(accelerator="cpu", devices=1, max_epochs=1, **options).fit(model, loader)
    return model.seconds


class StillOptimizer(torch.optim.SGD):
    """Calls its closure, and changes nothing."""

    def step(self, closure: Any = None) -> Any:
        return closure() if closure is not None else None

    def zero_grad(self, set_to_none: bool = True) -> None:
        pass


def still_epoch(api: Any, callbacks: list[Any]) -> float:
    """Seconds of an epoch in whose steps nothing is computed, so that a microsecond shows."""

    class Still(api.LightningModule):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(()))
            self.loss = [self.weight * 1]
            self.start = self.seconds = 0.0

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            return self.loss[0]

        def backward(self, loss: Tensor) -> None:
            pass

        def configure_optimizers(self) -> Any:
            return StillOptimizer(self.parameters(), lr=1e-3)

        def on_train_epoch_start(self) -> None:
            self.start = time.thread_time()

        def on_train_epoch_end(self) -> None:
            self.seconds = time.thread_time() - self.start

    model = Still()
    api.Trainer(accelerator="cpu", devices=1, max_epochs=1, callbacks=callbacks, **MODES["plain"]).fit(model, Ready(STILL_STEPS))
    return model.seconds


def callbacks(api: Any, count: int, event: str) -> list[Any]:
    """`count` callbacks, of a class each, that do nothing at an event."""

    class Listener:
        def on_train_start(self, trainer: Any, pl_module: Any) -> None: ...

        def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None: ...

        def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None: ...

    made = [type(f"Listener{number}", (api.Callback,), {event: vars(Listener)[event]}) for number in range(count)]
    return [cls() for cls in made]
