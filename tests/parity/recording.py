"""Classes of either library that write down every call that they get: which hook, with what, and how the trainer stood."""

import inspect
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any

import torch
from sides import LIGHTNING, World
from torch import Tensor, nn
from torch.utils.data import DataLoader

MODULE_HOOKS = (
    "configure_callbacks",
    "configure_model",
    "setup",
    "teardown",
    "prepare_data",
    "configure_optimizers",
    "on_fit_start",
    "on_fit_end",
    "on_train_start",
    "on_train_end",
    "on_validation_start",
    "on_validation_end",
    "on_test_start",
    "on_test_end",
    "on_predict_start",
    "on_predict_end",
    "on_train_epoch_start",
    "on_train_epoch_end",
    "on_validation_epoch_start",
    "on_validation_epoch_end",
    "on_test_epoch_start",
    "on_test_epoch_end",
    "on_predict_epoch_start",
    "on_predict_epoch_end",
    "on_train_batch_start",
    "on_train_batch_end",
    "on_validation_batch_start",
    "on_validation_batch_end",
    "on_test_batch_start",
    "on_test_batch_end",
    "on_predict_batch_start",
    "on_predict_batch_end",
    "on_validation_model_eval",
    "on_validation_model_train",
    "on_validation_model_zero_grad",
    "on_test_model_eval",
    "on_test_model_train",
    "on_predict_model_eval",
    "on_before_zero_grad",
    "on_before_backward",
    "on_after_backward",
    "on_before_optimizer_step",
    "on_save_checkpoint",
    "on_load_checkpoint",
    "training_step",
    "validation_step",
    "test_step",
    "predict_step",
    "backward",
    "optimizer_step",
    "optimizer_zero_grad",
    "lr_scheduler_step",
    "configure_gradient_clipping",
)
TRANSFER_HOOKS = ("on_before_batch_transfer", "transfer_batch_to_device", "on_after_batch_transfer")
LOADER_HOOKS = ("train_dataloader", "val_dataloader", "test_dataloader", "predict_dataloader")
DATA_HOOKS = ("prepare_data", "setup", "teardown", *LOADER_HOOKS, *TRANSFER_HOOKS, "state_dict", "load_state_dict", "on_exception")


def callback_hooks(api: Any) -> list[str]:
    """Everything that a callback of a library may override, and that both have; the events of lx alone are tested by themselves."""
    names = [name for name in dir(api.Callback) if name.startswith("on_") or name in ("setup", "teardown", "state_dict", "load_state_dict")]
    return [name for name in names if hasattr(LIGHTNING.Callback, name)]


def linear(outputs: int = 1) -> nn.Linear:
    """A layer of two inputs with the same weights each time."""
    layer = nn.Linear(2, outputs)
    with torch.no_grad():
        layer.weight.copy_(torch.linspace(-0.5, 0.75, 2 * outputs).reshape(outputs, 2))
        layer.bias.fill_(0.25)
    return layer


def rows(count: int, seed: int = 0, **options: Any) -> DataLoader[Any]:
    """A loader of `count` rows of two numbers, four to a batch."""
    data = torch.randn(count, 2, generator=torch.Generator().manual_seed(seed))
    return DataLoader(data, **{"batch_size": 4, **options})  # type: ignore[arg-type]


class Recorder:
    """Makes recording classes for one library; all write to `calls`."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.calls: list[str] = []
        self.trainer: Any = None

    # -- classes ---------------------------------------------------------------------------------------------------------

    def recording(self, base: type[Any], hooks: Any, owner: str) -> type[Any]:
        """A subclass whose hooks write down the call, and then do what those of `base` do."""
        return type(
            owner if base is self.world.api.Callback else base.__name__, (base,), {name: self._hook(base, name, owner) for name in hooks}
        )

    def _hook(self, base: type[Any], name: str, owner: str) -> Callable[..., Any]:
        original = getattr(base, name)
        signature = inspect.signature(original)

        def hook(this: Any, *args: Any, **kwargs: Any) -> Any:
            bound = signature.bind(this, *args, **kwargs)
            given = {key: value for key, value in list(bound.arguments.items())[1:] if key not in ("trainer", "pl_module")}
            if "checkpoint" in given:
                given["checkpoint"] = sorted(given["checkpoint"])
            self.write(f"{owner}.{name}", given)
            return original(this, *args, **kwargs)

        # Both libraries look at how many arguments a step takes. With `__wrapped__` the peer would see through to the original.
        hook.__signature__ = signature  # type: ignore[attr-defined]
        return hook

    def callback(self, base: type[Any] | None = None, owner: str = "C") -> Any:
        """A callback that records all of its hooks."""
        return self.recording(base or self.world.api.Callback, callback_hooks(self.world.api), owner)()

    def module(self, base: type[Any] | None = None, hooks: Any = MODULE_HOOKS) -> Any:
        """A module that records `hooks`; `base` is a function of nothing, or a subclass of what `base_module` gives."""
        return self.recording(base or self.base_module(), hooks, "M")()

    def data(self, hooks: Any = DATA_HOOKS, base: type[Any] | None = None, **loaders: Callable[[], Any]) -> Any:
        """A data module that records; `loaders` replace the ones of `base_data` (`val=lambda: [rows(4), rows(8)]`)."""
        made = {f"{name}_dataloader": lambda this, make=make: make() for name, make in loaders.items()}
        base = base or self.base_data()
        return self.recording(type(base.__name__, (base,), made), hooks, "D")()

    def base_module(self) -> type[Any]:
        """One layer, Adam, and a scheduler that moves every epoch."""
        return base_module(self.world.api)

    def base_data(self) -> type[Any]:
        """Two batches to train on, one for everything else."""
        return base_data(self.world.api)

    # -- running ---------------------------------------------------------------------------------------------------------

    def run(
        self,
        entry: str = "fit",
        module: Any = None,
        data: Any = None,
        *,
        loaders: Any = None,
        callbacks: Any = (),
        ckpt_path: Any = None,
        **options: Any,
    ) -> Any:
        """Calls an entry point of a new trainer with a recording callback; `loaders` replace the data module."""
        self.trainer = self.world.trainer(**{"max_epochs": 1, "callbacks": [self.callback(), *callbacks], **options})
        return self.again(entry, module or self.module(), data, loaders=loaders, ckpt_path=ckpt_path)

    def again(self, entry: str, module: Any = None, data: Any = None, *, loaders: Any = None, **options: Any) -> Any:
        """Calls another entry point of the trainer that there is."""
        if loaders is None:
            options["datamodule"] = data or self.data()
        if entry in ("validate", "test"):
            options["verbose"] = False
        return getattr(self.trainer, entry)(module, *(loaders or ()), **options)

    # -- writing ---------------------------------------------------------------------------------------------------------

    def write(self, call: str, given: Mapping[str, Any]) -> None:
        """Writes a call down, with how the trainer and the module stand as it comes."""
        arguments = ", ".join(f"{key}={describe(value)}" for key, value in given.items())
        self.calls.append(f"{call}({arguments}){self._standing()}")

    def _standing(self) -> str:
        trainer = self.trainer
        if trainer is None:
            return ""
        stage = next((name for name in STAGES if getattr(trainer, name)), "none")
        parts = [f"epoch={trainer.current_epoch}", f"step={trainer.global_step}", stage]
        module = trainer.lightning_module
        if module is not None:
            parts.append("train" if module.training else "eval")
            parts.append(f"grads={describe([p.grad for p in module.parameters()])}")
            parts.append(f"weights={describe(list(module.parameters()))}")
        parts += ["grad" * torch.is_grad_enabled(), "inference" * torch.is_inference_mode_enabled(), "stops" * bool(trainer.should_stop)]
        return " | " + " ".join(part for part in parts if part)


STAGES = ("sanity_checking", "training", "validating", "testing", "predicting")


def describe(value: Any) -> str:
    """A value in a few characters that are the same for equal values of both libraries."""
    if isinstance(value, Enum):
        return repr(value.value)
    if value is None or isinstance(value, bool | int | float | str):
        return repr(value)
    if isinstance(value, Tensor):
        weighted = value.detach().double().mul(torch.arange(1, value.numel() + 1).reshape(value.shape))
        return f"{weighted.sum().item():.6g}{'' if value.dtype is torch.float32 else f' of {value.dtype}'}"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {describe(part)}" for key, part in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(describe, value)) + "]"
    if isinstance(value, torch.optim.Optimizer):
        return next(kind.__name__ for kind in type(value).__mro__ if kind.__module__.startswith("torch.optim"))
    return "a function" if callable(value) and not hasattr(value, "step") else type(value).__name__


def base_module(api: Any) -> type[Any]:
    """A module class of a library: one layer, Adam, and a scheduler that moves every epoch."""

    class Model(api.LightningModule):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.layer = linear()

        def forward(self, batch: Tensor) -> Tensor:
            return self.layer(batch)

        def training_step(self, batch: Tensor, batch_idx: int) -> Any:
            return self.layer(batch).pow(2).mean()

        def validation_step(self, batch: Tensor, batch_idx: int, dataloader_idx: int = 0) -> Any:
            return self.layer(batch).mean()

        def test_step(self, batch: Tensor, batch_idx: int, dataloader_idx: int = 0) -> Any:
            return self.layer(batch).mean()

        def predict_step(self, batch: Tensor, batch_idx: int, dataloader_idx: int = 0) -> Any:
            return self.layer(batch)

        def configure_optimizers(self) -> Any:
            optimizer = torch.optim.Adam(self.parameters(), lr=0.01)
            return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1)]

    return Model


def base_data(api: Any) -> type[Any]:
    """A data module class of a library: two batches to train on, one for everything else."""

    class Data(api.LightningDataModule):  # type: ignore[misc]
        def train_dataloader(self) -> Any:
            return rows(8)

        def val_dataloader(self) -> Any:
            return rows(4, seed=1)

        def test_dataloader(self) -> Any:
            return rows(4, seed=2)

        def predict_dataloader(self) -> Any:
            return rows(4, seed=3)

    return Data
