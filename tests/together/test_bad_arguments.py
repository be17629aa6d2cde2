"""A Trainer with an argument that cannot be: the class of the error, what it says, and that nothing was made before."""

import os
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch

import lx
from lx import Callback, Trainer
from lx.kernel.errors import ArgumentTypeError, LxError, MisconfigurationException
from lx.testing.models import TinyModule

NAN = float("nan")
BATCHES = ("limit_train_batches", "limit_val_batches", "limit_test_batches", "limit_predict_batches")

# The argument, what is given, the classes by which a program may catch it, and the parts of what is said.
OUT_OF_RANGE = [
    ("devices", 0, MisconfigurationException, "at least one device; give a number, a list of indices or 'auto'"),
    ("devices", "0", MisconfigurationException, "at least one device; give a number"),
    ("devices", [], MisconfigurationException, "at least one device; give a number"),
    ("devices", -1, TypeError, "with the accelerator 'cpu' it is the number of processes, an integer above 0"),
    ("num_nodes", 0, ValueError, "it must be an integer, 1 or more"),
    ("fast_dev_run", -1, MisconfigurationException, "True, False or a number of batches, 0 or more"),
    ("max_epochs", -2, MisconfigurationException, "it must be -1 or more (-1: no bound)"),
    ("min_epochs", -1, MisconfigurationException, "it must be 0 or more"),
    ("max_steps", -2, MisconfigurationException, "it must be -1 or more (-1: no bound)"),
    ("min_steps", -1, MisconfigurationException, "it must be 0 or more"),
    ("max_time", "an hour", MisconfigurationException, "it takes a time ('90min'), epochs ('10ep'), optimizer steps ('200st') or batches"),
    ("max_time", timedelta(seconds=-1), MisconfigurationException, "it must not be negative"),
    *(
        (name, value, MisconfigurationException, "an int of 0 or more, or a float from 0.0 to 1.0")
        for name in BATCHES
        for value in (1.5, -1)
    ),
    ("limit_train_batches", NAN, MisconfigurationException, "a number of batches (int) or a fraction (float from 0.0 to 1.0)"),
    ("overfit_batches", -0.5, MisconfigurationException, "an int of 0 or more, or a float from 0.0 to 1.0"),
    ("val_check_interval", 1.5, MisconfigurationException, "an int of 0 or more, or a float from 0.0 to 1.0"),
    ("val_check_interval", 0, MisconfigurationException, "it must be 1 batch or more; limit_val_batches=0 turns validation off"),
    ("val_check_interval", "often", MisconfigurationException, "batches ('500ba'), epochs ('0.5ep', '2ep'), a share ('50%') or a time"),
    (
        "val_check_interval",
        "3st",
        MisconfigurationException,
        "optimizer steps cannot be given here; it takes a number without quotes, batches",
    ),
    ("max_epochs", "1h", MisconfigurationException, "a time cannot be given here; it takes a number without quotes or epochs ('10ep')"),
    ("val_check_interval", timedelta(0), MisconfigurationException, "longer than nothing"),
    ("check_val_every_n_epoch", 0, MisconfigurationException, "it must be 1 or more"),
    ("num_sanity_val_steps", -2, MisconfigurationException, "it must be -1 or more"),
    ("log_every_n_steps", -1, MisconfigurationException, "it must be 0 or more"),
    ("accumulate_grad_batches", 0, MisconfigurationException, "it must be 1 or more"),
    ("gradient_clip_val", -1.0, MisconfigurationException, "it must be 0 or more"),
    ("gradient_clip_val", NAN, MisconfigurationException, "it must be 0 or more"),
    ("gradient_clip_algorithm", "l2", MisconfigurationException, "it must be 'norm' or 'value'"),
    ("deterministic", "yes", MisconfigurationException, "it must be True, False, 'warn' or None"),
    ("reload_dataloaders_every_n_epochs", -1, MisconfigurationException, "it must be 0 or more"),
    (
        "model_registry",
        "mine",
        MisconfigurationException,
        "uploads them to no registry; leave it out, and copy trainer.checkpoint_callback",
    ),
]

NUMBER = "a number of batches (int) or a fraction (float from 0.0 to 1.0)"
OF_ANOTHER_TYPE = [
    ("devices", "gpu", "with the accelerator 'cpu' it is the number of processes, an integer above 0"),
    ("devices", 1.5, "an integer above 0"),
    ("devices", True, "an integer above 0"),
    ("devices", None, "an integer above 0"),
    ("devices", [0, 1], "an integer above 0"),
    ("devices", {"cpu": 1}, "an integer above 0"),
    ("fast_dev_run", "yes", "True, False or a number of batches"),
    ("fast_dev_run", 1.5, "True, False or a number of batches"),
    ("max_epochs", "10", "10 has no unit; it takes a number without quotes or epochs ('10ep')"),
    ("max_epochs", 2.0, "it must be an integer or None. Write max_epochs=2."),
    ("max_epochs", 1.5, "it must be an integer or None"),
    ("max_epochs", True, "it must be an integer or None"),
    ("min_epochs", "1", "1 has no unit; it takes a number without quotes or epochs ('10ep')"),
    ("max_steps", None, "it must be an integer. Use -1 for no bound."),
    ("max_steps", 1e3, "it must be an integer. Write max_steps=1000."),
    ("min_steps", 2.5, "it must be an integer or None"),
    ("max_time", 10, "a duration is '90min', '1h30min', '00:01:30:00'"),
    ("max_time", {"hour": 1}, "a duration is '90min', '1h30min', '00:01:30:00'"),
    *((name, value, NUMBER) for name in BATCHES for value in (True, [5])),
    *((name, "5", "5 has no unit; it takes a number without quotes, batches ('500ba') or a share ('50%')") for name in BATCHES),
    ("overfit_batches", None, NUMBER),
    ("val_check_interval", [1], NUMBER),
    ("val_check_interval", {"minute": 1}, "a duration is '90min', '1h30min', '00:01:30:00'"),
    ("check_val_every_n_epoch", 1.5, "it must be an integer or None"),
    ("num_sanity_val_steps", "all", "that is no number with a unit; it takes a number without quotes or batches ('500ba')"),
    ("log_every_n_steps", 0.5, "it must be an integer"),
    ("accumulate_grad_batches", "2", "2 has no unit; it takes a number without quotes or batches ('500ba')"),
    ("accumulate_grad_batches", {0: 2}, "it must be an integer. For a number that changes pass a function from the number of steps"),
    ("gradient_clip_val", "1", "it must be a number, 0 or more, or None"),
    ("reload_dataloaders_every_n_epochs", None, "it must be an integer"),
    ("default_root_dir", 3, "it must be a path, as a string or a Path, or None"),
    ("benchmark", "yes", "it must be True, False or None."),
    ("inference_mode", "no", "it must be True or False."),
    ("use_distributed_sampler", "no", "it must be True or False."),
    ("detect_anomaly", "no", "it must be True or False."),
    ("barebones", "no", "it must be True or False."),
    ("sync_batchnorm", "no", "it must be True or False."),
    ("enable_autolog_hparams", "no", "it must be True or False."),
    ("suggest_integrations", "no", "it must be True or False."),
    ("enable_checkpointing", "no", "it must be True, False or None. To choose which one, name it in callbacks."),
    ("enable_progress_bar", "tqdm", "it must be True, False or None. To choose which one, name it in callbacks."),
    ("enable_model_summary", "full", "it must be True, False or None. To choose which one, name it in callbacks."),
]

EXCLUDE_EACH_OTHER: list[tuple[dict[str, Any], type[Exception], str]] = [
    *(
        ({"barebones": True, name: value}, ValueError, rf"Trainer\(barebones=True, {name}=.*leave one of the two out")
        for name, value in {
            "logger": True,
            "enable_checkpointing": True,
            "enable_progress_bar": True,
            "enable_model_summary": True,
            "num_sanity_val_steps": 2,
            "log_every_n_steps": 5,
            "fast_dev_run": True,
            "detect_anomaly": True,
            "profiler": "simple",
        }.items()
    ),
    (
        {"val_check_interval": 0.5, "check_val_every_n_epoch": None},
        MisconfigurationException,
        "val_check_interval=0.5 is a fraction of an epoch, and check_val_every_n_epoch=None .*; give a number of batches",
    ),
    (
        {"enable_checkpointing": False, "callbacks": "model_checkpoint"},
        MisconfigurationException,
        "enable_checkpointing=False, and callbacks holds model_checkpoint; drop one of the two",
    ),
    (
        {"enable_progress_bar": False, "callbacks": ["tqdm"]},
        MisconfigurationException,
        "enable_progress_bar=False, and callbacks holds tqdm; drop one of the two",
    ),
    ({"callbacks": ["tqdm", "rich"]}, MisconfigurationException, r"callbacks holds 2 progress bars \(tqdm, rich_progress_bar\); give one"),
    (
        {"callbacks": ["early_stopping(monitor='a')", "early_stopping(monitor='a', patience=9)"]},
        RuntimeError,
        "two callbacks have the state_key .*EarlyStopping.*; give them different arguments, or override state_key",
    ),
]


class Recorder(Callback):
    """Counts how many of it were made, and notes what is called on them."""

    made = 0
    called: ClassVar[list[str]] = []

    def __init__(self) -> None:
        type(self).made += 1

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        self.called.append("setup")

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        self.called.append("on_exception")


@pytest.fixture(autouse=True)
def recorder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Recorder]]:
    """A component that tells whether it was made; afterwards, neither a file nor a process group may be there."""
    lx.registry.callback.add("recorder", Recorder)
    monkeypatch.setattr(Recorder, "made", 0)
    Recorder.called.clear()
    monkeypatch.chdir(tmp_path)
    threads, algorithms = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    yield Recorder
    assert os.listdir(tmp_path) == []
    assert Recorder.called == []
    assert not torch.distributed.is_initialized()
    assert (torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()) == (threads, algorithms)


def refused(error: Any, **arguments: Any) -> str:
    """What is said when a Trainer is made with such arguments, by an error that a program can catch as `error`."""
    callbacks = arguments.pop("callbacks", [])
    listed = callbacks if isinstance(callbacks, list) else [callbacks]
    with pytest.raises(error) as caught:
        Trainer(**{"accelerator": "cpu", "logger": False, **arguments, "callbacks": ["recorder", *listed]})
    return str(caught.value)


@pytest.mark.parametrize(("name", "value", "error", "said"), OUT_OF_RANGE)
def test_a_value_out_of_range_is_named_with_what_is_accepted(name: str, value: Any, error: type[Exception], said: str) -> None:
    message = refused(error, **{name: value})
    assert message.startswith(f"{name}={value!r}")
    assert said in message
    assert Recorder.made == 0


@pytest.mark.parametrize(("name", "value", "said"), OF_ANOTHER_TYPE)
def test_a_value_of_another_type_is_named_with_what_is_accepted(name: str, value: Any, said: str) -> None:
    message = refused(TypeError, **{name: value})
    assert message.startswith(f"{name}={value!r}: ")
    assert said in message
    assert Recorder.made == 0
    if name != "devices":
        refused(MisconfigurationException, **{name: value})


@pytest.mark.parametrize(("arguments", "error", "said"), EXCLUDE_EACH_OTHER)
def test_arguments_that_exclude_each_other_are_both_named(arguments: dict[str, Any], error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        Trainer(**{"accelerator": "cpu", **arguments})


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("max_epoch", "Trainer has no argument 'max_epoch'. Did you mean 'max_epochs'?"),
        ("gradient_clip", "Did you mean 'gradient_clip_val'?"),
        ("gpus", "Trainer has no argument 'gpus'. Use devices, with accelerator='gpu'."),
        ("resume_from_checkpoint", r"Use trainer.fit(model, ckpt_path=...)."),
        ("zzz", "Trainer has no argument 'zzz'. It takes: accelerator, strategy, devices, "),
    ],
)
def test_an_argument_of_another_name_is_answered_with_the_right_one(argument: str, said: str) -> None:
    message = refused(TypeError, **{argument: 1})
    assert said in message
    assert Recorder.made == 0


def test_arguments_are_passed_by_name_and_the_model_elsewhere() -> None:
    with pytest.raises(TypeError, match=r"Trainer takes its arguments by name, and got a TinyModule without one.* passed to fit, validate"):
        Trainer(TinyModule())


def test_what_can_be_caught_as_one_thing_of_lx() -> None:
    """Each of these is a `MisconfigurationException`, the name that programs written for Lightning catch, and a builtin."""
    assert issubclass(ArgumentTypeError, (MisconfigurationException, TypeError))
    with pytest.raises(LxError):
        Trainer(max_epochs="ten")


def test_what_was_set_by_a_trainer_that_failed_is_as_before() -> None:
    before = torch.backends.cudnn.benchmark
    refused(ValueError, deterministic=True, benchmark=not before, num_nodes=0)
    assert torch.backends.cudnn.benchmark is before


def test_numbers_and_switches_of_numpy_are_as_good_as_others() -> None:
    numpy = pytest.importorskip("numpy")
    trainer = Trainer(
        accelerator="cpu",
        barebones=numpy.bool_(True),
        gradient_clip_val=numpy.float32(0.5),
        max_steps=numpy.int64(7),
        accumulate_grad_batches=numpy.int32(2),
        limit_train_batches=numpy.float32(0.5),
        limit_val_batches=numpy.int64(1),
    )
    assert (bool(trainer.barebones), trainer.gradient_clip_val) == (True, 0.5)
    limits = trainer.limits
    read = (limits.max_steps, limits.accumulate_grad_batches, limits.limit_train_batches, limits.limit_val_batches)
    assert read == (7, 2, 0.5, 1)
    assert [type(value) for value in read] == [int, int, float, int]


def test_a_url_as_the_root_folder_is_kept_and_refused_by_what_writes_files() -> None:
    with pytest.raises(MisconfigurationException, match=r"save_dir='s3://bucket/runs' is no folder of this machine.*Pass a local path"):
        Trainer(accelerator="cpu", logger="csv", default_root_dir="s3://bucket/runs")
    assert Trainer(accelerator="cpu", barebones=True, default_root_dir="s3://bucket/runs").default_root_dir == "s3://bucket/runs"
