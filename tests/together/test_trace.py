"""`LX_TRACE=1`: a run says how it was put together, and each event with who listens to it."""

import os
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest

PROGRAM = """
    import sys
    from lx import Callback, Trainer
    from lx.testing import TinyDataModule, TinyModule


    class Noisy(Callback):
        def setup(self, trainer, pl_module, stage): ...
        def on_train_batch_end(self, *args): ...
        def on_exception(self, *args): ...


    class Model(TinyModule):
        def on_train_start(self):
            if "fail" in sys.argv:
                raise SystemExit(3)


    trainer = Trainer(accelerator="cpu", max_epochs=1, logger=False, enable_checkpointing=False, enable_progress_bar=False,
                      enable_model_summary=False, callbacks=[Noisy()], log_every_n_steps=1, num_sanity_val_steps=0)
    trainer.fit(Model(), TinyDataModule(length=8))
    print("steps", trainer.global_step)
"""


def run(folder: Path, *arguments: str, trace: str | None) -> subprocess.CompletedProcess[str]:
    (folder / "program.py").write_text(dedent(PROGRAM), "utf-8")
    environ = {name: value for name, value in os.environ.items() if name != "LX_TRACE"} | {"OMP_NUM_THREADS": "1"}
    if trace is not None:
        environ["LX_TRACE"] = trace
    command = [sys.executable, "-W", "error", "program.py", *arguments]
    return subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, check=False)


def traced(done: subprocess.CompletedProcess[str], kind: str) -> list[str]:
    return [line.removeprefix(f"lx: {kind} ") for line in done.stderr.splitlines() if line.startswith(f"lx: {kind} ")]


def test_each_event_is_told_with_who_listens_in_the_order_in_which_it_happens(tmp_path: Path) -> None:
    done = run(tmp_path, trace="1")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "steps 2\n"
    transfer = ["on_before_batch_transfer -> nobody", "on_after_batch_transfer -> nobody"]
    batch = [
        *transfer,
        "on_train_batch_start -> nobody",
        "on_before_zero_grad -> nobody",
        "on_before_backward -> nobody",
        "on_after_backward -> nobody",
        "on_before_optimizer_step -> nobody",
        "on_train_batch_end -> Noisy",
    ]
    evaluated = [*transfer, "on_validation_batch_start -> nobody", "on_validation_batch_end -> nobody"]
    assert traced(done, "event") == [
        "setup -> Noisy",
        "on_fit_start -> nobody",
        "on_train_start -> Model",
        "on_train_epoch_start -> nobody",
        *batch,
        *batch,
        "on_validation_start -> nobody",
        "on_validation_epoch_start -> nobody",
        *evaluated,
        *evaluated,
        "on_validation_epoch_end -> nobody",
        "on_validation_end -> nobody",
        "on_train_epoch_end -> nobody",
        "on_train_end -> nobody",
        "on_fit_end -> nobody",
        "teardown -> nobody",
    ]


def test_plugins_decisions_and_hooks_of_set_up_are_told_before(tmp_path: Path) -> None:
    done = run(tmp_path, trace="yes")
    assert any(line.startswith("cpu (lx-plugin-cpu ") and line.endswith(" active") for line in traced(done, "plugin"))
    decisions = traced(done, "choice")
    assert decisions[0] == "accelerator: cpu (lx-plugin-cpu), accelerator='cpu'"
    assert "devices: 1 (index 0) (lx-plugin-cpu), devices='auto' is 1 on cpu" in decisions
    assert any(line.startswith("strategy: single_device (lx-plugin-single-device), ") for line in decisions)
    hooks = [line.partition(" ->")[0] for line in traced(done, "hook")]
    assert [hook for hook in hooks if not hook.startswith(("lx_register", "lx_extend"))] == [
        "lx_trainer_created",
        "lx_run_started",
        "lx_run_ended",
    ]


def test_a_run_that_fails_is_traced_to_its_end(tmp_path: Path) -> None:
    done = run(tmp_path, "fail", trace="1")
    assert done.returncode == 3, done.stderr
    assert traced(done, "event")[-3:] == ["on_train_start -> Model", "on_exception -> Noisy", "teardown -> nobody"]


@pytest.mark.parametrize("trace", [None, "0", ""])
def test_without_it_nothing_is_told(tmp_path: Path, trace: str | None) -> None:
    done = run(tmp_path, trace=trace)
    assert (done.returncode, done.stdout) == (0, "steps 2\n")
    assert "lx: " not in done.stderr
