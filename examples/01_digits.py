"""A convolutional network on scikit-learn's digits: 1,797 scans of handwritten digits, 8 by 8 pixels.

    python examples/01_digits.py                # trains, tests the best checkpoint, draws the curves
    python examples/01_digits.py --resume       # goes on from the last checkpoint of the newest run

Every part of the Trainer is chosen by a string, and each of those strings names a plugin.
"""

import argparse
import csv
import time
from collections import defaultdict
from pathlib import Path

import matplotlib as mpl
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, random_split

from lx import LightningDataModule, LightningModule, Trainer, seed_everything


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
    """Two convolutions and a linear layer, 21,000 parameters."""

    def __init__(self, width: int = 32, lr: float = 2e-3) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.layers = nn.Sequential(
            nn.Conv2d(1, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(),
            nn.Conv2d(width, 2 * width, 3, padding=1), nn.BatchNorm2d(2 * width), nn.ReLU(), nn.MaxPool2d(2),
            nn.Flatten(), nn.Dropout(0.3), nn.Linear(2 * width * 4 * 4, 10),
        )  # fmt: skip

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.layers(images)

    def share(self, batch: tuple[torch.Tensor, torch.Tensor], stage: str) -> torch.Tensor:
        """The loss of a batch; logs it and the accuracy."""
        images, labels = batch
        scores = self(images)
        loss = nn.functional.cross_entropy(scores, labels)
        accuracy = (scores.argmax(1) == labels).float().mean()
        values = {f"{stage}_loss": loss, f"{stage}_acc": accuracy}
        self.log_dict(values, on_step=False, on_epoch=True, prog_bar=stage == "val")
        return loss

    def training_step(self, batch: tuple[torch.Tensor, torch.Tensor], batch_idx: int) -> torch.Tensor:
        return self.share(batch, "train")

    def validation_step(self, batch: tuple[torch.Tensor, torch.Tensor], batch_idx: int) -> None:
        self.share(batch, "val")

    def test_step(self, batch: tuple[torch.Tensor, torch.Tensor], batch_idx: int) -> None:
        self.share(batch, "test")

    def configure_optimizers(self) -> tuple[list, list]:
        optimizer = torch.optim.AdamW(self.parameters(), lr=self.hparams.lr)
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, step_size=10, gamma=0.5)]


def newest_run(root: Path) -> Path:
    """The folder of the newest run that left a checkpoint to go on from."""
    found = sorted(root.glob("digits/version_*/checkpoints/last.ckpt"), key=lambda path: path.stat().st_mtime)
    if not found:
        raise SystemExit(f"--resume: there is no run with a checkpoint under {root / 'digits'}; train once without it.")
    return found[-1].parent.parent


def draw_curves(metrics: Path, picture: Path) -> None:
    """Draws loss and accuracy of training and validation, over epochs, from a CSV log."""
    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415 -- after the backend without a screen was chosen

    curves: dict[str, list[tuple[float, float]]] = defaultdict(list)
    with metrics.open(newline="") as file:
        for row in csv.DictReader(file):
            for name in ("train_loss", "val_loss", "train_acc", "val_acc"):
                if row.get(name):
                    curves[name].append((float(row["epoch"]), float(row[name])))
    figure, axes = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for axis, kind, title in zip(axes, ("loss", "acc"), ("cross-entropy loss", "accuracy"), strict=True):
        for stage in ("train", "val"):
            axis.plot(*zip(*curves[f"{stage}_{kind}"], strict=True), label={"train": "training", "val": "validation"}[stage])
        axis.set(title=title, xlabel="epoch")
        axis.grid(alpha=0.3)
        axis.legend()
    figure.savefig(picture, dpi=120)


def main() -> None:
    """Trains, tests, draws, and says where everything is."""
    parser = argparse.ArgumentParser(description="Trains a small network on handwritten digits.")
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint of the newest run")
    parser.add_argument("--epochs", type=int, default=20, help="how many epochs to train at the most; with --resume, how many more")
    parser.add_argument("--root", type=Path, default=Path("runs"), help="the folder of all runs")
    args = parser.parse_args()
    start = time.perf_counter()

    seed_everything(42)
    logger, last, epochs = {"csv": {"save_dir": str(args.root), "name": "digits"}}, None, args.epochs
    if args.resume:
        run = newest_run(args.root)
        last = run / "checkpoints" / "last.ckpt"
        logger["csv"]["version"] = run.name
        epochs += torch.load(last, weights_only=True)["epoch"] + 1
    trainer = Trainer(
        accelerator="auto",
        strategy="auto",
        devices="1",
        precision="32-true",
        logger=logger,
        callbacks=[
            "early_stopping(monitor='val_acc', mode='max', patience=8)",
            "model_checkpoint(monitor='val_acc', mode='max', save_last=True, filename='best-{epoch}-{val_acc:.3f}')",
            "lr_monitor",
            "tqdm",
            "model_summary",
        ],
        plugins="torch_io",
        max_epochs=epochs,
        log_every_n_steps=10,
    )
    data = Digits()
    trainer.fit(Network(), datamodule=data, ckpt_path=last)
    (result,) = trainer.test(ckpt_path="best", datamodule=data, verbose=False)

    log = Path(trainer.log_dir)
    draw_curves(log / "metrics.csv", log / "curves.png")
    print(f"test accuracy    {result['test_acc']:.4f}")
    print(f"epochs           {trainer.current_epoch}")
    print(f"time             {time.perf_counter() - start:.1f} s")
    print(f"logs             {log / 'metrics.csv'}")
    print(f"best checkpoint  {trainer.checkpoint_callback.best_model_path}")
    print(f"curves           {log / 'curves.png'}")


if __name__ == "__main__":
    main()
