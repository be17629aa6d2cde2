"""Each example, run as a reader would run it: in a folder of its own, in a process of its own, with warnings as errors."""

import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent


def run(example: str, *arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", str(FOLDER / example), *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def said(done: subprocess.CompletedProcess[str], what: str) -> str:
    """What the example printed behind a name."""
    (line,) = re.findall(rf"^{what} {{2,}}(.*)$", done.stdout, re.MULTILINE)
    return str(line)


def epochs(done: subprocess.CompletedProcess[str]) -> list[int]:
    """The epochs that the progress bar showed."""
    return [int(epoch) for epoch in re.findall(r"^Epoch (\d+)/", done.stdout, re.MULTILINE)]


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """A run of the digits, and the folder that it ran in."""
    folder = tmp_path_factory.mktemp("digits")
    return folder, run("01_digits.py", folder=folder)


def test_the_digits_are_learned(digits: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    folder, done = digits
    assert done.returncode == 0, done.stderr
    assert float(said(done, "test accuracy")) >= 0.97
    assert epochs(done) == list(range(int(said(done, "epochs"))))
    run_folder = folder / "runs/digits/version_0"
    assert Path(said(done, "logs")) == run_folder / "metrics.csv"
    assert Path(said(done, "best checkpoint")) in (run_folder / "checkpoints").glob("best-*.ckpt")
    assert re.fullmatch(r"\d+\.\d s", said(done, "time"))
    assert is_picture(Path(said(done, "curves")))


def test_the_digits_go_on_from_the_last_checkpoint(digits: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    folder, first = digits
    again = run("01_digits.py", "--resume", "--patience", "10", folder=folder)
    assert again.returncode == 0, again.stderr
    done = int(said(first, "epochs"))
    assert epochs(again) == list(range(done, int(said(again, "epochs"))))
    assert len(epochs(again)) >= 2
    assert said(again, "logs") == said(first, "logs")
    logged = re.findall(r"^(\d+),", Path(said(again, "logs")).read_text("utf-8"), re.MULTILINE)
    assert {int(epoch) for epoch in logged} >= set(range(int(said(again, "epochs"))))
    assert float(said(again, "test accuracy")) >= 0.97
    assert is_picture(Path(said(again, "curves")))


def test_the_digits_go_on_after_an_interrupt(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "error", str(FOLDER / "01_digits.py")]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as interrupted:
        for line in interrupted.stdout:
            if line.startswith("Epoch 2/"):
                interrupted.send_signal(signal.SIGINT)
                break
        _, complaints = interrupted.communicate()
    assert interrupted.returncode == 130
    assert re.fullmatch(r"lx: Ctrl-C ended the run in epoch \d+, .*To go on: trainer.fit\(.*ckpt_path='.*'\)", complaints.splitlines()[-1])
    again = run("01_digits.py", "--resume", "--patience", "1", folder=tmp_path)
    assert again.returncode == 0, again.stderr
    assert epochs(again)[0] >= 2, "the checkpoint of epoch 1 was there when epoch 2 was over"
    assert float(said(again, "test accuracy")) > 0.9


def test_there_must_be_a_run_to_go_on_from(tmp_path: Path) -> None:
    done = run("01_digits.py", "--resume", folder=tmp_path)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("--resume: no run in runs/digits has a checkpoint yet")
    assert list(tmp_path.iterdir()) == []


def test_a_model_is_served(tmp_path: Path) -> None:
    done = run("02_serve.py", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert said(done, "served at").startswith("http://127.0.0.1:")
    answer = json.loads(said(done, "answer"))
    assert answer["digit"] == int(said(done, "digit"))
    assert answer["certain"] > 0.5
    assert list(tmp_path.iterdir()) == []


def is_picture(path: Path) -> bool:
    """Whether a file is a PNG with more than a frame in it."""
    content = path.read_bytes()
    return content.startswith(b"\x89PNG") and len(content) > 20_000
