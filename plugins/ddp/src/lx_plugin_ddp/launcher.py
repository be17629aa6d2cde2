"""Starts the processes of a node by running the program's own command again, once for each further device."""

import importlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from lx.interfaces import ClusterEnvironment, Launcher
from lx.kernel.errors import MisconfigurationException
from lx_plugin_ddp.children import Children
from lx_plugin_ddp.environment import PARENT_VARIABLE


class ScriptLauncher(Launcher):
    """Runs the command of this process again for each local rank from 1, and says so to it in its environment.

    It sets `LOCAL_RANK`, `NODE_RANK`, `WORLD_SIZE`, `MASTER_ADDR`, `MASTER_PORT`, and without `OMP_NUM_THREADS` shares out the CPU cores.
    Every process runs the whole program, and a second run in it finds the processes there. If one fails, the others are ended, and
    `launch` raises `LaunchError`, with its rank and exit code; if this process cannot raise, since it has been waiting in native code
    for `grace` seconds, it ends with a message.
    """

    def __init__(self, environment: ClusterEnvironment, num_processes: int, num_nodes: int = 1, grace: float = 10.0) -> None:
        super().__init__(environment, num_processes, num_nodes)
        self._children = Children(grace)

    @property
    def is_interactive_compatible(self) -> bool:
        """No: there is no command to run again."""
        return False

    def launch(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Starts the other processes of this node, if nobody has yet, and calls the function; called in the process that the user started.

        Raises `LaunchError` if a process fails, `MisconfigurationException` if the program was not started in a way that can be repeated.
        """
        if self.num_processes > 1 and not self.environment.creates_processes_externally:
            self._start()
        with self._children.watched():
            return function(*args, **kwargs)

    def kill(self, signum: int) -> None:
        """Sends a signal to the processes that were started."""
        self._children.signal(signum)

    def _start(self) -> None:
        if self.environment.local_rank() != 0:
            raise RuntimeError(f"processes are launched by local rank 0, and this is local rank {self.environment.local_rank()}.")
        shared = {
            "NODE_RANK": str(self.environment.node_rank()),
            "WORLD_SIZE": str(self.num_processes * self.num_nodes),
            "MASTER_ADDR": self.environment.main_address,
            "MASTER_PORT": str(self.environment.main_port),
        }
        if "OMP_NUM_THREADS" not in os.environ:
            threads = max(1, _cores() // self.num_processes)
            shared["OMP_NUM_THREADS"] = str(threads)
            torch.set_num_threads(threads)
        first = self.environment.node_rank() * self.num_processes
        command = repeat_command()
        for local_rank in range(1, self.num_processes):
            extra, directory = _hydra(local_rank)
            environ = {**os.environ, **shared, "LOCAL_RANK": str(local_rank), PARENT_VARIABLE: str(os.getpid())}
            self._children.start(first + local_rank, [*command, *extra], environ, directory)
        # From here on this process is one of many, for all that runs in it: the processes live to the end of the program.
        os.environ.update(shared, LOCAL_RANK="0")


def repeat_command() -> list[str]:
    """The command that started this program: the interpreter, its options, and the script, `-m` module or `-c` text with its arguments.

    Raises `MisconfigurationException` if there is none, as in an interactive session or where the program came from standard input.
    """
    given = list(sys.orig_argv[1:])
    main = sys.modules["__main__"]
    script = getattr(main, "__file__", None)
    if script == "<stdin>" or (script is None and "-c" not in given):
        raise MisconfigurationException(
            "strategy='ddp' runs the program's command again for each device, and this program was typed in or read from standard input. "
            "Save it as a file and run that, or use devices=1."
        )
    if script is not None and getattr(main, "__spec__", None) is None:
        # The path may be relative, and the program may have changed its directory since.
        given = [script if Path(word).name == Path(script).name and not Path(word).exists() else word for word in given]
    return [sys.executable, *given]


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _hydra(local_rank: int) -> tuple[list[str], str | None]:
    """Overrides and directory for a process of a Hydra program: all write to the directory that Hydra made for this one."""
    if "hydra" not in sys.modules:
        return [], None
    hydra = importlib.import_module("hydra.core.hydra_config")

    if not hydra.HydraConfig.initialized():
        return [], None
    settings = hydra.HydraConfig.get()
    overrides = [
        f'hydra.run.dir="{settings.runtime.output_dir}"',
        f'hydra.sweep.dir="{Path(settings.runtime.cwd, settings.sweep.dir)}"',
        f"hydra.job.name={settings.job.name}_rank_{local_rank}",
        "hydra.output_subdir=null",
    ]
    return overrides, settings.runtime.cwd
