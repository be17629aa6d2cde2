"""Two processes, started by lx or by torchrun, end with the weights of one that accumulates the same batches."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

PROGRAM = '''
import json
import sys

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lx import LightningModule, Trainer, seed_everything


class Net(LightningModule):
    def __init__(self):
        super().__init__()
        seed_everything(7, verbose=False)
        self.layers = nn.Sequential(nn.Linear(5, 16), nn.Tanh(), nn.Linear(16, 1))

    def loss(self, batch):
        inputs, targets = batch
        return nn.functional.mse_loss(self.layers(inputs), targets)

    def training_step(self, batch, batch_idx):
        loss = self.loss(batch)
        self.log("train_loss", loss, on_step=False, on_epoch=True, sync_dist=True)
        return loss

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", self.loss(batch), sync_dist=True)
        rank = self.trainer.global_rank
        self.log("weighted", float(10 * rank + batch_idx), sync_dist=True, batch_size=1 + 2 * rank)
        for reduce_fx in ("sum", "min", "max"):
            self.log(f"rank_{reduce_fx}", float(rank + 1), sync_dist=True, reduce_fx=reduce_fx)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=0.01)


class Interleaved:
    """The batches of both ranks in one process: those of rank 0 and 1 by turns, in the order in which two processes get them."""

    def __init__(self, samplers, size):
        self.samplers, self.size, self.epoch = samplers, size, 0

    def __len__(self):
        return sum(-(-len(sampler) // self.size) for sampler in self.samplers)

    def __iter__(self):
        for sampler in self.samplers:
            sampler.set_epoch(self.epoch)
        self.epoch += 1
        shares = [list(sampler) for sampler in self.samplers]
        for start in range(0, len(shares[0]), self.size):
            for share in shares:
                yield share[start : start + self.size]


def data(seed, length):
    inputs = torch.randn(length, 5, generator=torch.Generator().manual_seed(seed))
    return TensorDataset(inputs, inputs.square().sum(1, keepdim=True))


def train(mode, result):
    model, rows = Net(), data(1, 44)
    one = mode == "one"
    if one:
        from lx.data.samplers import ShareSampler
        from torch.utils.data import RandomSampler

        shares = [ShareSampler(RandomSampler(rows), num_replicas=2, rank=rank, seed=7) for rank in (0, 1)]
        loader = DataLoader(rows, batch_sampler=Interleaved(shares, 4))
    else:
        loader = DataLoader(rows, batch_size=4, shuffle=True)
    trainer = Trainer(
        accelerator="cpu",
        strategy="auto" if one else "ddp",
        devices=1 if one else 2,
        accumulate_grad_batches=4 if one else 2,
        max_epochs=2,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(model, loader, DataLoader(data(2, 24), batch_size=4))
    metrics = {name: value.item() for name, value in trainer.callback_metrics.items()}
    trainer.validate(model, DataLoader(data(2, 24), batch_size=4), verbose=False)  # a second run in the same processes
    again = {name: value.item() for name, value in trainer.callback_metrics.items()}
    with open(f"{result}_{trainer.global_rank}", "w") as file:
        weights = {name: value.tolist() for name, value in model.state_dict().items()}
        json.dump({"weights": weights, "metrics": metrics, "again": again, "steps": trainer.global_step, "world": trainer.world_size}, file)


if __name__ == "__main__":
    train(*sys.argv[1:])
'''

FORGOTTEN = (
    "LOCAL_RANK",
    "RANK",
    "NODE_RANK",
    "GROUP_RANK",
    "WORLD_SIZE",
    "MASTER_ADDR",
    "MASTER_PORT",
    "TORCHELASTIC_RUN_ID",
    "PL_GLOBAL_SEED",
)


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "program.py"
    path.write_text(PROGRAM)
    return path


@pytest.fixture(scope="module")
def one_process(program: Path) -> Any:
    """What one process ends with."""
    run(program, "one")
    return json.loads((program.parent / "one_0").read_text())


def run(program: Path, mode: str, *launcher: str) -> None:
    environ = {name: value for name, value in os.environ.items() if name not in FORGOTTEN}
    done = subprocess.run(
        [sys.executable, *launcher, str(program), mode, str(program.parent / mode)],
        env={**environ, "OMP_NUM_THREADS": "1"},
        cwd=program.parent,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("mode", "launcher"),
    [("script", ()), ("torchrun", ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"))],
)
def test_two_processes_end_with_the_weights_of_one(program: Path, one_process: Any, mode: str, launcher: tuple[str, ...]) -> None:
    run(program, mode, *launcher)
    ranks = [json.loads((program.parent / f"{mode}_{rank}").read_text()) for rank in (0, 1)]
    assert ranks[0] == ranks[1]
    result = ranks[0]
    assert (result["world"], one_process["world"]) == (2, 1)
    assert result["steps"] == one_process["steps"] == 6
    for name, weight in one_process["weights"].items():
        torch.testing.assert_close(torch.tensor(result["weights"][name]), torch.tensor(weight), atol=1e-6, rtol=1e-5)
    for name in ("train_loss", "val_loss"):
        assert result["metrics"][name] == pytest.approx(one_process["metrics"][name], rel=1e-5)
    assert result["again"]["val_loss"] == result["metrics"]["val_loss"]
    # each rank has 3 batches; rank 1 logs 10 + batch_idx with the weight 3, rank 0 batch_idx with the weight 1
    assert result["metrics"]["weighted"] == pytest.approx((3 * (10 + 11 + 12) + (0 + 1 + 2)) / (3 * 4))
    assert [result["metrics"][f"rank_{name}"] for name in ("sum", "min", "max")] == [9, 1, 2]
