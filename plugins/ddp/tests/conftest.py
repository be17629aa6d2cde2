"""Programs of several processes, each run to its end in a session of its own, so that what outlives it is found."""

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

FIRST = """
import os, sys

def say(*words):  # one write a line, so that lines of two processes do not mix
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())
"""

PRELUDE = """
import torch, torch.distributed as dist
from torch import nn
from lx.interfaces import Precision
from lx.testing.fakes import FakeAccelerator
from lx_plugin_ddp.environment import LightningEnvironment
from lx_plugin_ddp.launcher import ScriptLauncher
from lx_plugin_ddp.strategy import DDPStrategy

def connected(environment, devices=2, **kwargs):
    strategy = DDPStrategy(**kwargs)
    strategy.connect(accelerator=FakeAccelerator(), parallel_devices=[torch.device("cpu")] * devices, cluster_environment=environment,
                     checkpoint_io=None, precision=Precision())
    return strategy

def run(main, devices=2, grace=20.0, **kwargs):
    environment = LightningEnvironment()
    strategy = connected(environment, devices, **kwargs)
    def whole():
        strategy.setup_environment()
        try:
            return main(strategy)
        finally:
            strategy.teardown()
    return ScriptLauncher(environment, devices, grace=grace).launch(whole)
"""

FORGOTTEN = ("LOCAL_RANK", "RANK", "NODE_RANK", "GROUP_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "TORCHELASTIC_RUN_ID")


@dataclass
class Program:
    """A program that was run: what it printed, how it ended, and the processes that were still there when it had."""

    code: int
    out: str
    err: str
    orphans: list[int]


@pytest.fixture
def run_program(tmp_path: Path) -> Iterator[Callable[..., Program]]:
    """Writes a program after the prelude and runs it: `run_program(source, *arguments, command=("{program}",), first="")`.

    `first` comes before torch is imported, for processes that do not need it.
    """
    sessions: list[int] = []

    def start(source: str, *arguments: str, command: tuple[str, ...] = ("{program}",), first: str = "") -> Program:
        program = tmp_path / "program.py"
        program.write_text(FIRST + textwrap.dedent(first) + PRELUDE + textwrap.dedent(source))
        environ = {name: value for name, value in os.environ.items() if name not in FORGOTTEN}
        words = [word.format(program=program) for word in command]
        with (
            open(tmp_path / "out", "w+") as out,
            open(tmp_path / "err", "w+") as err,
            subprocess.Popen(
                [sys.executable, *words, *arguments],
                env={**environ, "OMP_NUM_THREADS": "1"},
                cwd=tmp_path,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
            ) as process,
        ):
            sessions.append(process.pid)
            try:
                code = process.wait(120)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                pytest.fail(f"the program did not end: {(tmp_path / 'out').read_text()}{(tmp_path / 'err').read_text()}")
        return Program(code, (tmp_path / "out").read_text(), (tmp_path / "err").read_text(), _members(process.pid))

    yield start
    for session in sessions:
        if _members(session):
            os.killpg(session, signal.SIGKILL)


def _members(session: int) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            state, _, group = (entry / "stat").read_text().rpartition(")")[2].split()[:3]
        except OSError:
            continue
        if int(group) == session and state != "Z":
            found.append(int(entry.name))
    return found
