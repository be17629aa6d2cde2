"""A convolutional network on scikit-learn's digits: 1,797 scans of handwritten digits, 8 by 8 pixels.

    python examples/01_digits.py             # trains, tests the best checkpoint, draws the curves
    python examples/01_digits.py --resume    # goes on from the last checkpoint of the newest run

Every part of the Trainer is chosen by a string, and each of these strings names a plugin.
"""

import argparse
import csv
import time
from collections import defaultdict
from pathlib import Path

import torch
from matplotlib.figure import Figure
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset, random_split

from lx import LightningDataModule, LightningModule, Trainer, seed_everything

torch.set_num_threads(1)  # for a network as small as this one, further threads cost more than they bring


class Digits(LightningDataModule):
    """The digits, split into 70 % for training, 15 % for validation and 15 % for the test."""

    def __init__(self, batch_size: int = 32) -> None:
        super().__init__()
        self.save_hyperparameters()

    def setup(self, stage: str) -> None:
        images, labels = load_digits(return_X_y=True)
        scans = torch.tensor(images, dtype=torch.float32).reshape(-1, 1, 8, 8) / 16
        data = TensorDataset(scans, torch.tensor(labels))
        self.train, self.val, self.test = random_split(data, [0.70, 0.15, 0.15], torch.Generator().manual_seed(0))

    def train_dataloader(self) -> DataLoader:
        return DataLoader(self.train, batch_size=self.hparams.batch_size, shuffle=True)

    def val_dataloader(self) -> DataLoader:
        return DataLoader(self.val, batch_size=256)

    def test_dataloader(self) -> DataLoader:
        return DataLoader(self.test, batch_size=256)


class Network(LightningModule):
    """Two convolutions and a linear layer, 29,000 parameters."""

    def __init__(self, width: int = 32, lr: float = 2e-3) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.layers = nn.Sequential(
            nn.Conv2d(1, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(),
            nn.Conv2d(width, 2 * width, 3, padding=1), nn.BatchNorm2d(2 * width), nn.ReLU(), nn.MaxPool2d(2),
            nn.Flatten(), nn.Dropout(0.3), nn.Linear(2 * width * 4 * 4, 10),
        )  # fmt: skip

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images)

    def loss(self, batch: list[Tensor], stage: str) -> Tensor:
        """The loss of a batch; logs it, and the accuracy."""
        images, labels = batch
        scores = self(images)
        loss = nn.functional.cross_entropy(scores, labels)
        accuracy = (scores.argmax(1) == labels).float().mean()
        self.log_dict({f"{stage}_loss": loss, f"{stage}_acc": accuracy}, on_step=False, on_epoch=True, prog_bar=stage == "val")
        return loss

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        return self.loss(batch, "train")

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        self.loss(batch, "val")

    def test_step(self, batch: list[Tensor], batch_idx: int) -> None:
        self.loss(batch, "test")

    def configure_optimizers(self) -> tuple[list, list]:
        optimizer = torch.optim.AdamW(self.parameters(), lr=self.hparams.lr)
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, step_size=10, gamma=0.5)]


def newest_version() -> int:
    """The number of the newest run that has a checkpoint to go on from."""
    found = [int(path.parts[-3].removeprefix("version_")) for path in Path("runs/digits").glob("version_*/checkpoints/last.ckpt")]
    if not found:
        raise SystemExit("--resume: no run in runs/digits has a checkpoint yet; start one without --resume.")
    return max(found)


def draw_curves(metrics: Path, picture: Path) -> None:
    """Draws loss and accuracy of training and validation, over the epochs of a CSV log."""
    curves: dict[str, dict[int, float]] = defaultdict(dict)
    with metrics.open(newline="") as file:
        for row in csv.DictReader(file):
            for name, value in row.items():
                if value and row["epoch"]:
                    curves[name][int(row["epoch"])] = float(value)
    figure = Figure(figsize=(10, 4), layout="constrained")
    for axes, kind, title in zip(figure.subplots(1, 2), ("loss", "acc"), ("cross-entropy loss", "accuracy"), strict=True):
        for stage, label in (("train", "training"), ("val", "validation")):
            axes.plot(*zip(*curves[f"{stage}_{kind}"].items(), strict=True), marker=".", label=label)
        axes.set(title=title, xlabel="epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
        axes.legend()
    figure.savefig(picture, dpi=120)


def main() -> None:
    """Trains, tests, draws, and says where everything is."""
    parser = argparse.ArgumentParser(description="Trains a small network on handwritten digits.")
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint of the newest run")
    parser.add_argument("--patience", type=int, default=8, help="so many epochs in a row without a better accuracy end the run")
    args = parser.parse_args()
    start = time.perf_counter()

    seed_everything(42)
    version = newest_version() if args.resume else None  # None: the next free number
    trainer = Trainer(
        accelerator="auto",
        devices="1",
        strategy="auto",
        precision="32-true",
        logger=f"csv(save_dir='runs', name='digits', version={version})",
        callbacks=[
            f"early_stopping(monitor='val_acc', mode='max', patience={args.patience})",
            "model_checkpoint(monitor='val_acc', mode='max', filename='best-{epoch}-{val_acc:.3f}')",
            "model_checkpoint(save_top_k=0, save_last=True)",  # last.ckpt after every epoch, for --resume
            "lr_monitor",
            "tqdm",
            "model_summary",
        ],
        plugins="torch_io",
        max_epochs=50,
        log_every_n_steps=10,
    )
    data = Digits()
    trainer.fit(Network(), datamodule=data, ckpt_path="last" if args.resume else None)
    (result,) = trainer.test(ckpt_path="best", datamodule=data, verbose=False)

    folder = Path(trainer.log_dir).resolve()
    draw_curves(folder / "metrics.csv", folder / "curves.png")
    print(f"test accuracy    {result['test_acc']:.4f}")
    print(f"epochs           {trainer.current_epoch}")
    print(f"time             {time.perf_counter() - start:.1f} s")
    print(f"logs             {folder / 'metrics.csv'}")
    print(f"best checkpoint  {trainer.checkpoint_callback.best_model_path}")
    print(f"curves           {folder / 'curves.png'}")


if __name__ == "__main__":
    main()
