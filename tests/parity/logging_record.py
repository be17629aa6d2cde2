"""What one library logs: every call that a logger gets, the three dictionaries of the trainer, and what the entry points return."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from sides import World
from torch import Tensor, nn
from torch.utils.data import DataLoader

Entry = tuple[Any, ...]
DICTIONARIES = ("callback_metrics", "logged_metrics", "progress_bar_metrics")
LOGGERS = {"lx": "lx.interfaces.logger", "lightning": "lightning.pytorch.loggers"}


def rows(count: int, batch_size: int = 4, seed: int = 0) -> DataLoader[Any]:
    """Rows of two numbers; the last batch holds what is left."""
    return DataLoader(torch.randn(count, 2, generator=torch.Generator().manual_seed(seed)), batch_size=batch_size)  # type: ignore[arg-type]


SCENARIOS: dict[str, Callable[["Record"], None]] = {}


def scenario(function: Callable[["Record"], None]) -> Callable[["Record"], None]:
    """Takes a function up as a scenario: it does the same with either library."""
    SCENARIOS[function.__name__] = function
    return function


class Record:
    """Makes the classes of one library, runs them, and keeps what was seen in `entries`."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.entries: list[Entry] = []
        self.trainer: Any = None

    # -- classes ---------------------------------------------------------------------------------------------------------

    def module(self, **methods: Any) -> Any:
        """A module of one layer with SGD; `methods` replace or add to its own."""
        return type("Model", (base_module(self.world.api),), methods)()

    def callback(self, **hooks: Any) -> Any:
        """A callback with these hooks."""
        return type("Own", (self.world.api.Callback,), hooks)()

    def logger(self, name: str = "") -> Any:
        """A logger that writes down every call."""
        return recording_logger(self.world.side, self.entries, name)

    def trainer_with(self, **options: Any) -> Any:
        """A trainer with a recording logger, without checkpoints, sanity check, and other company, unless `options` say so."""
        neutral = {"logger": self.logger(), "enable_checkpointing": False, "num_sanity_val_steps": 0, "max_epochs": 1}
        return self.world.trainer(**{**neutral, "log_every_n_steps": 1, **options})

    # -- running ---------------------------------------------------------------------------------------------------------

    def run(self, entry: str = "fit", module: Any = None, *loaders: Any, ckpt_path: Any = None, **options: Any) -> None:
        """Runs an entry point of a new trainer."""
        self.trainer = self.trainer_with(**options)
        self.again(entry, module or self.module(), *loaders, ckpt_path=ckpt_path)

    def again(self, entry: str, module: Any, *loaders: Any, ckpt_path: Any = None) -> None:
        """Runs an entry point of the trainer that there is, and writes down what it returns and what the dictionaries hold then."""
        if not loaders:
            loaders = (rows(10), rows(6, seed=1)) if entry == "fit" else (rows(10, seed=1),)
        verbose = {"verbose": False} if entry in ("validate", "test") else {}
        result = getattr(self.trainer, entry)(module, *loaders, ckpt_path=ckpt_path, **verbose)
        if entry in ("validate", "test"):
            self.entries.append(("returned", result))
        self.look(f"after {entry}")

    def look(self, moment: str, *dictionaries: str) -> None:
        """Writes down what the dictionaries of the trainer hold."""
        for name in dictionaries or DICTIONARIES:
            self.entries.append((moment, name, numbers(getattr(self.trainer, name))))

    def looking(self, *moments: str, dictionaries: Iterable[str] = DICTIONARIES) -> Any:
        """A callback that looks at each of these hooks."""
        return self.callback(**{moment: lambda this, *_, moment=moment: self.look(moment, *dictionaries) for moment in moments})

    def attempt(self, moment: str, action: Callable[[], Any]) -> None:
        """Does something, and writes down which error it raises, by its class."""
        try:
            action()
        except Exception as error:
            self.entries.append((moment, "raised", type(error).__name__))
        else:
            self.entries.append((moment, "raised", None))


def numbers(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """The same dictionary with tensors as numbers."""
    return {name: value.item() if isinstance(value, Tensor) else value for name, value in metrics.items()}


def base_module(api: Any) -> type[Any]:
    """A module class of a library: one layer, SGD; it logs nothing."""

    class Model(api.LightningModule):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(2, 1)
            with torch.no_grad():
                self.layer.weight.copy_(torch.tensor([[-0.5, 0.75]]))
                self.layer.bias.fill_(0.25)

        def training_step(self, batch: Tensor, batch_idx: int) -> Any:
            return self.layer(batch).pow(2).mean()

        def validation_step(self, batch: Tensor, batch_idx: int, dataloader_idx: int = 0) -> Any:
            return self.layer(batch).mean()

        def test_step(self, batch: Tensor, batch_idx: int, dataloader_idx: int = 0) -> Any:
            return self.layer(batch).mean()

        def predict_step(self, batch: Tensor, batch_idx: int, dataloader_idx: int = 0) -> Any:
            return self.layer(batch)

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=0.01)

    return Model


def recording_logger(side: str, entries: list[Entry], own_name: str) -> Any:
    """An instance of a library's `Logger` that writes its calls into `entries`."""
    import importlib

    base: type[Any] = importlib.import_module(LOGGERS[side]).Logger

    class Recording(base):  # type: ignore[misc, valid-type]
        @property
        def name(self) -> str:
            return own_name

        @property
        def version(self) -> int:
            return 0

        def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
            entries.append((f"log{own_name}", step, numbers(metrics)))

        def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
            entries.append((f"hyperparameters{own_name}", dict(params)))

        def save(self) -> None:
            entries.append((f"save{own_name}",))

        def finalize(self, status: str) -> None:
            entries.append((f"finalize{own_name}", status))

    return Recording()
