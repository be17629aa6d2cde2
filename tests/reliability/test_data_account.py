"""Runs that are killed at random points see every sample exactly once in each epoch, as their ledgers tell.

One that goes on wrongly does not, and they tell that, too.
"""

import contextlib
import os
import random
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Sampler

from lx import Callback, LightningModule, Trainer
from lx.callbacks import ModelCheckpoint
from lx.cli import main
from lx_plugin_data_ledger import DataLedger, read, verify
from soak import drawn_from, sample

SAMPLES, EPOCHS = 26, 3
ROWS: Any = torch.randn(SAMPLES, 4, generator=torch.Generator().manual_seed(1))
EVENTS = ("on_train_batch_start", "on_before_optimizer_step", "on_train_batch_end", "on_train_epoch_end", "on_validation_batch_end")
RUNS = sample(60, 5)
KILLED = sample(20, 3)


class Net(LightningModule):
    """A layer."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(4, 1)

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        loss: Tensor = self.layer(batch).square().mean()
        return loss

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        self.layer(batch)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.01)


class Killed(Exception):
    """Ends a run within its process."""


class Kills(Callback):
    """Ends the run, or the process, at an event that comes for the n-th time."""

    def __init__(self, event: str, calls: int, process: bool) -> None:
        self.left, self.process = calls, process
        setattr(self, event, self._come)

    def _come(self, *_: Any) -> None:
        self.left -= 1
        if self.left == 0:
            if self.process:
                os.kill(os.getpid(), signal.SIGKILL)
            raise Killed


class Wrongly(Sampler[int]):
    """Draws an order of its own in each process, whatever the generators are."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def __len__(self) -> int:
        return SAMPLES

    def __iter__(self) -> Iterator[int]:
        order = list(range(SAMPLES))
        random.Random(self.seed).shuffle(order)
        return iter(order)


def fit(folder: Path, drawn: random.Random, kills: Kills | None, seed: int, **settings: Any) -> None:
    """Trains as a program would that is started again after each kill."""
    torch.manual_seed(seed)
    quiet: dict[str, Any] = dict.fromkeys(("logger", "enable_progress_bar", "enable_model_summary"), False)
    loader: DataLoader[Any] = DataLoader(
        ROWS, 4, **{"shuffle": True, "num_workers": settings.pop("workers", 0), **settings.pop("loader", {})}
    )
    keeps = ModelCheckpoint(folder / "checkpoints", every_n_train_steps=drawn.choice((1, 2, 3)), save_last=True)
    callbacks = [DataLedger(flush_every_n_steps=drawn.choice((1, 3, 50))), keeps, *([kills] if kills else [])]
    trainer = Trainer(accelerator="cpu", max_epochs=EPOCHS, default_root_dir=folder, callbacks=callbacks, **quiet, **settings)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer.fit(Net(), loader, DataLoader(ROWS, 13), ckpt_path="auto")


def fit_in_child(folder: Path, drawn: random.Random, kills: Kills | None, seed: int, settings: dict[str, Any]) -> int:
    """The same in a fork of this process; returns how it ended."""
    drawn = random.Random(drawn.random())  # what the child draws is forgotten with it
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    code = 1
    try:
        fit(folder, drawn, kills, seed, **settings)
        code = 0
    finally:
        os._exit(code)


def drawn_settings(drawn: random.Random) -> dict[str, Any]:
    """What is chosen of a run, the same in each of its processes."""
    return {"accumulate_grad_batches": drawn.choice((1, 2, 3)), "val_check_interval": drawn.choice((1.0, 3))}


def check(folder: Path, counted: Callable[[str, int], None]) -> None:
    """Every sample exactly once in each epoch."""
    report = verify(folder)
    assert report.ok, f"LX_SOAK_SEED={drawn_from()}\n{report}"
    assert [account.samples for account in report.accounts] == [account.once for account in report.accounts] == [SAMPLES] * EPOCHS
    steps = {entry.step for entry in read(folder).entries()}
    assert steps == set(range(1, len(steps) + 1)), "each step has its samples, and each sample its step"
    counted("restarts, over which every sample was seen exactly once in each epoch", report.restarts)


@pytest.mark.soak
@pytest.mark.parametrize("number", range(RUNS))
def test_every_sample_is_seen_once_in_each_epoch(number: int, tmp_path: Path, counted: Callable[[str, int], None]) -> None:
    drawn = random.Random(f"account {drawn_from()} {number}")
    settings = drawn_settings(drawn)
    for start in range(drawn.choice((2, 3))):
        with contextlib.suppress(Killed):
            fit(tmp_path, drawn, Kills(drawn.choice(EVENTS), drawn.randint(1, 9), False), start, **settings)
    fit(tmp_path, drawn, None, 99, **settings)
    check(tmp_path, counted)


@pytest.mark.soak
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
@pytest.mark.parametrize("number", range(KILLED))
def test_processes_that_are_killed_have_an_account_too(number: int, tmp_path: Path, counted: Callable[[str, int], None]) -> None:
    drawn = random.Random(f"killed {drawn_from()} {number}")
    settings = {**drawn_settings(drawn), "workers": 0 if number % 4 else 2}
    for start in range(2):
        kills = Kills(drawn.choice(EVENTS[:3]), drawn.randint(3, 9), True)
        assert fit_in_child(tmp_path, drawn, kills, start, settings) in (-signal.SIGKILL, 0)  # 0: it was over before
    assert fit_in_child(tmp_path, drawn, None, 99, settings) == 0
    check(tmp_path, counted)


def test_a_run_that_goes_on_in_another_order_is_found_with_its_samples(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    drawn = random.Random(0)
    with pytest.raises(Killed):
        fit(tmp_path, drawn, Kills("on_train_batch_start", 5, False), 0, loader={"shuffle": False, "sampler": Wrongly(1)})
    done = list(read(tmp_path).entries())
    fit(tmp_path, drawn, None, 0, loader={"shuffle": False, "sampler": Wrongly(2)})
    start = read(tmp_path).runs[1].start[1]
    assert 0 < start <= len(done)
    seen = [*list(Wrongly(1))[: start * 4], *list(Wrongly(2))[start * 4 :]]
    missing, twice = set(range(SAMPLES)) - set(seen), {index for index in seen if seen.count(index) == 2}
    assert twice
    account = verify(tmp_path).accounts[0]
    assert (set(account.missing), account.repeated) == (missing, dict.fromkeys(twice, 2))
    assert [each.ok for each in verify(tmp_path).accounts] == [False, True, True]
    assert main(["data-ledger", str(tmp_path)]) == 1
    assert f"{len(missing)} never (" in capsys.readouterr().out
