"""`lx verify-resume` with forks of one process that has imported torch, so that a start costs a tenth of a second.

As a program it answers: each line of its input is a list of arguments, each line of its output the exit code and what was printed.
"""

import contextlib
import io
import json
import os
import random
import subprocess
import sys
import tempfile
import traceback
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lx.cli import verify_resume
from lx.cli.resuming.child import main


class Forked:
    """A child that is a fork of this process."""

    def __init__(self, pid: int) -> None:
        self.pid, self._code = pid, None

    def poll(self) -> int | None:
        return self._take(os.WNOHANG)

    def wait(self) -> int:
        code = self._take(0)
        assert code is not None
        return code

    def _take(self, options: int) -> int | None:
        if self._code is None:
            pid, status = os.waitpid(self.pid, options)
            self._code = os.waitstatus_to_exitcode(status) if pid else None
        return self._code


def launch(order: dict[str, Any], script: list[str], folder: Path, output: Path, descriptors: tuple[int, ...]) -> Forked:
    """Forks, and runs the script in the child, as a Python of its own would."""
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        with contextlib.suppress(PermissionError):
            os.setpgid(pid, pid)  # as the child does, whoever is first
        return Forked(pid)
    code = 1
    try:
        os.setpgid(0, 0)
        os.chdir(folder)
        file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        for descriptor, target in ((0, os.open(os.devnull, os.O_RDONLY)), (1, file), (2, file)):
            os.dup2(target, descriptor)
        sys.stdout, sys.stderr = os.fdopen(1, "w", 1, closefd=False), os.fdopen(2, "w", 1, closefd=False)
        code = _run([json.dumps(order), *script])
        sys.stdout.flush()
    finally:
        os._exit(code)


def _run(arguments: list[str]) -> int:
    random.seed()
    np.random.seed()
    torch.seed()
    try:
        main(arguments)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


class Server:
    """A process that answers."""

    def __init__(self) -> None:
        environ = {**os.environ, "OMP_NUM_THREADS": "1"}
        self._process = subprocess.Popen([sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environ)

    def verify(self, *arguments: Any) -> tuple[int, str]:
        """The exit code and the output of `lx verify-resume` with these arguments."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([str(argument) for argument in arguments]) + "\n")
        self._process.stdin.flush()
        code, printed = json.loads(self._process.stdout.readline())
        return code, printed

    def close(self) -> None:
        """Ends the process."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


def warm_up() -> None:
    """Imports what a fit imports, by doing one, so that it need not be imported after each fork."""
    from lx import Trainer
    from lx.callbacks import EarlyStopping, ModelCheckpoint
    from lx.testing import TinyDataModule, TinyModule

    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        callbacks = [ModelCheckpoint(), EarlyStopping("train_loss", strict=False)]
        quiet = dict.fromkeys(("enable_progress_bar", "enable_model_summary"), False)
        trainer = Trainer(accelerator="cpu", max_epochs=1, logger="csv", callbacks=callbacks, default_root_dir=folder, **quiet)
        trainer.fit(TinyModule(), TinyDataModule())


def serve() -> None:
    """Answers until the input ends."""
    answers, sys.stdout = sys.stdout, sys.stderr
    warm_up()
    for line in sys.stdin:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            try:
                code = verify_resume.run(json.loads(line), launch)
            except SystemExit as end:
                code = end.code
        print(json.dumps([code, printed.getvalue()]), file=answers, flush=True)


if __name__ == "__main__":
    serve()
