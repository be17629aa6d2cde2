"""A LightningModule under Fabric does in lx what it does in Lightning: what is logged, stepped, clipped and refused."""

import importlib
from typing import Any

import lightning.fabric
import pytest
import torch
from sides import SIDES, quiet
from torch import nn

import lx

FABRICS: dict[str, Any] = {"lx": lx.Fabric, "lightning": lightning.fabric.Fabric}
LOGGERS = {"lx": "lx.interfaces", "lightning": "lightning.fabric.loggers"}
ROWS = torch.tensor([[3.0, 4.0], [1.0, -2.0]])


def recording(side: str, sent: list[Any]) -> Any:
    """A logger of a library that writes down what it gets."""
    base: type[Any] = importlib.import_module(LOGGERS[side]).Logger

    class Recording(base):  # type: ignore[misc, valid-type]
        name, version = "recording", 0

        def log_metrics(self, metrics: Any, step: int | None = None) -> None:
            sent.append((dict(metrics), step))

        def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
            """Takes none."""

    return Recording()


def model_of(side: str) -> Any:
    """A module that optimizes by hand."""

    class Model(SIDES[side].LightningModule):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(2, 1)
            with torch.no_grad():
                self.layer.weight.copy_(torch.tensor([[0.5, -0.25]]))
                self.layer.bias.fill_(0.1)
            self.told: list[str] = []

        def forward(self, rows: Any) -> Any:
            return self.layer(rows)

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            optimizer = self.optimizers()
            optimizer.zero_grad()
            loss = self(batch).pow(2).mean()
            self.manual_backward(loss)
            self.clip_gradients(optimizer, gradient_clip_val=0.5, gradient_clip_algorithm="norm")
            optimizer.step()
            self.log("loss", loss, prog_bar=True, on_step=True, on_epoch=True)
            self.log_dict({"a": 1.0, "b": loss * 2})
            self.log("kept", loss, logger=False)
            return loss

        def on_train_epoch_end(self) -> None:
            self.told.append("ended")

    return Model()


def outcome(action: Any) -> Any:
    """What something gives, or the builtin exception that it ends with."""
    try:
        return action()
    except Exception as error:
        return next(kind.__name__ for kind in type(error).__mro__ if kind.__module__ == "builtins" and kind is not Exception)


def run(side: str) -> dict[str, Any]:
    """Everything that can be seen of a module under one library's Fabric."""
    sent: list[Any] = []
    fabric = FABRICS[side](accelerator="cpu", devices=1, loggers=[recording(side, sent)])
    module = model_of(side)
    model, optimizer = fabric.setup(module, torch.optim.SGD(module.parameters(), lr=0.5))
    losses = [model.training_step(ROWS, index).item() for index in range(3)]
    fabric.call("on_train_epoch_end")
    return {
        "losses": losses,
        "sent": sent,
        "weights": [parameter.tolist() for parameter in module.parameters()],
        "told": module.told,
        "is attached": module.fabric is fabric,
        "its optimizer": module.optimizers() is optimizer,
        "logger": module.logger is fabric.logger,
        "ranks": (module.global_rank, module.local_rank, module.trainer.world_size, module.trainer.is_global_zero),
        "counters": (module.current_epoch, module.global_step),
        "gathered": module.all_gather(torch.ones(2)).tolist(),
        "unknown": outcome(lambda: module.trainer.max_epochs),
        "schedulers": outcome(module.lr_schedulers),
        "a mapping": outcome(lambda: module.log("x", {"a": 1.0})),
        "two elements": outcome(lambda: module.log("x", torch.ones(2))),
        "no limit": outcome(lambda: module.clip_gradients(optimizer)),
        "twice": outcome(lambda: fabric.setup(model)),
    }


def test_a_module_under_fabric_does_what_it_does_in_lightning() -> None:
    found = {}
    for side in SIDES:
        with quiet(side):
            found[side] = run(side)
    assert found["lx"] == found["lightning"]


@pytest.mark.parametrize("precision", ["32-true", "16-mixed"])
def test_a_plain_backward_is_refused_where_lightning_refuses_it(precision: str) -> None:
    plugins = {"lx": "lx_plugin_amp.precision", "lightning": "lightning.fabric.plugins"}
    found = {}
    for side in SIDES:
        options: dict[str, Any] = {"precision": precision}
        if precision == "16-mixed":
            mixed = importlib.import_module(plugins[side]).MixedPrecision
            options = {"plugins": mixed("16-mixed", "cpu", torch.amp.GradScaler("cpu"))}
        with quiet(side):
            model = FABRICS[side](accelerator="cpu", devices=1, **options).setup(nn.Linear(2, 1))
            found[side] = outcome(lambda model=model: model(ROWS).sum().backward())
    assert found["lx"] == found["lightning"] == (None if precision == "32-true" else "RuntimeError")
