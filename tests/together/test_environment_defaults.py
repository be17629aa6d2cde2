"""Arguments of a Trainer that come from environment variables."""

import logging
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lx import Trainer
from lx.kernel.errors import MisconfigurationException
from lx.testing.models import TinyDataModule, TinyModule

MakeTrainer = Callable[..., Trainer]


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("max_epochs", "7", 7),
        ("max_epochs", "7ep", 7),
        ("max_epochs", " 7 ", 7),
        ("max_steps", "-1", -1),
        ("limit_train_batches", "0.5", 0.5),
        ("limit_train_batches", "25%", 0.25),
        ("limit_val_batches", "1", 1),
        ("check_val_every_n_epoch", "None", None),
        ("fast_dev_run", "True", 1),
        ("gradient_clip_algorithm", "norm", "norm"),
        ("precision", "32", "32-true"),
        ("default_root_dir", "/tmp/runs", "/tmp/runs"),
    ],
)
@pytest.mark.parametrize("prefix", ["LX", "PL"])
def test_a_variable_gives_what_the_program_does_not(prefix: str, name: str, text: str, value: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    variable = f"{prefix}_TRAINER_{name.upper()}"
    monkeypatch.setenv(variable, text)
    trainer = Trainer(accelerator="cpu", logger=False)
    assert getattr(trainer, name) == value
    assert trainer.from_environment == {name: variable}


def test_a_parts_name_and_its_arguments_may_come_from_the_environment(bare_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LX_TRAINER_CALLBACKS", "early_stopping(monitor='val_loss', patience=5)")
    monkeypatch.setenv("LX_TRAINER_PROFILER", "simple")
    monkeypatch.setenv("LX_TRAINER_MAX_EPOCHS", "1")
    trainer = bare_trainer()
    assert trainer.early_stopping_callback.patience == 5
    trainer.fit(TinyModule(), datamodule=TinyDataModule())
    assert trainer.current_epoch == 1
    monkeypatch.setenv("LX_TRAINER_CALLBACKS", "[\"early_stopping(monitor='a')\", 'timer']")
    assert [type(callback).__name__ for callback in bare_trainer().callbacks] == ["EarlyStopping", "Timer"]


def test_the_program_wins_over_lx_and_lx_over_pl(bare_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PL_TRAINER_MAX_EPOCHS", "7")
    assert bare_trainer().max_epochs == 7
    monkeypatch.setenv("LX_TRAINER_MAX_EPOCHS", "5")
    assert bare_trainer().max_epochs == 5
    assert bare_trainer(max_epochs=3).max_epochs == 3
    assert bare_trainer(max_epochs=None).max_epochs is None
    monkeypatch.setenv("LX_TRAINER_MAX_EPOCHS", "")  # as good as none
    assert bare_trainer().max_epochs == 7


def test_explain_and_a_line_say_what_came_from_where(
    bare_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LX_TRAINER_MAX_EPOCHS", "7ep")
    monkeypatch.setenv("PL_TRAINER_PRECISION", "32-true")
    with caplog.at_level(logging.INFO, logger="lx"):
        trainer = bare_trainer()
    (line,) = (record.message for record in caplog.records if "environment" in record.message)
    assert line == "from the environment: precision='32-true' (PL_TRAINER_PRECISION), max_epochs='7ep' (LX_TRAINER_MAX_EPOCHS)."
    text = trainer.explain()
    assert re.search(r"^max_epochs +'7ep' +environment +LX_TRAINER_MAX_EPOCHS$", text, re.MULTILINE)
    assert re.search(r"^precision +'32-true' +environment +PL_TRAINER_PRECISION$", text, re.MULTILINE)
    assert capsys.readouterr().out == text + "\n"


@pytest.mark.parametrize(
    ("name", "text", "error", "said"),
    [
        ("max_steps", "abc", TypeError, "max_steps='abc': that is no number with a unit"),
        ("max_epochs", "-5", MisconfigurationException, "max_epochs=-5: it must be -1 or more"),
        ("enable_progress_bar", "false", TypeError, "enable_progress_bar='false': it must be True, False or None"),
        ("logger", "false", ValueError, "there is no logger 'false'"),
        ("callbacks", "early_stoping", ValueError, "there is no callback 'early_stoping'"),
        ("num_nodes", "0", ValueError, "num_nodes=0: it must be an integer, 1 or more"),
    ],
)
def test_an_error_names_the_variable(name: str, text: str, error: type[Exception], said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    variable = f"PL_TRAINER_{name.upper()}"
    monkeypatch.setenv(variable, text)
    monkeypatch.setenv("LX_TRAINER_MIN_EPOCHS", "1")  # of no concern
    with pytest.raises(error) as caught:
        Trainer(accelerator="cpu")
    message = str(caught.value)
    assert message.startswith(said)
    assert message.endswith(f"({name} comes from the environment variable {variable})")


def test_an_error_that_concerns_no_variable_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LX_TRAINER_MIN_EPOCHS", "1")
    with pytest.raises(MisconfigurationException) as caught:
        Trainer(accelerator="cpu", max_epochs=-5)
    assert "LX_TRAINER" not in str(caught.value)
    assert caught.value.__notes__ == ["(min_epochs comes from the environment variable LX_TRAINER_MIN_EPOCHS)"]


@pytest.mark.parametrize(
    ("variable", "said"),
    [
        ("LX_TRAINER_MAX_EPOCH", "the environment variable LX_TRAINER_MAX_EPOCH names no argument, .* Did you mean LX_TRAINER_MAX_EPOCHS?"),
        ("PL_TRAINER_GRADIENT_CLIP", "Did you mean PL_TRAINER_GRADIENT_CLIP_VAL?"),
        ("PL_TRAINER_GPUS", "Use devices, with accelerator='gpu'."),
        ("LX_TRAINER_ZZZ", "the environment variable LX_TRAINER_ZZZ names no argument, and changes nothing."),
        ("LX_TRAINER_MANAGER", "the environment variable LX_TRAINER_MANAGER names no argument"),
    ],
)
def test_a_variable_that_names_no_argument_is_warned_of_once(
    variable: str, said: str, bare_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lx.arguments.passing._told_of", set())
    monkeypatch.setenv(variable, "3")
    with pytest.warns(UserWarning, match=said) as told:
        bare_trainer()
    assert Path(told[0].filename).name == "conftest.py"  # the line that makes the Trainer
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        bare_trainer()


def test_variables_of_a_command_line_are_no_business_of_a_trainer(bare_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PL_TRAINER__MAX_EPOCHS", "3")
    assert bare_trainer().max_epochs is None


def test_the_model_is_still_not_passed_to_the_constructor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LX_TRAINER_MAX_EPOCHS", "3")
    with pytest.raises(TypeError, match="takes its arguments by name"):
        Trainer(TinyModule())
