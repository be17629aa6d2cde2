"""The model and the data of the checkpoints in this folder, for any release of Lightning and for lx."""

from typing import Any

import torch
from torch.utils.data import DataLoader


def rows(length: int, seed: int) -> Any:
    """A loader over random rows, the same in each run, two to a batch."""
    return DataLoader(torch.randn(length, 2, generator=torch.Generator().manual_seed(seed)), batch_size=2)


def net(api: Any, manual: bool = False, by_step: bool = False) -> Any:
    """A module of a library: one layer, Adam, a schedule."""

    class Net(api.LightningModule):  # type: ignore[misc]
        def __init__(self, width: int = 2, name: str = "net", rates: Any = (0.05, 0.5)) -> None:
            super().__init__()
            self.save_hyperparameters()
            self.automatic_optimization = not manual
            self.layer = torch.nn.Linear(width, 1)
            with torch.no_grad():
                self.layer.weight.copy_(torch.linspace(-0.5, 0.5, width).unsqueeze(0))
                self.layer.bias.zero_()
            self.seen: list[int] = []

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            self.seen.append(batch_idx)
            loss = (self.layer(batch) - 1).pow(2).mean()
            if not self.automatic_optimization:
                optimizer = self.optimizers()
                optimizer.zero_grad()
                self.manual_backward(loss)
                optimizer.step()
            return loss

        def validation_step(self, batch: Any, batch_idx: int) -> None:
            self.log("v", (self.layer(batch) - 1).pow(2).mean())

        def configure_optimizers(self) -> Any:
            optimizer = torch.optim.Adam(self.parameters(), lr=0.05)
            scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.9)
            return [optimizer], [{"scheduler": scheduler, "interval": "step" if by_step else "epoch"}]

    return Net


def data(api: Any) -> Any:
    """A data module of a library, with hyperparameters and a state."""

    class Rows(api.LightningDataModule):  # type: ignore[misc]
        def __init__(self, batches: int = 4) -> None:
            super().__init__()
            self.save_hyperparameters()
            self.batches, self.served = batches, 0

        def train_dataloader(self) -> Any:
            self.served += 1
            return rows(2 * self.batches, 0)

        def val_dataloader(self) -> Any:
            return rows(4, 1)

        def state_dict(self) -> Any:
            return {"served": self.served}

        def load_state_dict(self, state_dict: Any) -> None:
            self.served = state_dict["served"]

    Rows.__qualname__ = "Rows"
    return Rows


SCENARIOS: dict[str, Any] = {
    "epoch": {"trainer": {"max_epochs": 3}},
    "steps": {"trainer": {"max_epochs": 3, "accumulate_grad_batches": 2}, "batches": 6, "every_n_train_steps": 4, "by_step": True},
    "manual": {"trainer": {"max_epochs": 3}, "batches": 6, "every_n_train_steps": 8, "manual": True},
}
"""`epoch`: after the second epoch. `steps`, `manual`: in the second epoch, after two of its six batches."""
