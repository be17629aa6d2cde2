"""The guard in two processes: a batch that is bad on one of them is skipped on both, or both go back, and the rest counts exactly."""

import json
import subprocess
import sys
from pathlib import Path

PROGRAM = '''
import json
import math
import sys
from pathlib import Path

import torch
from torch import nn

from lx import LightningModule, Trainer
from lx_plugin_checkpoint.callback import ModelCheckpoint
from lx_plugin_guard.callback import Guard


class Net(LightningModule):
    def __init__(self, counted):
        super().__init__()
        torch.manual_seed(3)
        self.layers = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
        self.counted = counted

    def training_step(self, batch, batch_idx):
        loss = nn.functional.mse_loss(self.layers(batch[0]), batch[1])
        return {"loss": loss, "num_items": len(batch[0])} if self.counted else loss

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def data(rank, bad=None, without=None):
    """Batches of one to five rows, other ones on each rank; a bad one is so on the second rank alone."""
    generator = torch.Generator().manual_seed(rank)
    batches = []
    for place in range(6):
        size = 1 + (3 * place + 2 * rank) % 5
        x, y = torch.randn(size, 3, generator=generator), torch.randn(size, 1, generator=generator)
        if place != without:
            batches.append((x, y + (math.nan if place == bad and rank == 1 else 0.0)))
    return batches


def fit(counted, rank_data, window, callbacks):
    saves = any(isinstance(one, ModelCheckpoint) for one in callbacks)
    quiet = {"logger": False, "enable_checkpointing": saves, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = Trainer(
        accelerator="cpu", strategy="ddp", devices=2, max_epochs=1, accumulate_grad_batches=window, callbacks=callbacks, **quiet
    )
    model = Net(counted)
    model.train_dataloader = lambda: rank_data(trainer.global_rank)
    trainer.fit(model)
    return trainer, torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


if __name__ == "__main__":
    found = []
    for counted in (False, True):
        for bad in (2, 3):  # the first of its window, and the one that closes it
            guard = Guard(nonfinite="skip", gradients=True)
            trainer, mine = fit(counted, lambda rank: data(rank, bad=bad), 2, [guard])
            lone = lambda step: 1 if step == 1 else 2
            other, expected = fit(counted, lambda rank: data(rank, without=bad), lone, [])
            apart = (mine - expected).abs().max().item()
            where = [(one["action"], one["batch_idx"]) for one in guard.actions]
            found.append([apart, trainer.global_step == other.global_step, where == [("skip", bad)], mine.tolist()])
    # Back to where batch 3 is the next one, and over batches 3 and 4.
    guard = Guard(nonfinite="rewind", margin=1)
    saves = ModelCheckpoint(dirpath="saved", filename="{step}", every_n_train_steps=1, save_top_k=-1)
    trainer, mine = fit(False, lambda rank: data(rank, bad=4), 1, [guard, saves])
    other, expected = fit(False, lambda rank: [one for place, one in enumerate(data(rank)) if place not in (3, 4)], 1, [])
    where = [(one["action"], one["batch_idx"], one["back_to"]) for one in guard.actions]
    apart = (mine - expected).abs().max().item()
    found.append([apart, trainer.global_step == other.global_step, where == [("rewind", 4, [0, 3])], mine.tolist()])
    Path(sys.argv[1], f"rank_{trainer.global_rank}.json").write_text(json.dumps(found))
'''


def test_what_is_bad_on_one_is_passed_over_on_both(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    done = subprocess.run(
        [sys.executable, "program.py", str(tmp_path)], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    first, second = (json.loads((tmp_path / f"rank_{rank}.json").read_text()) for rank in (0, 1))
    assert first == second
    for apart, same_steps, acted, _ in first:
        assert same_steps
        assert acted
        assert apart < 1e-6
