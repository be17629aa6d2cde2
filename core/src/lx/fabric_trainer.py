"""What a LightningModule finds in place of a trainer while a Fabric runs it."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from lx.kernel.errors import MisconfigurationException
from lx.wrappers import unwrap

_OF_FABRIC = frozenset(
    (
        "accelerator",
        "device",
        "global_rank",
        "is_global_zero",
        "local_rank",
        "logger",
        "loggers",
        "node_rank",
        "precision",
        "print",
        "strategy",
        "world_size",
    )
)


class FabricTrainer:
    """The part of a trainer that a Fabric can stand for: logging, backward, optimizers, ranks.

    The loop is the user's, so `current_epoch` and `global_step` are 0 until it sets them. Whatever else is asked for raises
    `AttributeError`.

    >>> FabricTrainer(None, nn.Linear(1, 1)).max_epochs
    Traceback (most recent call last):
    ...
    AttributeError: this module is run by a Fabric, which has no trainer.max_epochs: the loop is yours, and knows it.
    """

    def __init__(self, fabric: Any, module: nn.Module) -> None:
        self.fabric = fabric
        self.current_epoch = 0
        self.global_step = 0
        self._module = module

    def __getattr__(self, name: str) -> Any:
        if name in _OF_FABRIC:
            return getattr(self.fabric, name)
        raise AttributeError(f"this module is run by a Fabric, which has no trainer.{name}: the loop is yours, and knows it.")

    @property
    def lightning_optimizers(self) -> list[Any]:
        """Those optimizers from `fabric.setup` and `fabric.setup_optimizers` that step parameters of this module."""
        own = {id(parameter) for parameter in self._module.parameters()}
        return [
            optimizer
            for optimizer in self.fabric.optimizers
            if any(id(parameter) in own for group in optimizer.param_groups for parameter in group["params"])
        ]

    @property
    def optimizers(self) -> list[Any]:
        """The same, bare."""
        return [unwrap(optimizer) for optimizer in self.lightning_optimizers]

    def manual_backward(self, loss: Any, *args: Any, **kwargs: Any) -> None:
        """`fabric.backward`."""
        self.fabric.backward(loss, *args, **kwargs)

    def clip_gradients(self, optimizer: Any, value: int | float | None, algorithm: str | None) -> None:
        """`fabric.clip_gradients`, by norm unless `algorithm` is `"value"`; raises `MisconfigurationException` for another one."""
        if algorithm not in (None, "norm", "value"):
            raise MisconfigurationException(f"gradient_clip_algorithm={algorithm!r}: it must be 'norm' or 'value'.")
        limit = {"clip_val" if algorithm == "value" else "max_norm": value}
        self.fabric.clip_gradients(self._module, optimizer, **limit)


def attach(fabric: Any, module: nn.Module) -> None:
    """Gives a Fabric to every LightningModule in a module, itself included; the module itself also hears of what `fabric.call` calls."""
    for part in module.modules():
        if isinstance(getattr(type(part), "fabric", None), property):
            part.fabric = fabric
            if part is module and all(callback is not module for callback in fabric.callbacks):
                fabric.callbacks.append(module)


class FabricLog:
    """`self.log` of a module under Fabric: each value goes to the Fabric's loggers at once, for there is no end of an epoch."""

    def __init__(self, fabric: Any) -> None:
        self._fabric = fabric

    def log(self, name: str, value: Any, prog_bar: bool = False, logger: bool | None = None, *options: Any, **others: Any) -> None:
        """Sends a value to all loggers, unless `logger` is False; of the other options none means anything here."""
        self.log_dict({name: value}, logger=logger)

    def log_dict(self, values: Mapping[str, Any], logger: bool | None = None, **options: Any) -> None:
        """Sends values to all loggers at once; raises `ValueError` for a mapping among them, and for a tensor of several elements."""
        for name, value in values.items():
            if isinstance(value, Mapping):
                raise ValueError(f"self.log({name!r}): a mapping cannot be logged as one value; pass it to self.log_dict.")
        if logger is not False:
            self._fabric.log_dict(values)
