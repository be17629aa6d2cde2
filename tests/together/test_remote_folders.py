"""Runs whose root folder is a URL: what works there, and what is refused before anything is done."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lx import Callback, Trainer
from lx.callbacks import ModelCheckpoint
from lx.kernel.errors import MisconfigurationException
from lx.loggers import CSVLogger
from lx.running.ending import newest_checkpoint
from lx.running.requeue import Requeue
from lx.state import TrainerFn
from lx.testing import TinyDataModule, TinyModule

fsspec = pytest.importorskip("fsspec", reason="needs fsspec")
MakeTrainer = Callable[..., Trainer]
ROOT = "memory://bucket/root"


@pytest.fixture
def remote_trainer(bare_trainer: MakeTrainer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MakeTrainer:
    """Makes a Trainer whose root folder is an empty URL; its working directory is empty, too."""
    files = fsspec.filesystem("memory")
    files.store.clear()
    files.pseudo_dirs[:] = [""]
    monkeypatch.chdir(tmp_path)
    return lambda **arguments: bare_trainer(**{"default_root_dir": ROOT, "max_epochs": 1, **arguments})


def remote_files() -> list[str]:
    return sorted(name.removeprefix("/bucket/root/") for name in fsspec.filesystem("memory").store)


def test_the_root_folder_holds_the_checkpoints(remote_trainer: MakeTrainer, tmp_path: Path) -> None:
    trainer = remote_trainer(enable_checkpointing=True)
    trainer.fit(TinyModule(), datamodule=TinyDataModule())
    assert remote_files() == ["checkpoints/epoch=0-step=4.ckpt"]
    assert trainer.default_root_dir == trainer.log_dir == ROOT
    loaded = TinyModule.load_from_checkpoint(trainer.checkpoint_callback.best_model_path)
    assert loaded.layer.weight.equal(trainer.lightning_module.layer.weight)
    assert not list(tmp_path.iterdir())


def test_a_logger_with_a_local_folder_may_stand_beside_it(remote_trainer: MakeTrainer, tmp_path: Path) -> None:
    checkpoint = ModelCheckpoint(f"{ROOT}/mine", filename="a")
    trainer = remote_trainer(enable_checkpointing=True, logger=CSVLogger("logs"), log_every_n_steps=1, callbacks=checkpoint)
    trainer.fit(TinyModule(), datamodule=TinyDataModule())
    assert remote_files() == ["mine/a.ckpt"]
    assert [path.name for path in tmp_path.iterdir()] == ["logs"]


def test_what_writes_local_files_is_refused(remote_trainer: MakeTrainer, tmp_path: Path) -> None:
    with pytest.raises(MisconfigurationException, match=r"save_dir='memory://bucket/root' is no folder.*default_root_dir\).*logger=False"):
        remote_trainer(logger=True)
    trainer = remote_trainer(profiler="simple(filename='times')")
    with pytest.raises(
        MisconfigurationException, match=r"filename='times': the report of .* 'memory://bucket/root' is a URL; give dirpath"
    ):
        trainer.fit(TinyModule(), datamodule=TinyDataModule())
    assert not list(tmp_path.iterdir())


def test_a_job_that_is_queued_again_goes_on(remote_trainer: MakeTrainer) -> None:
    trainer = remote_trainer()
    trainer.fit(TinyModule(), datamodule=TinyDataModule())
    trainer.save_checkpoint(f"{ROOT}/hpc_ckpt_9.ckpt")
    Requeue(trainer, TrainerFn.FITTING).save()
    assert remote_files() == ["hpc_ckpt_10.ckpt", "hpc_ckpt_9.ckpt"]
    again = remote_trainer(max_epochs=2)
    again.fit(TinyModule(), datamodule=TinyDataModule(), ckpt_path="hpc")
    assert (again.ckpt_path, again.global_step) == (f"{ROOT}/hpc_ckpt_10.ckpt", 8)


def test_a_run_that_failed_names_the_newest_one(remote_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch) -> None:
    class Fails(Callback):
        def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
            if trainer.current_epoch == 2:
                raise RuntimeError("it fails")

    best = ModelCheckpoint(filename="{epoch}", monitor="epoch", save_top_k=1)
    trainer = remote_trainer(
        enable_checkpointing=True, max_epochs=3, callbacks=[ModelCheckpoint(filename="new", every_n_epochs=2), best, Fails()]
    )
    with pytest.raises(RuntimeError, match="it fails"):
        trainer.fit(TinyModule(), datamodule=TinyDataModule())
    assert newest_checkpoint(trainer.run) == f"{ROOT}/checkpoints/new.ckpt"
    monkeypatch.setattr(type(fsspec.filesystem("memory")), "modified", refuse)
    monkeypatch.setattr(type(fsspec.filesystem("memory")), "ls", refuse)
    assert newest_checkpoint(trainer.run) == f"{ROOT}/checkpoints/epoch=0.ckpt", "one that was kept, while the storage fails"


def refuse(*args: Any, **kwargs: Any) -> None:
    raise OSError("the storage is gone")
