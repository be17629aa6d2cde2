"""Real signals in real processes: how a program ends, what it leaves, and that a run that goes on from it ends as one never cut off."""

import json
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lx.testing.requires import requires

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="it requires signals that Windows does not have")

PROGRAM = """
import faulthandler, json, os, signal, sys, time, traceback

import torch

import lx.running.termination
from lx import Callback, Trainer
from lx.callbacks import ModelCheckpoint, OnExceptionCheckpoint
from lx.testing import TinyDataModule, TinyModule

TERM, USR1, INT = signal.SIGTERM, signal.SIGUSR1, signal.SIGINT


def send(number):
    os.kill(os.getpid(), number)


def tell(**values):
    print(json.dumps(values), flush=True)


def own(number):
    signal.signal(number, lambda *args: tell(heard=number))


class Model(TinyModule):
    def training_step(self, batch, batch_idx):
        inputs, targets = batch
        return super().training_step((torch.nn.functional.dropout(inputs, 0.2), targets), batch_idx)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)


class Data(TinyDataModule):
    def train_dataloader(self):
        return torch.utils.data.DataLoader(super().train_dataloader().dataset, batch_size=4, shuffle=True)


class At(Callback):
    '''Does something, once, when a hook is called for the given time.'''

    def __init__(self, hook, times, action):
        self.left = times
        self.action = action
        setattr(self, hook, self.called)

    def called(self, *args, **kwargs):
        self.left -= 1
        if self.left == 0:
            self.action()

    def on_exception(self, trainer, module, exception):
        tell(told=type(exception).__name__, code=exception.code, step=trainer.global_step)


def fit(*callbacks, ckpt_path=None, **options):
    quiet = dict.fromkeys(("logger", "enable_progress_bar", "enable_model_summary"), False)
    trainer = Trainer(accelerator="cpu", callbacks=[*callbacks], default_root_dir=".", **{"max_epochs": 3, **quiet, **options})
    module = Model()
    torch.manual_seed(ckpt_path is None)
    trainer.fit(module, Data(), ckpt_path=ckpt_path)
    tell(weights=[parameter.tolist() for parameter in module.parameters()], steps=trainer.global_step, resumed=str(trainer.ckpt_path))


def in_a_worker():
    child = os.fork()
    if not child:
        send(TERM)
        os._exit(7)
    tell(worker=os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))


def again(number, seconds=0.0):
    '''A signal that counts as a second one if so many seconds have passed.'''
    lx.running.termination.ECHO = seconds
    send(number)


def end_of(code):
    try:
        exec(code)
    except SystemExit as end:  # an interpreter that clears up takes longer than all the rest
        return end.code
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


os.chdir(sys.argv[1])
out = os.dup(1)
os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
fit(max_epochs=1)  # all that is imported late is imported here, once
os.dup2(out, 1)
for folder, code in json.load(sys.stdin):
    os.makedirs(folder, exist_ok=True)
    child = os.fork()
    if not child:
        os.chdir(folder)
        os.dup2(os.open("out", os.O_CREAT | os.O_WRONLY | os.O_TRUNC), 1)
        os.dup2(os.open("err", os.O_CREAT | os.O_WRONLY | os.O_TRUNC), 2)
        os._exit(end_of(code))
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    files = sorted(os.listdir(folder + "/checkpoints")) if os.path.isdir(folder + "/checkpoints") else []
    tell(code=code, files=files, out=open(folder + "/out").read(), err=open(folder + "/err").read())
"""

KEEPS = "ModelCheckpoint('checkpoints')"
MOMENTS = {
    "in an epoch": ("'on_train_batch_start', 6", "TERM", KEEPS, "interrupted.ckpt"),
    "between two epochs": ("'on_train_epoch_end', 2", "USR1", KEEPS, "epoch=1-step=8.ckpt"),  # that has just been saved
    "in a window": ("'on_train_batch_end', 6", "USR1", f"{KEEPS}, accumulate_grad_batches=3", "interrupted.ckpt"),
    "in a validation": ("'on_validation_batch_start', 5", "TERM", f"{KEEPS}, val_check_interval=2", "interrupted.ckpt"),
    "with last": ("'on_train_batch_end', 5", "TERM", "ModelCheckpoint('checkpoints', save_last=True)", "last.ckpt"),
}
"""Where a signal comes, which one, the arguments of the fit, and the file from which it goes on."""

IN_A_STEP = "At('on_train_batch_start', 2, lambda: {})"
SCENES = {
    "twice": f"fit({IN_A_STEP.format('[send(TERM), again(TERM)]')})",
    "and another": f"fit({IN_A_STEP.format('[send(TERM), again(USR1)]')})",
    "to the group, too": f"fit({IN_A_STEP.format('[send(TERM), again(TERM, 1e9)]')})",
    "while it is saved": f"fit({IN_A_STEP.format('send(TERM)')}, At('on_save_checkpoint', 1, lambda: again(TERM)))",
    "while an error is cleaned up": f"fit({IN_A_STEP.format('1 / 0')}, At('teardown', 1, lambda: send(TERM)))",
    "own SIGTERM": f"own(TERM); fit({IN_A_STEP.format('send(TERM)')})",
    "own SIGUSR1": f"own(USR1); fit({IN_A_STEP.format('send(USR1)')})",
    "faulthandler": f"faulthandler.register(USR1); fit({IN_A_STEP.format('send(USR1)')})",
    "Ctrl-C": f"fit({IN_A_STEP.format('send(INT)')})",
    "no checkpoints": f"fit({IN_A_STEP.format('send(TERM)')}, enable_checkpointing=False)",
    "weights only": f"fit({IN_A_STEP.format('send(TERM)')}, ModelCheckpoint('checkpoints', save_weights_only=True))",
    "fast_dev_run": f"fit({IN_A_STEP.format('send(TERM)')}, fast_dev_run=3)",
    "nothing trained": "fit(At('on_sanity_check_start', 1, lambda: send(TERM)))",
    "one callback of several": f"fit({IN_A_STEP.format('send(TERM)')}, {KEEPS}, OnExceptionCheckpoint('checkpoints'))",
    "a worker": "fit(At('on_train_batch_start', 2, in_a_worker))",
    "an error": f"fit({IN_A_STEP.format('1 / 0')})",
    "not a fit": (
        "Trainer(callbacks=At('on_validation_batch_start', 1, lambda: send(USR1)), logger=False, accelerator='cpu')"
        ".validate(Model(), TinyDataModule())"
    ),
}


class Ended:
    """How a program has ended, and what it left."""

    def __init__(self, code: int, files: list[str], out: str, err: str) -> None:
        self.code, self.files, self.err = code, files, err
        self.told: dict[str, Any] = {}
        for line in out.splitlines():
            self.told |= json.loads(line)
        self.said = [line for line in err.splitlines() if line.startswith("lx: ")]


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Ended]:
    """Each scene, run as a program of its own that need not import all anew."""
    folder = tmp_path_factory.mktemp("signals")
    scenes = dict(SCENES)
    for name, (when, which, arguments, file) in MOMENTS.items():
        scenes[f"{name}, never cut off"] = f"fit({arguments})"
        scenes[name] = f"fit(At({when}, lambda: send({which})), {arguments})"
        path = "last" if file == "last.ckpt" else "auto"
        scenes[f"{name}, resumed"] = f"os.chdir('../{name}'); fit({arguments}, ckpt_path={path!r}); tell(left=os.listdir('checkpoints'))"
    given = json.dumps([(str(folder / name), code) for name, code in scenes.items()])
    done = subprocess.run([sys.executable, "-c", PROGRAM, str(folder)], input=given, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return {name: Ended(**json.loads(line)) for name, line in zip(scenes, done.stdout.splitlines(), strict=True)}


@pytest.mark.parametrize("name", MOMENTS)
def test_a_fit_that_a_signal_ended_goes_on_to_the_same_end(name: str, ended: dict[str, Ended]) -> None:
    _, which, _, file = MOMENTS[name]
    number = signal.Signals[f"SIG{which}"]
    whole, cut, resumed = ended[f"{name}, never cut off"], ended[name], ended[f"{name}, resumed"]
    assert (cut.code, cut.told["told"], cut.told["code"]) == (128 + number, "SIGTERMException", 128 + number), cut.err
    assert file in cut.files
    assert cut.said[0] == f"lx: {number.name} came: the run ends at the next batch boundary; a second signal ends the process at once."
    assert re.fullmatch(rf"lx: {number.name} ended the run in .*ckpt_path='.*{file}'\)", cut.said[-1])
    assert (whole.code, resumed.code) == (0, 0), resumed.err
    assert resumed.told["resumed"].endswith(file)
    assert resumed.told["weights"] == whole.told["weights"]
    assert resumed.told["steps"] == whole.told["steps"]
    assert "interrupted.ckpt" not in resumed.told["left"], "nobody needs it any more"


CAME = "lx: SIGTERM came: the run ends at the next batch boundary; a second signal ends the process at once."


@pytest.mark.parametrize(
    ("name", "number", "last"),
    [
        ("twice", signal.SIGTERM, "lx: SIGTERM came after SIGTERM: the process ends at once, and leaves the rest undone."),
        ("and another", signal.SIGUSR1, "lx: SIGUSR1 came after SIGTERM: the process ends at once, and leaves the rest undone."),
        (
            "while it is saved",
            signal.SIGTERM,
            "lx: SIGTERM came after SIGTERM: the process ends at once, and leaves the rest undone (ModelCheckpoint.rescue).",
        ),
    ],
)
def test_a_second_signal_ends_the_process_at_once(name: str, number: int, last: str, ended: dict[str, Ended]) -> None:
    one = ended[name]
    assert (one.code, one.files, one.told) == (-number, [], {})
    assert one.said == [CAME, last]


def test_the_same_signal_at_the_same_time_is_no_second_one(ended: dict[str, Ended]) -> None:
    one = ended["to the group, too"]
    assert (one.code, one.files, len(one.said)) == (143, ["interrupted.ckpt"], 2)


def test_a_signal_while_an_error_is_cleaned_up_changes_nothing(ended: dict[str, Ended]) -> None:
    one = ended["while an error is cleaned up"]
    assert one.code == 1
    assert one.err.splitlines()[-1] == "ZeroDivisionError: division by zero"
    assert one.said == ["lx: SIGTERM came: the run is ending anyway (At.teardown); a second signal ends the process at once."]


def test_a_handler_of_the_program_keeps_its_meaning(ended: dict[str, Ended]) -> None:
    own, free, dumps = ended["own SIGTERM"], ended["own SIGUSR1"], ended["faulthandler"]
    assert (own.code, own.told["heard"], own.told["step"]) == (143, signal.SIGTERM, 2)
    assert (free.code, free.told["heard"], free.told["steps"], free.said) == (0, signal.SIGUSR1, 12, [])
    assert (dumps.code, dumps.told["steps"]) == (0, 12)
    assert "(most recent call first)" in dumps.err


@pytest.mark.parametrize("name", ["no checkpoints", "weights only", "fast_dev_run", "nothing trained"])
def test_where_nothing_can_be_gone_on_from_nothing_is_written(name: str, ended: dict[str, Ended]) -> None:
    one = ended[name]
    assert (one.code, one.files) == (143, [])
    assert one.said[-1].endswith("No checkpoint was written.")


def test_of_several_callbacks_one_saves(ended: dict[str, Ended]) -> None:
    assert ended["one callback of several"].files == ["on_exception.ckpt"]


def test_what_else_ends_a_run_saves_nothing_by_itself(ended: dict[str, Ended]) -> None:
    assert [(ended[name].code, ended[name].files) for name in ("Ctrl-C", "an error")] == [(130, []), (1, [])]


def test_the_workers_of_a_loader_do_not_mind_what_is_sent_to_the_group(ended: dict[str, Ended]) -> None:
    one = ended["a worker"]
    assert (one.code, one.told["worker"], one.told["steps"], one.said) == (0, 7, 12, [])


def test_outside_of_a_fit_sigusr1_does_what_it_always_did(ended: dict[str, Ended]) -> None:
    assert (ended["not a fit"].code, ended["not a fit"].said) == (-signal.SIGUSR1, [])


TWO = """
import os, signal, sys

from lx import Callback, Trainer
from lx.testing import TinyDataModule, TinyModule


class Told(Callback):
    def on_train_batch_start(self, trainer, *args):
        if trainer.global_step == 2 and trainer.global_rank == int(sys.argv[1]):
            os.kill(os.getpid(), signal.SIGTERM)

    def on_exception(self, trainer, module, exception):
        with open(f"told_{trainer.global_rank}", "w") as file:
            file.write(f"{exception.code} {trainer.global_step}")


if __name__ == "__main__":
    quiet = dict.fromkeys(("logger", "enable_progress_bar", "enable_model_summary"), False)
    trainer = Trainer(accelerator="cpu", devices=2, strategy="ddp", max_epochs=20, callbacks=[Told()], default_root_dir=".", **quiet)
    trainer.fit(TinyModule(), TinyDataModule(length=64))
"""


@requires(processes=2)
def test_a_signal_to_one_process_ends_all_after_the_same_step(tmp_path: Path) -> None:
    (tmp_path / "two.py").write_text(TWO)
    done = subprocess.run([sys.executable, "two.py", "1"], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 143, done.stderr
    first, second = ((tmp_path / f"told_{rank}").read_text() for rank in (0, 1))
    assert first == second
    assert first.startswith("143 ")
    assert (tmp_path / "checkpoints" / "interrupted.ckpt").exists()
    assert "ended with exit code" not in done.stderr
