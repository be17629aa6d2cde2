"""A job whose time is over: it is saved, ended, queued again, and goes on as if nothing had been."""

import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import torch

from lx import Callback
from lx.interfaces import Logger
from lx.kernel.errors import SIGTERMException
from lx.testing import TinyDataModule, TinyModule
from lx_plugin_slurm.environment import SLURMEnvironment

pytestmark = pytest.mark.filterwarnings("ignore:an epoch has", "ignore:the checkpoint holds the states of callbacks")


def weights(module: TinyModule) -> list[float]:
    return torch.cat([parameter.flatten() for parameter in module.parameters()]).tolist()


class Momentum(TinyModule):
    """Has a state that must not be lost."""

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=self.learning_rate, momentum=0.9)


@pytest.mark.parametrize(
    ("hook", "steps", "arguments"),
    [
        ("on_train_batch_start", 5, {}),
        ("on_train_batch_end", 8, {}),
        ("on_validation_batch_start", 4, {}),
        ("on_validation_end", 4, {}),
        ("on_validation_batch_start", 0, {}),  # the sanity check
        ("on_fit_start", 0, {}),
        ("on_train_batch_start", 1, {"accumulate_grad_batches": 3}),
        ("on_train_batch_end", 12, {}),
        ("on_train_end", 12, {}),
    ],
)
def test_a_job_that_is_queued_again_ends_as_one_that_was_never_interrupted(
    hook: str, steps: int, arguments: dict[str, Any], cluster: Any, sends: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = Momentum()
    cluster.trainer(**arguments).fit(whole, TinyDataModule())
    assert (cluster.left, cluster.asked) == ([], [])

    interrupted = cluster.trainer(sends(hook, steps), **arguments)
    with pytest.raises(SIGTERMException) as ended:
        interrupted.fit(Momentum(), TinyDataModule())
    assert ended.value.code == 128 + signal.SIGUSR1
    assert (cluster.left, cluster.asked) == (["hpc_ckpt_1.ckpt"], ["requeue 77"])
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("lx: SIGUSR1 ")
    assert last.endswith(f"SLURM has queued the job 77 again. It goes on from {str(cluster.folder / 'hpc_ckpt_1.ckpt')!r}.")

    again, module = cluster.trainer(**arguments), Momentum()
    again.fit(module, TinyDataModule())
    assert again.ckpt_path == cluster.folder / "hpc_ckpt_1.ckpt"
    assert weights(module) == weights(whole)
    assert cluster.asked == ["requeue 77"]


def test_a_job_may_be_queued_again_and_again(cluster: Any, sends: Any) -> None:
    for steps in (2, 5, 9):
        with pytest.raises(SIGTERMException):
            cluster.trainer(sends("on_train_batch_end", steps)).fit(TinyModule(), TinyDataModule())
    assert cluster.left == ["hpc_ckpt_1.ckpt", "hpc_ckpt_2.ckpt", "hpc_ckpt_3.ckpt"]
    assert torch.load(cluster.folder / "hpc_ckpt_3.ckpt", weights_only=True)["global_step"] == 9
    assert len(cluster.asked) == 3


def test_a_task_of_an_array_is_queued_by_itself(cluster: Any, sends: Any) -> None:
    cluster.environ.setenv("SLURM_ARRAY_JOB_ID", "70")
    cluster.environ.setenv("SLURM_ARRAY_TASK_ID", "3")
    with pytest.raises(SIGTERMException):
        cluster.trainer(sends("on_train_batch_end", 2)).fit(TinyModule(), TinyDataModule())
    assert cluster.asked == ["requeue 70_3"]


def test_the_file_is_first_and_the_queue_is_last(cluster: Any, sends: Any) -> None:
    seen: list[tuple[str, list[str], list[str]]] = []

    class Notes(Callback):
        def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
            seen.append((f"on_exception {type(exception).__name__}", cluster.left, cluster.asked))

        def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:
            seen.append(("teardown", cluster.left, cluster.asked))

    class Log(Logger):
        name, version = "log", 0

        def log_metrics(self, metrics: Any, step: int | None = None) -> None:
            pass

        def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
            pass

        def finalize(self, status: str) -> None:
            seen.append((status, cluster.left, cluster.asked))

    with pytest.raises(SIGTERMException):
        cluster.trainer(sends("on_train_batch_end", 2), Notes(), logger=Log()).fit(TinyModule(), TinyDataModule())
    there = ["hpc_ckpt_1.ckpt"]
    assert seen == [("on_exception SIGTERMException", there, []), ("teardown", there, []), ("finished", there, [])]
    assert cluster.asked == ["requeue 77"]


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("echo Access denied >&2; exit 3", "`scontrol requeue 77` failed with exit code 3: Access denied."),
        ("exit 1", "`scontrol requeue 77` failed with exit code 1: no reason given."),
        (None, "`scontrol requeue 77` cannot be run on this node: [Errno 2] No such file or directory: 'scontrol'."),
    ],
)
def test_scontrol_that_fails_is_told_of_and_the_checkpoint_stays(
    script: str | None, said: str, cluster: Any, sends: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    if script is None:
        (cluster.bin / "scontrol").unlink()
    else:
        cluster.scontrol(script)
    with pytest.raises(SIGTERMException) as ended:
        cluster.trainer(sends("on_train_batch_end", 2)).fit(TinyModule(), TinyDataModule())
    assert ended.value.code == 128 + signal.SIGUSR1
    path = str(cluster.folder / "hpc_ckpt_1.ckpt")
    assert capsys.readouterr().err.splitlines()[-1] == (
        f"lx: SIGUSR1 ended the run in epoch 0, after 2 steps. The job is NOT queued again: {said} Submit it again, and it goes on from"
        f" {path!r}."
    )
    assert cluster.left == ["hpc_ckpt_1.ckpt"]


def test_without_a_checkpoint_the_job_is_not_queued_again(cluster: Any, sends: Any, capsys: pytest.CaptureFixture[str]) -> None:
    class Full(TinyModule):
        def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
            raise OSError("the disk is full")

    with pytest.raises(SIGTERMException) as ended:
        cluster.trainer(sends("on_train_batch_end", 2)).fit(Full(), TinyDataModule())
    assert "saving for the next job failed, too: OSError: the disk is full" in ended.value.__notes__[0]
    assert capsys.readouterr().err.splitlines()[-1].endswith("Nothing was saved, so the job is not queued again.")
    assert (cluster.left, cluster.asked) == ([], [])


@pytest.mark.parametrize("auto_requeue", [True, False])
def test_a_handler_of_the_program_is_called(auto_requeue: bool, cluster: Any, sends: Any) -> None:
    heard: list[int] = []
    mine = lambda signum, frame: heard.append(signum)  # noqa: E731
    before = signal.signal(signal.SIGUSR1, mine)
    try:
        trainer = cluster.trainer(sends("on_train_batch_end", 2), plugins=SLURMEnvironment(auto_requeue=auto_requeue))
        if auto_requeue:
            with pytest.raises(SIGTERMException):
                trainer.fit(TinyModule(), TinyDataModule())
        else:
            trainer.fit(TinyModule(), TinyDataModule())
            assert trainer.global_step == 12
        assert signal.getsignal(signal.SIGUSR1) is mine
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert heard == [signal.SIGUSR1]
    assert len(cluster.left) == len(cluster.asked) == int(auto_requeue)


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM])
def test_another_signal(number: int, cluster: Any, sends: Any) -> None:
    trainer = cluster.trainer(
        sends("on_train_batch_end", 2, lambda: signal.raise_signal(number)), plugins=f"slurm(requeue_signal={int(number)})"
    )
    with pytest.raises(SIGTERMException) as ended:
        trainer.fit(TinyModule(), TinyDataModule())
    assert (ended.value.code, cluster.left, cluster.asked) == (128 + number, ["hpc_ckpt_1.ckpt"], ["requeue 77"])


def test_sigterm_ends_the_run_for_good(cluster: Any, sends: Any, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SIGTERMException) as ended:
        cluster.trainer(sends("on_train_batch_end", 2, lambda: signal.raise_signal(signal.SIGTERM))).fit(TinyModule(), TinyDataModule())
    assert (ended.value.code, cluster.left, cluster.asked) == (143, [], [])
    assert "lx: SIGTERM ended the run" in capsys.readouterr().err


def test_an_error_after_the_signal_is_an_error(cluster: Any, sends: Any) -> None:
    def fail() -> None:
        signal.raise_signal(signal.SIGUSR1)
        raise ArithmeticError

    with pytest.raises(ArithmeticError):
        cluster.trainer(sends("on_train_batch_end", 2, fail)).fit(TinyModule(), TinyDataModule())
    assert (cluster.left, cluster.asked) == ([], [])


def test_evaluation_and_other_threads_leave_the_signal_alone(cluster: Any, sends: Any) -> None:
    before, seen = signal.getsignal(signal.SIGUSR1), []
    look = lambda: seen.append(signal.getsignal(signal.SIGUSR1))  # noqa: E731
    cluster.trainer(sends("on_validation_batch_start", 0, look)).validate(TinyModule(), TinyDataModule(), verbose=False)
    trainer = cluster.trainer(sends("on_train_batch_start", 0, look))
    thread = threading.Thread(target=trainer.fit, args=(TinyModule(), TinyDataModule()))
    thread.start()
    thread.join()
    assert seen == [before, before]


PROGRAM = """
import os, signal, sys
from lx import Callback, Trainer
from lx.testing import TinyDataModule, TinyModule

class Sends(Callback):
    def on_train_batch_end(self, trainer, *args):
        if trainer.global_step == 2 + 2 * trainer.global_rank:
            os.kill(os.getpid(), signal.SIGUSR1)

    def on_exception(self, trainer, *args):
        os.write(1, f"rank {trainer.global_rank} of {trainer.world_size} ends after {trainer.global_step}\\n".encode())

quiet = dict.fromkeys(["logger", "enable_progress_bar", "enable_model_summary", "enable_checkpointing"], False)
trainer = Trainer(accelerator="cpu", devices=int(sys.argv[1]), max_epochs=3, callbacks=[Sends()], default_root_dir=sys.argv[2], **quiet)
trainer.fit(TinyModule(), TinyDataModule(length=64))
"""


def test_processes_that_get_the_signal_in_different_steps_end_after_the_same_one(cluster: Any, tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    with socket.create_server(("", 0)) as free:
        port = str(free.getsockname()[1])
    job = {**os.environ, "SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "2", "MASTER_PORT": port, "OMP_NUM_THREADS": "1"}
    started = [
        subprocess.Popen(
            [sys.executable, tmp_path / "program.py", "2", tmp_path],
            env={**job, "SLURM_PROCID": rank, "SLURM_LOCALID": rank},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in "01"
    ]
    ended = [(*process.communicate(timeout=120), process.returncode) for process in started]
    assert [code for _, _, code in ended] == [128 + signal.SIGUSR1] * 2, ended
    steps = torch.load(tmp_path / "hpc_ckpt_1.ckpt", weights_only=True)["global_step"]
    assert steps in range(3, 7), "soon after the first has it, since it tells the other"
    assert [out for out, _, _ in ended] == [f"rank {rank} of 2 ends after {steps}\n" for rank in (0, 1)]
    assert cluster.asked == ["requeue 77"]
    assert "SLURM has queued the job 77 again." in ended[0][1]
    assert "queued" not in ended[1][1]
