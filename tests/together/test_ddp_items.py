"""Two processes step with the gradient of the one batch that holds all that both of them have seen."""

import json
import os
import subprocess
import sys
from pathlib import Path

PROGRAM = '''
import json
import sys

import torch
from torch import nn

from lx import LightningModule, Trainer

PADDING = -100


def data(rank, empty=(), equal=False):
    """Batches of one to five rows, other ones on each rank; of those in `empty`, all is padding."""
    generator = torch.Generator().manual_seed(rank)
    batches = []
    for place in range(5):
        size = 4 if equal else 1 + (3 * place + 2 * rank) % 5
        targets = torch.randint(3, (size,), generator=generator)
        targets[1::2] = targets[1::2] if equal else PADDING
        batches.append((torch.randn(size, 3, generator=generator), torch.full_like(targets, PADDING) if place in empty else targets))
    return batches


def net():
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 3))


class Twice(torch.optim.SGD):
    def step(self, closure=None):
        for _ in range(2):
            with torch.enable_grad():
                loss = closure()
            self.look()
        super().step()
        return loss


class Tagger(LightningModule):
    def __init__(self, counted=True, end=None, twice=False):
        super().__init__()
        torch.manual_seed(3)
        self.layers = net()
        self.counted, self.end, self.twice = counted, end, twice
        self.window, self.errors, self.sizes = [], [], []

    def on_train_batch_start(self, batch, batch_idx):
        return -1 if batch_idx == self.end else None

    def training_step(self, batch, batch_idx):
        inputs, targets = batch
        if batch_idx not in self.window:
            self.window.append(batch_idx)
        there = (targets != PADDING).float()
        losses = nn.functional.cross_entropy(self.layers(inputs), targets.clamp(min=0), reduction="none")
        loss = (losses * there).sum() / there.sum()  # of no rows, neither it nor its gradient is a number
        return {"loss": loss, "num_items": there.sum()} if self.counted else loss

    def look(self, *step):
        rows = [self.trainer.rows[rank][place] for place in self.window for rank in (0, 1)]
        inputs, targets = (torch.cat(parts) for parts in zip(*rows))
        layers = net().double()
        layers.load_state_dict(self.layers.state_dict())
        with torch.enable_grad():
            loss = nn.functional.cross_entropy(layers(inputs.double()), targets)
            wanted = torch.cat([gradient.flatten() for gradient in torch.autograd.grad(loss, list(layers.parameters()))])
        found = torch.cat([parameter.grad.double().flatten() for parameter in self.layers.parameters()])
        self.errors.append(((found - wanted).norm() / wanted.norm()).item())

    def forget(self, *step):
        self.sizes += [len(self.window)] if self.window else []  # a step within a step calls this twice
        self.window = []

    def configure_optimizers(self):
        optimizer = (Twice if self.twice else torch.optim.SGD)(self.parameters(), lr=0.01)
        if self.twice:
            optimizer.look = self.look
        else:
            optimizer.register_step_pre_hook(self.look)
        optimizer.register_step_post_hook(self.forget)
        return optimizer


def fit(rows, window, micro=None, **options):
    off = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    trainer = Trainer(
        accelerator="cpu", strategy="ddp", devices=2, max_epochs=1, accumulate_grad_batches=window, micro_batch_size=micro, **off
    )
    trainer.rows = rows
    model = Tagger(**options)
    trainer.fit(model, rows[int(trainer.global_rank)])
    return trainer, {"sizes": model.sizes, "error": max(model.errors), "finite": all(error == error for error in model.errors)}


if __name__ == "__main__":
    many, some, alike = [data(0), data(1)], [data(0, empty=(1, 3)), data(1, empty=(2,))], [data(0, equal=True), data(1, equal=True)]
    found = {}
    for name, arguments in {
        "one": (many, 1),
        "two": (many, 2),
        "three": (many, 3),
        "empty": (some, 2),
        "empty, one": (some, 1),
        "pieces": (many, 2, 2),
        "empty in pieces": (some, 2, 2),
    }.items():
        trainer, found[name] = fit(*arguments)
    for name, options in {"cut": {"end": 3}, "twice": {"twice": True}, "cut, twice": {"end": 3, "twice": True}}.items():
        trainer, found[name] = fit(many, 2, **options)
    for name, options in {"alike": {}, "alike, cut": {"end": 3}}.items():
        trainer, found[name] = fit(alike, 2, counted=False, **options)
    with open(f"{sys.argv[1]}_{trainer.global_rank}", "w") as file:
        json.dump(found, file)
'''

FORGOTTEN = ("LOCAL_RANK", "RANK", "NODE_RANK", "GROUP_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "TORCHELASTIC_RUN_ID")
SIZES = {"one": [1] * 5, "empty, one": [1] * 5, "three": [3, 2], **{name: [2, 1] for name in ("cut", "cut, twice", "alike, cut")}}


def test_the_gradient_of_a_step_is_that_of_all_items_on_both_ranks(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    environ = {name: value for name, value in os.environ.items() if name not in FORGOTTEN}
    done = subprocess.run(
        [sys.executable, str(program), str(tmp_path / "found")],
        env={**environ, "OMP_NUM_THREADS": "1"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for rank in (0, 1):
        found = json.loads((tmp_path / f"found_{rank}").read_text())
        assert {name: each["sizes"] for name, each in found.items()} == {name: SIZES.get(name, [2, 2, 1]) for name in found}
        assert {name: each["error"] for name, each in found.items() if not (each["finite"] and each["error"] <= 1e-6)} == {}
