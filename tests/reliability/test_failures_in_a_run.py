"""What goes wrong while a run goes on: it ends with that very error, everybody is told, and the same Trainer trains again."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from lx import Callback, Trainer
from lx.testing import TinyDataModule, TinyModule

pytestmark = pytest.mark.filterwarnings("ignore:.*there is no validation loader", "ignore:.*which is not empty")

HOOKS = ("setup", "on_fit_start", "on_train_batch_start", "on_train_batch_end", "on_save_checkpoint", "on_train_epoch_end", "on_fit_end")


class Told(Callback):
    """Notes who is told of what."""

    def __init__(self) -> None:
        self.called: list[str] = []

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        self.called.append(type(exception).__name__)

    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:
        self.called.append("teardown")


class Rows(Dataset[torch.Tensor]):
    """Eight rows, with something that happens in the worker that loads the fifth."""

    def __init__(self, happens: Callable[[], None]) -> None:
        self.happens = happens

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> torch.Tensor:
        if index == 4:
            self.happens()
        return torch.full((8,), float(index))


def kill_itself() -> None:
    """As the kernel does to a process when memory runs out."""
    os.kill(os.getpid(), signal.SIGKILL)


def divide() -> None:
    """A bug in the user's data set."""
    raise ZeroDivisionError("in the data set")


QUIET: dict[str, Any] = dict.fromkeys(("logger", "enable_progress_bar", "enable_model_summary"), False)


def new_trainer(folder: Path, *callbacks: Any) -> Trainer:
    """One epoch, and a checkpoint if it is cut off."""
    keeps = f"on_exception_checkpoint(dirpath={str(folder)!r})"
    return Trainer(accelerator="cpu", max_epochs=1, default_root_dir=folder, limit_val_batches=0, callbacks=[keeps, *callbacks], **QUIET)


def assert_goes_on(trainer: Trainer, told: Told, error: str, folder: Path, steps: int) -> None:
    """Everybody was told, what was trained is kept, and the Trainer goes on from there with data that is sound."""
    assert told.called == [error, "teardown"]
    assert (trainer.global_step, trainer.interrupted) == (steps, True)
    assert torch.load(folder / "on_exception.ckpt", weights_only=True)["global_step"] == steps
    trainer.fit(TinyModule(), DataLoader(Rows(lambda: None), batch_size=2), ckpt_path=folder / "on_exception.ckpt")
    assert (trainer.global_step, trainer.interrupted) == (4, False)


@pytest.mark.parametrize(
    ("happens", "error", "said"),
    [
        (
            kill_itself,
            "RuntimeError",
            r"worker \(pid.*\) (exited unexpectedly|is killed by signal: Killed)",
        ),
        (divide, "ZeroDivisionError", "(?s)DataLoader worker process 0.*in the data set"),
    ],
)
def test_a_worker_that_dies_ends_the_run(happens: Callable[[], None], error: str, said: str, tmp_path: Path) -> None:
    told = Told()
    trainer = new_trainer(tmp_path, told)
    loader = DataLoader(Rows(happens), batch_size=2, num_workers=1, multiprocessing_context="fork", prefetch_factor=1)
    with pytest.raises((RuntimeError, ZeroDivisionError), match=said):
        trainer.fit(TinyModule(), loader)
    assert_goes_on(trainer, told, error, tmp_path, steps=trainer.global_step)
    assert trainer.global_step == 4


@pytest.mark.parametrize("hook", ["training_step", "on_before_zero_grad", "optimizer_step"])
def test_memory_that_runs_out_ends_the_run(hook: str, tmp_path: Path) -> None:
    class Greedy(TinyModule):
        """Asks for more than there is in the third step."""

    def run_out(self: Any, *args: Any, **kwargs: Any) -> Any:
        if self.trainer.global_step == 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return getattr(TinyModule, hook)(self, *args, **kwargs)

    setattr(Greedy, hook, run_out)
    told = Told()
    trainer = new_trainer(tmp_path, told)
    with pytest.raises(torch.OutOfMemoryError, match=r"Tried to allocate 2\.00 GiB"):
        trainer.fit(Greedy(), DataLoader(Rows(lambda: None), batch_size=2))
    assert_goes_on(trainer, told, "OutOfMemoryError", tmp_path, steps=2)


@pytest.mark.parametrize("event", HOOKS)
def test_an_exception_in_a_callback_ends_the_run_with_it(event: str, tmp_path: Path) -> None:
    def fail(*args: Any) -> None:
        raise ArithmeticError("of the callback")

    failing, told = Callback(), Told()
    setattr(failing, event, fail)
    trainer = Trainer(
        accelerator="cpu", max_epochs=1, default_root_dir=tmp_path, num_sanity_val_steps=0, callbacks=[failing, told], **QUIET
    )
    with pytest.raises(ArithmeticError, match="of the callback") as caught:
        trainer.fit(TinyModule(), TinyDataModule())
    assert caught.traceback[-1].name == "fail"
    assert told.called[0] == "ArithmeticError"
    trainer.callbacks = [callback for callback in trainer.callbacks if callback is not failing]
    trainer.fit(TinyModule(), TinyDataModule())
    assert trainer.state.status == "finished"
