"""A Trainer with an argument that cannot be: the class of the error, what it says, and that nothing was made before."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch

import lx
from bad_arguments import EXCLUDE_EACH_OTHER, OF_ANOTHER_TYPE, OUT_OF_RANGE
from lx import Callback, Trainer
from lx.kernel.errors import ArgumentTypeError, LxError, MisconfigurationException
from lx.testing.models import TinyModule


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


def refused(error: Any, exactly: bool = False, **arguments: Any) -> str:
    """What is said when a Trainer is made with such arguments, by an error that a program can catch as `error`."""
    callbacks = arguments.pop("callbacks", [])
    listed = callbacks if isinstance(callbacks, list) else [callbacks]
    with pytest.raises(error) as caught:
        Trainer(**{"accelerator": "cpu", "logger": False, **arguments, "callbacks": ["recorder", *listed]})
    assert isinstance(caught.value, MisconfigurationException)
    assert type(caught.value) is error or not exactly
    return str(caught.value)


@pytest.mark.parametrize(("name", "value", "error", "said"), OUT_OF_RANGE)
def test_a_value_out_of_range_is_named_with_what_is_accepted(name: str, value: Any, error: type[Exception], said: str) -> None:
    message = refused(error, exactly=True, **{name: value})
    assert message.startswith(f"{name}={value!r}")
    assert said in message
    assert Recorder.made == 0


@pytest.mark.parametrize(("name", "value", "said"), OF_ANOTHER_TYPE)
def test_a_value_of_another_type_is_named_with_what_is_accepted(name: str, value: Any, said: str) -> None:
    message = refused(ArgumentTypeError, exactly=True, **{name: value})
    assert message.startswith(f"{name}={value!r}: ")
    assert said in message
    assert Recorder.made == 0


@pytest.mark.parametrize(("arguments", "error", "said"), EXCLUDE_EACH_OTHER)
def test_arguments_that_exclude_each_other_are_both_named(arguments: dict[str, Any], error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said) as caught:
        Trainer(**{"accelerator": "cpu", **arguments})
    assert type(caught.value) is error


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
