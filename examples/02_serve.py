"""A model that knows handwritten digits, trained for a second or two, served over HTTP, and asked about a digit that it has not seen.

    pip install lx-plugin-serve
    python examples/02_serve.py

`lx serve` does the same for a checkpoint, and goes on until it is interrupted.
"""

import json
from typing import Any
from urllib.request import Request, urlopen

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lx import LightningModule, Trainer, seed_everything
from lx_plugin_serve import ServableModule, served

torch.set_num_threads(1)


class Reader(LightningModule, ServableModule):
    """Reads a digit from 64 shades of grey, 0 to 16, row by row."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))

    def forward(self, shades: Tensor) -> Tensor:
        return self.layers(shades / 16)

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        shades, digits = batch
        return nn.functional.cross_entropy(self(shades), digits)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=3e-3)

    # What a client sends, what becomes of it, and what comes back; the callback `servable_module_validator` tries it before training.

    def configure_payload(self) -> dict[str, Any]:
        return {"body": {"shades": [0.0] * 64}}

    def configure_serialization(self) -> tuple[dict, dict]:
        return {"shades": torch.tensor}, {"certain": lambda certainty: round(certainty.item(), 2)}

    def serve_step(self, shades: Tensor) -> dict[str, Any]:
        certainty, digit = self(shades).softmax(-1).max(-1)
        return {"digit": digit.item(), "certain": certainty}

    def configure_response(self) -> dict[str, Any]:
        with torch.no_grad():
            answer = self.serve_step(torch.zeros(64))
        return {**answer, "certain": round(answer["certain"].item(), 2)}


def main() -> None:
    """Trains, serves, asks, and says what was answered."""
    seed_everything(42)
    images, labels = load_digits(return_X_y=True)
    shades, digits = torch.tensor(images, dtype=torch.float32), torch.tensor(labels)
    model = Reader()
    trainer = Trainer(
        max_epochs=10,
        accelerator="cpu",
        callbacks="servable_module_validator(port=0, timeout=120)",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(model, DataLoader(TensorDataset(shades[:-1], digits[:-1]), batch_size=32, shuffle=True))

    with served(model, port=0, timeout=120) as url:  # ends with the block
        content = json.dumps({"body": {"shades": shades[-1].tolist()}}).encode()
        request = Request(f"{url}/serve", content, {"Content-Type": "application/json"})
        with urlopen(request, timeout=60) as response:
            answer = json.load(response)
    print(f"served at  {url}")
    print(f"digit      {digits[-1].item()}")
    print(f"answer     {json.dumps(answer)}")


if __name__ == "__main__":  # the process of the server imports this file, too
    main()
