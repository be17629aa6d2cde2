"""A model and data that train in milliseconds, for tests of everything around them."""

from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lx.data import LightningDataModule
from lx.module import LightningModule


class TinyModule(LightningModule):
    """One linear layer that learns to sum its inputs; it has every step, and logs `train_loss`, `val_loss` and `test_loss`.

    Batches are a tensor of inputs (batch, `size`), or that and one of targets (batch, 1). Its weights are the same in each test.

    >>> TinyModule()(torch.ones(2, 8)).shape
    torch.Size([2, 1])
    """

    def __init__(self, size: int = 8, learning_rate: float = 0.05) -> None:
        super().__init__()
        self.learning_rate = learning_rate
        self.layer = nn.Linear(size, 1)
        with torch.no_grad():
            self.layer.weight.copy_(torch.linspace(-0.5, 0.5, size).unsqueeze(0))
            self.layer.bias.zero_()

    def forward(self, batch: Any) -> torch.Tensor:
        """The prediction, (batch, 1)."""
        inputs = batch[0] if isinstance(batch, list | tuple) else batch
        return self.layer(inputs)  # type: ignore[no-any-return]

    def loss(self, batch: Any) -> torch.Tensor:
        """The mean squared error, a scalar; without targets against the sums of the inputs."""
        inputs, target = batch if isinstance(batch, list | tuple) else (batch, batch.sum(dim=1, keepdim=True))
        return nn.functional.mse_loss(self.layer(inputs), target)

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        """Logs `train_loss`, for the step and for the epoch."""
        loss = self.loss(batch)
        self.log("train_loss", loss, on_step=True, on_epoch=True)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        """Logs `val_loss`."""
        loss = self.loss(batch)
        self.log("val_loss", loss)
        return loss

    def test_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        """Logs `test_loss`."""
        loss = self.loss(batch)
        self.log("test_loss", loss)
        return loss

    def predict_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        """The prediction."""
        return self(batch)  # type: ignore[no-any-return]

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Plain SGD."""
        return torch.optim.SGD(self.parameters(), lr=self.learning_rate)


class TinyDataModule(LightningDataModule):
    """`length` rows of `size` inputs, with their sums as targets, in batches of `batch_size`; the same rows in each test.

    >>> inputs, targets = next(iter(TinyDataModule().train_dataloader()))
    >>> inputs.shape, targets.shape
    (torch.Size([4, 8]), torch.Size([4, 1]))
    """

    def __init__(self, size: int = 8, length: int = 16, batch_size: int = 4) -> None:
        super().__init__()
        self.size, self.length, self.batch_size = size, length, batch_size

    def loader(self, seed: int, targets: bool = True) -> DataLoader[Any]:
        """A loader over rows drawn with a seed."""
        inputs = torch.randn(self.length, self.size, generator=torch.Generator().manual_seed(seed))
        columns = (inputs, inputs.sum(dim=1, keepdim=True)) if targets else (inputs,)
        return DataLoader(TensorDataset(*columns), batch_size=self.batch_size)

    def train_dataloader(self) -> DataLoader[Any]:
        """The rows that are trained on."""
        return self.loader(0)

    def val_dataloader(self) -> DataLoader[Any]:
        """The rows for validation."""
        return self.loader(1)

    def test_dataloader(self) -> DataLoader[Any]:
        """The rows for the test."""
        return self.loader(2)

    def predict_dataloader(self) -> DataLoader[Any]:
        """Rows without targets."""
        return self.loader(3, targets=False)
