"""A model of one layer, and random rows for it."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset

from lx.data import LightningDataModule
from lx.module import LightningModule
from lx.types import STEP_OUTPUT, OptimizerLRScheduler

SIZE, LENGTH = 32, 64


class RandomDataset(Dataset[Tensor]):
    """`length` rows of `size` random numbers, drawn when it is made.

    >>> len(RandomDataset(32, 64)), RandomDataset(32, 64)[0].shape
    (64, torch.Size([32]))
    """

    def __init__(self, size: int, length: int) -> None:
        self.len = length
        self.data = torch.randn(length, size)

    def __getitem__(self, index: int) -> Tensor:
        return self.data[index]

    def __len__(self) -> int:
        return self.len


class RandomDictDataset(Dataset[dict[str, Tensor]]):
    """As `RandomDataset`, with a mapping for each row: `"a"`, and `"b"`, which is half of it.

    >>> sorted(RandomDictDataset(32, 64)[0])
    ['a', 'b']
    """

    def __init__(self, size: int, length: int) -> None:
        self.rows = RandomDataset(size, length)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"a": self.rows[index], "b": self.rows[index] / 2}

    def __len__(self) -> int:
        return len(self.rows)


class RandomIterableDataset(IterableDataset[Tensor]):
    """`count` rows of `size` random numbers, drawn while it is iterated over; it has no length.

    >>> [row.shape for row in RandomIterableDataset(3, 2)]
    [torch.Size([3]), torch.Size([3])]
    """

    def __init__(self, size: int, count: int) -> None:
        self.size, self.count = size, count

    def __iter__(self) -> Iterator[Tensor]:
        for _ in range(self.count):
            yield torch.randn(self.size)


class RandomIterableDatasetWithLen(RandomIterableDataset):
    """A `RandomIterableDataset` that knows how long it is."""

    def __len__(self) -> int:
        return self.count


class BoringModel(LightningModule):
    """One linear layer from 32 inputs to 2 outputs, with every step, optimizer, scheduler and loader: `Trainer().fit(BoringModel())` works.

    Nothing is logged. Override what you want to see.

    >>> BoringModel()(torch.ones(4, 32)).shape
    torch.Size([4, 2])
    """

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(SIZE, 2)

    def forward(self, x: Tensor) -> Tensor:
        """The outputs, (batch, 2)."""
        return self.layer(x)  # type: ignore[no-any-return]

    def loss(self, preds: Tensor, labels: Tensor | None = None) -> Tensor:
        """The mean squared error against ones, or against labels, a scalar."""
        return nn.functional.mse_loss(preds, torch.ones_like(preds) if labels is None else labels)

    def step(self, batch: Any) -> Tensor:
        """The loss of a batch."""
        return self.loss(self(batch))

    def training_step(self, batch: Any, batch_idx: int) -> STEP_OUTPUT:
        """Returns the loss."""
        return {"loss": self.step(batch)}

    def validation_step(self, batch: Any, batch_idx: int) -> STEP_OUTPUT:
        """Returns the loss as `"x"`."""
        return {"x": self.step(batch)}

    def test_step(self, batch: Any, batch_idx: int) -> STEP_OUTPUT:
        """Returns the loss as `"y"`."""
        return {"y": self.step(batch)}

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """SGD, with a scheduler that moves every epoch."""
        optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, step_size=1)]

    def train_dataloader(self) -> DataLoader[Any]:
        """64 rows in batches of one; so are the others."""
        return DataLoader(RandomDataset(SIZE, LENGTH))

    val_dataloader = test_dataloader = predict_dataloader = train_dataloader


class ManualOptimBoringModel(BoringModel):
    """A `BoringModel` that steps its optimizer itself."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch: Any, batch_idx: int) -> STEP_OUTPUT:
        """Forward, backward and step."""
        optimizer: Any = self.optimizers()
        loss = self.step(batch)
        optimizer.zero_grad()
        self.manual_backward(loss)
        optimizer.step()
        return loss


class DemoModel(BoringModel):
    """A `BoringModel` with hyperparameters: how many outputs it has, and the learning rate of Adam.

    >>> DemoModel(out_dim=3).hparams
    "out_dim":       3
    "learning_rate": 0.02
    """

    def __init__(self, out_dim: int = 10, learning_rate: float = 0.02) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.layer = nn.Linear(SIZE, out_dim)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Adam."""
        return torch.optim.Adam(self.parameters(), lr=self.hparams.learning_rate)


class BoringDataModule(LightningDataModule):
    """The rows that a `BoringModel` brings itself, as a data module: 64 in batches of one, for each stage.

    >>> data = BoringDataModule()
    >>> data.setup("fit")
    >>> len(data.train_dataloader())
    64
    """

    def __init__(self) -> None:
        super().__init__()
        self.random_full: Dataset[Any] = RandomDataset(SIZE, LENGTH * 4)
        self.parts: dict[str, Dataset[Any]] = {}

    def setup(self, stage: str) -> None:
        """Takes the rows of each stage."""
        for place, name in enumerate(("train", "val", "test", "predict")):
            self.parts[name] = Subset(self.random_full, range(place * LENGTH, (place + 1) * LENGTH))

    def train_dataloader(self) -> DataLoader[Any]:
        """The rows that are trained on."""
        return DataLoader(self.parts["train"])

    def val_dataloader(self) -> DataLoader[Any]:
        """The rows for validation."""
        return DataLoader(self.parts["val"])

    def test_dataloader(self) -> DataLoader[Any]:
        """The rows for the test."""
        return DataLoader(self.parts["test"])

    def predict_dataloader(self) -> DataLoader[Any]:
        """The rows for prediction."""
        return DataLoader(self.parts["predict"])
