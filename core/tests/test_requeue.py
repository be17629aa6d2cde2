"""A cluster environment that names a signal: what it is asked, and when."""

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lx import Callback, Trainer
from lx.kernel import PluginManager
from lx.kernel.errors import SIGTERMException
from lx.testing import FakeEnvironment, FakeStrategy, TinyDataModule, TinyModule

pytestmark = pytest.mark.filterwarnings("ignore:an epoch has 4 training batches", "ignore:.*is of rank 0 alone")

CODE = 128 + signal.SIGUSR1


class Cluster(FakeEnvironment):
    """Names a signal."""

    requeues_on = signal.SIGUSR1


class Queues(Cluster):
    def requeue(self) -> str:
        return "It will be back."


class Interrupts(Callback):
    """Sends the signal the first time that a hook is called."""

    def __init__(self, hook: str) -> None:
        self.sent = False
        setattr(self, hook, self._send)

    def _send(self, *args: Any) -> None:
        if not self.sent:
            self.sent = True
            signal.raise_signal(signal.SIGUSR1)


class ThirdStep:
    """Processes that agree to end after the third step."""

    def __init__(self) -> None:
        self.asked: list[int | None] = []

    def announce(self, signum: int) -> None:
        self.cause = signum

    def reached(self, step: int | None, signum: int) -> int:
        self.asked.append(step)
        self.announce(signum)
        return signum if step == 3 else 0

    def close(self) -> None:
        """That of the one who listens."""


def new_trainer(manager: PluginManager, folder: Path, environment: Any, hook: str, processes: int = 1) -> Trainer:
    return Trainer(
        manager=manager,
        strategy=FakeStrategy(world_size=processes),
        plugins=environment,
        callbacks=Interrupts(hook),
        max_epochs=1,
        default_root_dir=folder,
        logger=False,
        enable_checkpointing=False,
        num_sanity_val_steps=2,
    )


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    before = signal.getsignal(signal.SIGUSR1)
    yield
    assert signal.getsignal(signal.SIGUSR1) is before


def test_one_process_ends_at_the_next_boundary(
    plugin_manager: PluginManager, tmp_path: Path, tiny_data: TinyDataModule, capsys: pytest.CaptureFixture[str]
) -> None:
    trainer = new_trainer(plugin_manager, tmp_path, Queues(), "on_train_batch_start")
    with pytest.raises(SIGTERMException) as ended:
        trainer.fit(TinyModule(), tiny_data)
    assert (ended.value.code, trainer.global_step, trainer.received_sigterm) == (CODE, 1, True)
    files: Any = trainer.strategy.checkpoint_io
    assert files.called()[:3] == ["list_folder", "save_checkpoint", "teardown"], "which waits for what is still being written"
    assert files.calls[1].args[1] == tmp_path / "hpc_ckpt_1.ckpt"
    assert "after 1 steps. It will be back. It goes on from" in capsys.readouterr().err


@pytest.mark.parametrize("hook", ["on_validation_batch_start", "on_train_batch_start"])
def test_several_end_where_they_agree_and_not_in_a_validation(
    plugin_manager: PluginManager, tmp_path: Path, tiny_data: TinyDataModule, hook: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    agreement = ThirdStep()
    monkeypatch.setattr("lx.running.termination.agree", lambda strategy, hear: (agreement, agreement))
    trainer = new_trainer(plugin_manager, tmp_path, Queues(), hook, processes=2)  # the first validation is the sanity check
    with pytest.raises(SIGTERMException):
        trainer.fit(TinyModule(), tiny_data)
    assert [step for step in agreement.asked if step is not None] == [1, 2, 3]
    assert (None in agreement.asked) == (hook == "on_validation_batch_start")
    assert trainer.global_step == 3


@pytest.mark.parametrize("processes", [1, 2])
def test_a_signal_after_the_last_batch_lets_the_run_end_and_ends_the_program(
    plugin_manager: PluginManager, tmp_path: Path, tiny_data: TinyDataModule, processes: int, capsys: pytest.CaptureFixture[str]
) -> None:
    trainer = new_trainer(plugin_manager, tmp_path, Queues(), "on_train_end", processes)
    with pytest.raises(SIGTERMException) as ended:
        trainer.fit(TinyModule(), tiny_data)
    assert (ended.value.code, trainer.state.status, trainer.global_step) == (CODE, "finished", 4)
    assert "lx: SIGUSR1 came when the run was about to end anyway. It will be back." in capsys.readouterr().err


def test_a_cluster_that_cannot_queue_a_job_is_told_of(
    plugin_manager: PluginManager, tmp_path: Path, tiny_data: TinyDataModule, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SIGTERMException):
        new_trainer(plugin_manager, tmp_path, Cluster(), "on_train_batch_start").fit(TinyModule(), tiny_data)
    assert "NOT queued again: Cluster names a signal in `requeues_on`, and cannot queue a job again." in capsys.readouterr().err


def test_further_signals_are_noted_while_the_run_ends(plugin_manager: PluginManager, tmp_path: Path, tiny_data: TinyDataModule) -> None:
    class Again(Queues):
        def requeue(self) -> str:
            signal.raise_signal(signal.SIGUSR1)
            signal.raise_signal(signal.SIGTERM)  # as the cluster does when it takes the job
            return "It will be back."

    with pytest.raises(SIGTERMException) as ended:
        new_trainer(plugin_manager, tmp_path, Again(), "on_train_batch_start").fit(TinyModule(), tiny_data)
    assert ended.value.code == CODE
