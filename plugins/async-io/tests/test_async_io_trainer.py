"""Within a run: where an error surfaces, what is there when the run is over, and what a kill leaves."""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
import torch

from lx import Callback, Fabric, Trainer
from lx.kernel.errors import SIGTERMException
from lx.testing import FakeEnvironment, TinyDataModule, TinyModule
from lx_plugin_async_io import reservation
from lx_plugin_async_io.checkpoint_io import AsyncCheckpointIO
from lx_plugin_async_io.staging import Staging
from lx_plugin_torch_io.checkpoint_io import TorchCheckpointIO

pytestmark = pytest.mark.filterwarnings("ignore:the checkpoint holds the states of callbacks", "ignore:.*which is not empty")


class FullError(OSError):
    """There is no room."""


class Failing(TorchCheckpointIO):
    """Fails from the second checkpoint on, or from another."""

    def __init__(self, good: int = 1) -> None:
        super().__init__()
        self.good = good

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        if self.good == 0:
            raise FullError(f"no room for step {checkpoint['global_step']}")
        self.good -= 1
        super().save_checkpoint(checkpoint, path, storage_options)


class Reporting(AsyncCheckpointIO):
    """Lets a test wait until an error has been reported."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.reported = threading.Event()

    def report_to(self, report: Any) -> None:
        def report_and_say(error: BaseException) -> Any:
            accepted = report(error)
            self.reported.set()
            return accepted

        super().report_to(None if report is None else report_and_say)


class Told(Callback):
    """Writes down what it is told, and waits for the error at the start of a batch."""

    def __init__(self, waits_in_batch: int = -1) -> None:
        self.events: list[str] = []
        self.waits_in_batch = waits_in_batch

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if batch_idx == self.waits_in_batch:
            assert trainer.strategy.checkpoint_io.reported.wait(30)

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        self.events.append(f"exception {exception}")

    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:
        self.events.append("teardown")


def new_trainer(folder: Path, **arguments: Any) -> Trainer:
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    return Trainer(accelerator="cpu", default_root_dir=folder, **{"max_epochs": 1, **quiet, **arguments})


def every_step(**arguments: Any) -> Any:
    return {"model_checkpoint": {"filename": "{step}", "every_n_train_steps": 1, **arguments}}


def step_in(path: Path) -> int:
    return int(TorchCheckpointIO().load_checkpoint(path)["global_step"])


@pytest.mark.parametrize("plugins", ["async_io", "async(checkpoint_io='torch_io')", AsyncCheckpointIO()])
def test_it_is_chosen_and_all_is_there_when_fit_returns(tmp_path: Path, plugins: Any) -> None:
    trainer = new_trainer(tmp_path, plugins=plugins, callbacks=[every_step(save_last=True)])
    trainer.fit(TinyModule(), TinyDataModule())
    folder = tmp_path / "checkpoints"
    assert sorted(os.listdir(folder)) == ["last.ckpt", "step=4.ckpt"]
    assert step_in(folder / "last.ckpt") == 4
    more = new_trainer(tmp_path, plugins=plugins, max_epochs=2, enable_checkpointing=False)
    more.fit(TinyModule(), TinyDataModule(), ckpt_path=folder / "last.ckpt")
    assert more.global_step == 8


def test_training_does_not_reach_what_is_written(tmp_path: Path) -> None:
    class Keeping(TinyModule):
        def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
            before = {name: value.clone() for name, value in self.state_dict().items()}
            self.trainer.save_checkpoint(tmp_path / f"{batch_idx}.ckpt")
            kept.append(before)

    kept: list[dict[str, torch.Tensor]] = []
    new_trainer(tmp_path, plugins="async_io", enable_checkpointing=False).fit(Keeping(), TinyDataModule())
    for batch_idx, before in enumerate(kept):
        content = TorchCheckpointIO().load_checkpoint(tmp_path / f"{batch_idx}.ckpt")
        assert all(torch.equal(content["state_dict"][name], value) for name, value in before.items())
    assert not torch.equal(kept[0]["layer.weight"], kept[3]["layer.weight"])


def test_an_error_ends_the_run_at_the_next_step(tmp_path: Path) -> None:
    told = Told(waits_in_batch=2)
    trainer = new_trainer(tmp_path, plugins=Reporting(Failing()), callbacks=[told, every_step()])
    with pytest.raises(FullError, match="no room for step 2") as caught:
        trainer.fit(TinyModule(), TinyDataModule())
    assert trainer.global_step == 3
    path = tmp_path / "checkpoints" / "step=2.ckpt"
    assert caught.value.__notes__[0] == f"The checkpoint {str(path)!r} was not written; what was there before is untouched."
    assert told.events == ["exception no room for step 2", "teardown"]
    assert os.listdir(path.parent) == ["step=1.ckpt"], "the old one went before the new one was there"
    assert step_in(path.with_name("step=1.ckpt")) == 1


def test_an_error_after_the_last_step_ends_the_run(tmp_path: Path) -> None:
    told = Told()
    trainer = new_trainer(tmp_path, plugins=AsyncCheckpointIO(Failing()), callbacks=[told, every_step(every_n_train_steps=2)])
    with pytest.raises(FullError, match="no room for step 4"):
        trainer.fit(TinyModule(), TinyDataModule())
    assert trainer.global_step == 4
    assert trainer.interrupted
    assert told.events == ["exception no room for step 4", "teardown"]
    trainer.fit_loop.max_epochs = 2
    trainer.strategy.checkpoint_io.checkpoint_io.good = 9
    trainer.fit(TinyModule(), TinyDataModule())  # is told nothing of it


def test_memory_is_ready_before_the_first_save(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Adam(TinyModule):
        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.Adam(self.parameters())

        def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
            assert reserved.wait(30)

    def reserve(staging: Staging, size: int) -> None:
        sizes.append(size)
        reserved.set()

    reserved, sizes = threading.Event(), list[int]()
    monkeypatch.setattr(Staging, "reserve", reserve)
    monkeypatch.setattr(reservation, "WORTH_IT", 1)
    module = Adam(size=1000)
    trainer = new_trainer(tmp_path, plugins="async_io")
    trainer.fit(module, TinyDataModule(size=1000))
    weights = 1001 * 4
    assert 3 * weights <= sizes[0] <= 3.1 * weights
    assert len(sizes) == 1
    new_trainer(tmp_path, plugins="async_io", fast_dev_run=True).fit(module, TinyDataModule(size=1000))
    trainer.validate(module, TinyDataModule(size=1000), verbose=False)
    assert len(sizes) == 1


def test_what_is_written_while_an_error_ends_the_run_is_written_to_its_end(tmp_path: Path) -> None:
    class Failure(TinyModule):
        def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
            if batch_idx == 2:
                raise ValueError("on purpose")

    trainer = new_trainer(tmp_path, plugins="async_io", callbacks=[every_step(save_on_exception=True, every_n_train_steps=9)])
    with pytest.raises(ValueError, match="on purpose"):
        trainer.fit(Failure(), TinyDataModule())
    assert step_in(tmp_path / "checkpoints" / "step=2.ckpt") == 2


def test_a_job_is_not_queued_again_for_what_could_not_be_written(tmp_path: Path) -> None:
    class Cluster(FakeEnvironment):
        requeues_on = signal.SIGUSR1

        def requeue(self) -> str:
            queued.append(self)
            return "It will be back."

    class Signalled(TinyModule):
        def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
            if batch_idx == 2:
                signal.raise_signal(signal.SIGUSR1)

    queued: list[Cluster] = []
    for good in (0, 1):
        assert queued == []
        trainer = new_trainer(tmp_path, plugins=[AsyncCheckpointIO(Failing(good)), Cluster()], enable_checkpointing=False)
        with pytest.raises(SIGTERMException):
            trainer.fit(Signalled(), TinyDataModule())
    assert len(queued) == 1


def test_the_link_to_the_last_one_waits_for_it(tmp_path: Path) -> None:
    class Looking(TorchCheckpointIO):
        def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
            if last.is_symlink():
                named.append(step_in(last))
            super().save_checkpoint(checkpoint, path, storage_options)

    last, named = tmp_path / "checkpoints" / "last.ckpt", list[int]()
    trainer = new_trainer(tmp_path, plugins=AsyncCheckpointIO(Looking()), callbacks=[every_step(save_last="link")])
    trainer.fit(TinyModule(), TinyDataModule())
    assert named == [1, 2, 3], "while one is written, the link names the one before it, which is there"
    assert os.readlink(last) == "step=4.ckpt"
    assert sorted(os.listdir(last.parent)) == ["last.ckpt", "step=4.ckpt"]


def test_fabric(tmp_path: Path) -> None:
    fabric = Fabric(accelerator="cpu", plugins="async_io")
    model = fabric.setup(torch.nn.Linear(2, 1))
    fabric.save(tmp_path / "a.ckpt", {"model": model, "epoch": 3})
    other = fabric.setup(torch.nn.Linear(2, 1))
    assert fabric.load(tmp_path / "a.ckpt", {"model": other}) == {"epoch": 3}
    assert torch.equal(model.module.weight, other.module.weight)


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="needs fork")
def test_a_kill_while_one_is_written_leaves_the_one_before(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=train_until_the_second_is_written, args=(tmp_path, sender))
    child.start()
    try:
        assert receiver.poll(60)
        assert receiver.recv() == "writing"
    finally:
        child.kill()
        child.join()
    folder = tmp_path / "checkpoints"
    assert sorted(path.name for path in folder.glob("[!.]*.ckpt")) == ["last.ckpt", "step=1.ckpt"]
    assert step_in(folder / "step=1.ckpt") == step_in(folder / "last.ckpt") == 1
    trainer = new_trainer(tmp_path, enable_checkpointing=False)
    trainer.fit(TinyModule(), TinyDataModule(), ckpt_path=folder / "last.ckpt")
    assert trainer.global_step == 4


def train_until_the_second_is_written(folder: Path, sender: Any) -> None:
    """Stands still when the second checkpoint has been written, and is not yet in its place."""

    class Held(TorchCheckpointIO):
        def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
            if checkpoint["global_step"] == 2:
                os.replace = hold
            super().save_checkpoint(checkpoint, path, storage_options)

    def hold(*args: Any, **kwargs: Any) -> None:
        sender.send("writing")
        threading.Event().wait()

    trainer = new_trainer(folder, plugins=AsyncCheckpointIO(Held()), callbacks=[every_step(save_last="link")])
    trainer.fit(TinyModule(), TinyDataModule())


def test_a_program_ends_when_all_is_written(tmp_path: Path) -> None:
    code = """
        import sys, threading, torch
        from lx_plugin_async_io.checkpoint_io import AsyncCheckpointIO
        from lx_plugin_torch_io.checkpoint_io import TorchCheckpointIO

        class Late(TorchCheckpointIO):
            def save_checkpoint(self, checkpoint, path, storage_options=None):
                threading.main_thread().join()
                if checkpoint["epoch"] == 2:
                    raise OSError("no room")
                super().save_checkpoint(checkpoint, path, storage_options)

        io = AsyncCheckpointIO(Late())
        for epoch in (1, 2):
            io.save_checkpoint({"epoch": epoch}, f"{sys.argv[1]}/{epoch}.ckpt")
    """
    done = subprocess.run([sys.executable, "-c", dedent(code), tmp_path], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert TorchCheckpointIO().load_checkpoint(tmp_path / "1.ckpt") == {"epoch": 1}
    assert f"OSError: no room\nThe checkpoint '{tmp_path}/2.ckpt' was not written" in done.stderr
