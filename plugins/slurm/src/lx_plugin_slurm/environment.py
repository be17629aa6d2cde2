"""What SLURM says about the processes that it started, and how a job is queued again."""

import functools
import os
import shutil
import signal
import subprocess
import sys

from lx.interfaces import ClusterEnvironment
from lx.kernel.errors import MisconfigurationException
from lx.rank_zero import PossibleUserWarning, rank_zero_warn
from lx_plugin_slurm.node_list import first_host

DEFAULT_ADDRESS, DEFAULT_PORT = "127.0.0.1", 12910

DEFAULT_SIGNAL: int | None = getattr(signal, "SIGUSR1", None)  # not on Windows

INTERACTIVE = ("bash", "interactive")
"""The names of jobs in which somebody types, whose programs are started one by one."""

NOT_HEEDED = {getattr(signal, name) for name in ("SIGINT", "SIGKILL", "SIGSTOP") if hasattr(signal, name)}
"""Ctrl-C means another thing, and the others cannot be heeded."""

_CURE = f"Have it started by SLURM: srun python {os.path.basename(sys.argv[0])} ..."


class SLURMEnvironment(ClusterEnvironment):
    """Processes that `srun` started; detected by `SLURM_NTASKS`, unless the job is named `bash` or `interactive`, and read from `SLURM_*`.

    With `auto_requeue`, a `fit` to which `requeue_signal` comes (None: SIGUSR1) is saved as `hpc_ckpt_<number>.ckpt` in the trainer's
    `default_root_dir`, ends at the next batch boundary with the exit code 128 + signal, and has `scontrol` queue the job again; there
    `fit` goes on from the newest such file, if `ckpt_path` is not given. Have the signal sent in time by `#SBATCH --signal=SIGUSR1@90`.

    `MASTER_ADDR` and `MASTER_PORT` take the place of the first node and of 15000 + the last four digits of the job's id. A variable that
    is missing or no number raises `MisconfigurationException`; so does a signal that cannot be heeded.

    >>> SLURMEnvironment(auto_requeue=False).requeues_on is None
    True
    """

    requeues = True

    def __init__(self, auto_requeue: bool = True, requeue_signal: int | None = None) -> None:
        if requeue_signal is not None and requeue_signal not in set(signal.Signals) - NOT_HEEDED:
            raise MisconfigurationException(
                f"requeue_signal={requeue_signal!r}: it must be a signal that a program may heed, such as signal.SIGUSR1, or None for"
                " that one; SIGINT is Ctrl-C."
            )
        self.auto_requeue = auto_requeue
        self.requeue_signal = DEFAULT_SIGNAL if requeue_signal is None else requeue_signal
        self.requeues_on = self.requeue_signal if auto_requeue else None

    # -- who this process is ---------------------------------------------------------------------------------------------

    @property
    def creates_processes_externally(self) -> bool:
        """Always: `srun` starts them."""
        return True

    @property
    def main_address(self) -> str:
        """`MASTER_ADDR`, or the first host of `SLURM_NODELIST`, or this machine."""
        nodes = os.environ.get("SLURM_NODELIST") or os.environ.get("SLURM_JOB_NODELIST")
        return os.environ.get("MASTER_ADDR") or (first_host(nodes) if nodes else DEFAULT_ADDRESS)

    @property
    def main_port(self) -> int:
        """`MASTER_PORT`, or 15000 + the last four digits of the job's id, or 12910."""
        if "MASTER_PORT" in os.environ:
            return _number("MASTER_PORT")
        job = self.job_id()
        return DEFAULT_PORT if job is None else 15000 + job % 10000

    @staticmethod
    def detect() -> bool:
        """Whether `srun` started this process. Warns, once, if it did not, and is there."""
        if _is_interactive():
            return False
        if "SLURM_NTASKS" not in os.environ:
            warn_of_srun()
            return False
        return True

    @staticmethod
    def job_name() -> str | None:
        """`SLURM_JOB_NAME`."""
        return os.environ.get("SLURM_JOB_NAME")

    @staticmethod
    def job_id() -> int | None:
        """`SLURM_JOB_ID`; None outside of a job, and in an interactive one."""
        return None if _is_interactive() or "SLURM_JOB_ID" not in os.environ else _number("SLURM_JOB_ID")

    def world_size(self) -> int:
        """`SLURM_NTASKS`."""
        return _number("SLURM_NTASKS")

    def global_rank(self) -> int:
        """`SLURM_PROCID`."""
        return _number("SLURM_PROCID")

    def local_rank(self) -> int:
        """`SLURM_LOCALID`."""
        return _number("SLURM_LOCALID")

    def node_rank(self) -> int:
        """`SLURM_NODEID`."""
        return _number("SLURM_NODEID")

    def validate_settings(self, num_devices: int, num_nodes: int) -> None:
        """Raises `ValueError` if the job has other tasks per node or nodes than `devices` and `num_nodes` ask for, `RuntimeError` for
        several tasks without a number per node. An interactive job is not judged."""
        if _is_interactive():
            return
        if "SLURM_NTASKS" in os.environ and _number("SLURM_NTASKS") > 1 and "SLURM_NTASKS_PER_NODE" not in os.environ:
            raise RuntimeError(
                f"SLURM started {_number('SLURM_NTASKS')} tasks (--ntasks), and does not say how many on each node: give"
                f" --ntasks-per-node={num_devices} and --nodes={num_nodes} instead of --ntasks."
            )
        if num_devices * num_nodes > 1 and "SLURM_STEP_ID" not in os.environ and shutil.which("srun") is not None:
            rank_zero_warn(
                f"the SLURM job has {num_devices * num_nodes} tasks, and this process was not started by srun: it will wait for the others."
                f" {_CURE}",
                PossibleUserWarning,
            )
        for variable, option, argument, asked in (
            ("SLURM_NTASKS_PER_NODE", "--ntasks-per-node", "devices", num_devices),
            ("SLURM_NNODES", "--nodes", "num_nodes", num_nodes),
        ):
            if variable in os.environ and _number(variable) != asked:
                raise ValueError(
                    f"{argument}={asked}, and the SLURM job has {option}={_number(variable)} ({variable}); make them the same."
                )

    # -- the job is queued again -------------------------------------------------------------------------------------------

    def requeue(self) -> str:
        """Runs `scontrol requeue`; raises `RuntimeError` if that fails, or this is no job."""
        if "SLURM_ARRAY_JOB_ID" in os.environ:
            job = f"{_number('SLURM_ARRAY_JOB_ID')}_{_number('SLURM_ARRAY_TASK_ID')}"
        elif "SLURM_JOB_ID" in os.environ:
            job = str(_number("SLURM_JOB_ID"))
        else:
            raise RuntimeError("SLURM_JOB_ID is not set, so there is no job.")
        command = f"scontrol requeue {job}"
        try:
            done = subprocess.run(command.split(), capture_output=True, text=True, check=False)
        except OSError as error:
            raise RuntimeError(f"`{command}` cannot be run on this node: {error}.") from error
        if done.returncode != 0:
            raise RuntimeError(
                f"`{command}` failed with exit code {done.returncode}: {(done.stderr or done.stdout).strip() or 'no reason given'}."
            )
        return f"SLURM has queued the job {job} again."


def _is_interactive() -> bool:
    return SLURMEnvironment.job_name() in INTERACTIVE


@functools.cache
def warn_of_srun() -> None:
    """Warns, once in a process, if SLURM is here and was left out."""
    if shutil.which("srun") is not None:
        rank_zero_warn(f"srun is there, and did not start this program, which runs as if there were no SLURM. {_CURE}", PossibleUserWarning)


def _number(variable: str) -> int:
    given = os.environ.get(variable)
    if given is None or not given.strip().isdigit():
        raise MisconfigurationException(
            f"the environment variable {variable} is {'not set' if given is None else repr(given)}, and SLURM sets it to a"
            " number; start the program with srun, or give plugins=['local']."
        )
    return int(given)
