"""The script launcher in real programs: the command that is repeated, and how a run ends when a process fails."""

import os
import select
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lx.kernel import PluginManager
from lx.kernel.errors import MisconfigurationException
from lx.testing.requires import requires
from lx_plugin_ddp.environment import LightningEnvironment
from lx_plugin_ddp.launcher import ScriptLauncher, repeat_command


def test_one_process_is_launched_by_calling() -> None:
    launcher = PluginManager().registry.launcher.build("script", environment=LightningEnvironment(), num_processes=1)
    assert isinstance(launcher, ScriptLauncher)
    assert launcher.launch(lambda *args, **kwargs: (args, kwargs), 1, a=2) == ((1,), {"a": 2})
    assert not launcher.is_interactive_compatible
    launcher.kill(signal.SIGTERM)


def test_only_the_first_local_rank_launches() -> None:
    class Odd(LightningEnvironment):
        creates_processes_externally = False

        def local_rank(self) -> int:
            return 1

    with pytest.raises(RuntimeError, match="local rank 1"):
        ScriptLauncher(Odd(), 2).launch(print)


def test_the_command_of_a_script_is_absolute_once_the_directory_changed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    main = type(sys)("__main__")
    main.__file__, main.__spec__ = str(tmp_path / "train.py"), None
    monkeypatch.setitem(sys.modules, "__main__", main)
    monkeypatch.setattr(sys, "orig_argv", ["python", "-O", "train.py", "--epochs", "3"])
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.py").touch()
    assert repeat_command() == [sys.executable, "-O", "train.py", "--epochs", "3"]
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert repeat_command() == [sys.executable, "-O", str(tmp_path / "train.py"), "--epochs", "3"]


@pytest.mark.parametrize("file", [None, "<stdin>"])
def test_a_program_without_a_command_is_refused(monkeypatch: pytest.MonkeyPatch, file: str | None) -> None:
    main = type(sys)("__main__")
    if file is not None:
        main.__file__ = file
    monkeypatch.setitem(sys.modules, "__main__", main)
    monkeypatch.setattr(sys, "orig_argv", ["python", "-"])
    with pytest.raises(MisconfigurationException, match="Save it as a file"):
        repeat_command()


def test_the_same_command_runs(run_program: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "pack").mkdir()
    (tmp_path / "pack" / "__init__.py").touch()
    (tmp_path / "pack" / "train.py").write_text("import runpy\nrunpy.run_path('program.py')\n")
    program = run_program(
        "ScriptLauncher(LightningEnvironment(), 2).launch(tell)",
        "--name",
        "a b",
        command=("-B", "-m", "pack.train"),
        first="""
            def tell():
                names = ("LOCAL_RANK", "NODE_RANK", "WORLD_SIZE")
                say(*(os.environ[name] for name in names), sys.argv[1:], sys.flags.dont_write_bytecode)

            if "LOCAL_RANK" in os.environ:
                tell()
                sys.exit()
        """,
    )
    assert program.code == 0, program.err
    assert sorted(program.out.splitlines()) == ["0 0 2 ['--name', 'a b'] 1", "1 0 2 ['--name', 'a b'] 1"]
    assert program.orphans == []


def test_a_failing_process_ends_all(run_program: Callable[..., Any]) -> None:
    program = run_program("""
        import threading
        from lx.kernel.errors import LxError

        def main(s):
            s.barrier()
            if s.global_rank == 2:
                raise ArithmeticError("in rank 2")
            if s.global_rank == 1:
                threading.Event().wait()
            s.all_reduce(torch.ones(1))

        try:
            run(main, devices=3)
        except LxError as error:
            assert isinstance(error, RuntimeError) and "gloo" in str(error.__cause__)
            print(f"caught: {error}")
            sys.exit(5)
    """)
    assert program.code == 5, program.err
    assert program.out.startswith("caught: the process of rank 2 ended with exit code 1, so")
    assert "ArithmeticError: in rank 2" in program.err
    assert program.orphans == []


def test_a_process_that_waits_for_a_dead_one_ends(run_program: Callable[..., Any]) -> None:
    program = run_program(
        "run(lambda s: print('never'), grace=1.0)",
        first="""
            if "LOCAL_RANK" in os.environ:
                os.kill(os.getpid(), 9)
        """,
    )
    assert program.code == 1
    assert program.out == ""
    assert "the process of rank 1 ended with exit code -9 (SIGKILL)" in program.err
    assert program.orphans == []


def test_an_error_of_the_first_process_is_raised_as_it_is(run_program: Callable[..., Any]) -> None:
    program = run_program("""
        def main(s):
            s.barrier()
            if s.is_global_zero:
                raise ArithmeticError("in rank 0")
            s.all_reduce(torch.ones(1))

        run(main)
    """)
    assert program.code == 1
    assert "ArithmeticError: in rank 0" in program.err
    assert "LaunchError" not in program.err
    assert program.orphans == []


def test_a_first_process_that_exits_takes_the_others_along(run_program: Callable[..., Any]) -> None:
    program = run_program("""
        kept = []

        def main(s):
            kept.append(s.setup_module(nn.Linear(1, 1)))  # holds the connections, so that rank 1 cannot notice
            if s.is_global_zero:
                sys.exit(4)
            s.barrier()

        run(main, grace=5)
    """)
    assert program.code == 4, program.err
    assert program.orphans == []


def test_a_failure_that_the_first_process_does_not_notice_is_raised(run_program: Callable[..., Any]) -> None:
    program = run_program(
        """
        import logging, threading

        noticed = threading.Event()

        class Notice(logging.Handler):
            def emit(self, record):
                noticed.set()

        logging.getLogger("lx").addHandler(Notice())
        ScriptLauncher(LightningEnvironment(), 2).launch(noticed.wait, 60)
        """,
        first="""
            if "LOCAL_RANK" in os.environ:
                os._exit(7)
        """,
    )
    assert program.code == 1
    assert "LaunchError: the process of rank 1 ended with exit code 7" in program.err
    assert program.orphans == []


def test_processes_do_not_outlive_the_one_that_started_them(run_program: Callable[..., Any], tmp_path: Path) -> None:
    program = run_program("""
        import threading

        def main(s):
            open(f"pid_{s.global_rank}", "w").write(str(os.getpid()))
            s.barrier()
            if s.is_global_zero:
                os.kill(os.getpid(), 9)
            threading.Event().wait()

        run(main)
    """)
    assert program.code == -signal.SIGKILL
    assert (tmp_path / "pid_1").exists()
    for pid in program.orphans:
        ready, _, _ = select.select([os.pidfd_open(pid)], [], [], 30)
        assert ready, f"process {pid} is still there"


@requires("hydra-core>=1.3")
def test_the_processes_of_a_hydra_program_write_to_one_folder(run_program: Callable[..., Any], tmp_path: Path) -> None:
    program = run_program(
        """
        import hydra

        @hydra.main(version_base=None, config_path=None)
        def program(config):
            def main(s):
                s.barrier()
                folder = hydra.core.hydra_config.HydraConfig.get().runtime.output_dir
                say(s.global_rank, config, os.path.relpath(folder))

            run(main)

        program()
        """,
        "+x=3",
        "hydra.run.dir=the run",
    )
    assert program.code == 0, program.err
    assert sorted(program.out.splitlines()) == ["0 {'x': 3} the run", "1 {'x': 3} the run"]
    assert {path.name for path in (tmp_path / "the run").iterdir()} == {".hydra", "program.log", "program_rank_1.log"}
