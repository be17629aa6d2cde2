"""`lx verify-resume` finds what does not resume, and says what it cannot judge."""

import doctest
import re
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from forked import Server
from lx.cli import verify_resume
from soak import SOAKING, sample

PAGE = Path(__file__).parents[2] / "docs/how-to/verify-resume.md"

SCRIPT = """
import os, random, sys, time
import torch
from torch.utils.data import DataLoader
from lx import LightningModule, Trainer, seed_everything
from lx.callbacks import ModelCheckpoint

class Net(LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(3, 1)
        self.batches = 0
    def training_step(self, batch, batch_idx):
        loss = self.layer(batch).square().mean()
        {step}
        self.log("loss", loss)
        return loss
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)

def trainer(**arguments):
    own = dict(max_epochs=2, accelerator="cpu", logger="csv", log_every_n_steps=1, callbacks=[ModelCheckpoint(every_n_train_steps=1)])
    quiet = dict(enable_progress_bar=False, enable_model_summary=False)
    return Trainer(**{{**own, **quiet, **arguments}})

def loader():
    return DataLoader(torch.randn(16, 3, generator=torch.Generator().manual_seed(1)), batch_size=4)

if __name__ == "__main__":
    {main}
"""

FIT = "seed_everything(1); trainer().fit(Net(), loader())"

Verify = Callable[..., tuple[int, str]]


@pytest.fixture
def verify(server: Server, tmp_path: Path) -> Verify:
    """Writes a script, and verifies it with two kills: the exit code, and what is printed."""

    def verify(main: str = FIT, step: str = "pass", script: str = SCRIPT, options: tuple[str, ...] = ("--kills", "2")) -> tuple[int, str]:
        path = tmp_path / "train.py"
        path.write_text(script.format(main=main, step=step), "utf-8")
        return server.verify(*options, path)

    return verify


@pytest.mark.parametrize(
    ("main", "said"),
    [
        ("raise RuntimeError('no data here')", r"fails by itself, with exit code 1\.(?s:.*)RuntimeError: no data here"),
        ("sys.exit(3)", r"fails by itself, with exit code 3"),
        ("print('hello')", r"does not train"),
        ("trainer(max_epochs=0).fit(Net(), loader())", r"does not train"),
        ("trainer(callbacks=None, enable_checkpointing=False).fit(Net(), loader())", r"writes no checkpoint"),
        ("trainer(callbacks=[ModelCheckpoint(save_weights_only=True)]).fit(Net(), loader())", r"writes no checkpoint"),
        ("trainer().fit(Net(), loader()); trainer().fit(Net(), loader())", r"calls fit 2 times"),
    ],
)
def test_it_says_why_there_is_nothing_to_compare(main: str, said: str, verify: Verify) -> None:
    code, printed = verify(main)
    assert (code, re.search(f"^lx verify-resume: the script {said}", printed) is not None) == (2, True), printed


def test_a_script_without_a_seed_is_said_to_differ_from_itself(verify: Verify) -> None:
    code, printed = verify("trainer().fit(Net(), loader())")
    assert code == 2
    assert re.search(r"two runs that nobody killed differ already, at step 1 \(epoch 0, batch 0\): .*the weights", printed), printed


def test_a_folder_that_all_runs_share_is_refused(verify: Verify, tmp_path: Path) -> None:
    code, printed = verify(f"seed_everything(1); trainer(default_root_dir={str(tmp_path / 'shared')!r}).fit(Net(), loader())")
    assert code == 2
    assert "did not begin anew, but from" in printed


def test_state_that_is_in_no_checkpoint_is_found(verify: Verify) -> None:
    code, printed = verify(step="self.batches += 1; loss = loss * self.batches", options=("--kills", "6"))
    assert code == 1
    found = re.search(r"not resume exactly\. The first difference is at step (\d+) \(epoch (\d), batch (\d)\): (.*)", printed)
    assert found is not None, printed
    resumed = [int(step) for step in re.findall(r"went on from step (\d+)", printed)]
    assert int(found[1]) == min(resumed) + 1, printed
    assert int(found[1]) == 4 * int(found[2]) + int(found[3]) + 1
    assert found[4].startswith("the loss, ")
    assert "the weights" in found[4]
    assert "samples" not in found[4]


def test_measured_times_are_not_compared(verify: Verify) -> None:
    code, printed = verify(step="self.log('seconds', time.perf_counter()); self.log('name', random.random())")
    assert code == 0, printed
    assert "not compared, since they differ between two runs that nobody killed: seconds\n" in printed


def test_a_process_that_cannot_go_on_is_shown(verify: Verify) -> None:
    code, printed = verify("print('once'); open('once', 'x'); " + FIT)
    assert code == 1
    assert "does not resume: it fails with exit code 1." in printed
    assert "FileExistsError" in printed


def test_a_script_is_run_as_python_runs_it(server: Server, tmp_path: Path) -> None:
    main = """
    import argparse
    from beside import BATCH
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("data")
    options = parser.parse_args()
    assert (options.data, BATCH, sys.argv[0]) == ("rows", 4, __file__)
    seed_everything(options.seed)
    trainer(callbacks=["model_checkpoint(save_last=True)"]).fit(Net(), loader(), ckpt_path="last")
    """
    (tmp_path / "beside.py").write_text("BATCH = 4\n", "utf-8")
    (tmp_path / "train.py").write_text(SCRIPT.format(step="pass", main=dedent(main).strip().replace("\n", "\n    ")), "utf-8")
    code, printed = server.verify("--kills", 1, "--signal", "TERM", "--keep", tmp_path / "kept", tmp_path / "train.py", "--seed", 5, "rows")
    assert code == 0, printed
    assert (tmp_path / "kept/whole/lightning_logs/version_0/checkpoints/last.ckpt").exists()


@pytest.mark.soak
def test_the_page_shows_what_is_printed(server: Server, tmp_path: Path) -> None:
    page = PAGE.read_text("utf-8")
    for name, script in re.findall(r"^```python file=scripts/(\S+)\n(.*?)^```$", page, re.MULTILINE | re.DOTALL):
        (tmp_path / name).write_text(script, "utf-8")
    shown = re.findall(r"^```console\n\$ lx verify-resume (.*?)(\w+\.py)\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert len(shown) == 2
    for options, name, expected in shown[-sample(2, 1) :]:
        _, printed = server.verify(*options.split(), tmp_path / name)
        verdicts = [text.strip().splitlines()[-1] + "\n" for text in (expected, printed)]
        assert doctest.OutputChecker().check_output(*verdicts, doctest.ELLIPSIS), printed


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere.py"], "there is no file 'nowhere.py'"),
        (["--kills", "0", __file__], "argument --kills: 0 is too few"),
        (["--signal", "HUP", __file__], "invalid choice: 'HUP'"),
        (["--keep", ".", __file__], "'.' exists; --keep takes the name of a new folder"),
        ([], "the following arguments are required: SCRIPT"),
    ],
)
def test_wrong_arguments_are_named(arguments: list[str], said: str, capsys: Any) -> None:
    try:
        code: Any = verify_resume.run(arguments)
    except SystemExit as end:
        code = end.code
    assert code == 2
    assert said in capsys.readouterr().err


def test_a_python_of_its_own_is_started(tmp_path: Path, capsys: Any) -> None:
    script = tmp_path / "train.py"
    script.write_text("import os, sys\nassert 'torch' not in sys.modules\nprint(sys.argv[1:], os.listdir())\nsys.exit(4)\n", "utf-8")
    assert verify_resume.run([str(script), "--lr", "0.1"]) == 2
    said = capsys.readouterr().err
    assert "fails by itself, with exit code 4" in said
    assert "['--lr', '0.1'] []" in said


if SOAKING:  # each start imports torch

    @pytest.mark.parametrize("signal", ["KILL", "TERM"])
    def test_pythons_of_their_own_are_killed(signal: str, tmp_path: Path, capsys: Any) -> None:
        script = tmp_path / "train.py"
        script.write_text(SCRIPT.format(step="pass", main=FIT), "utf-8")
        assert verify_resume.run(["--kills", "2", "--signal", signal, str(script)]) == 0
        assert "resumes exactly: 2 of 2 kills, 8 steps, 2 epochs" in capsys.readouterr().out
