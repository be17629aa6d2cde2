"""Checkpoints that cannot be had, read or used: the error, what it says, and that nobody was called and nothing written before."""

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.optim import LBFGS, SGD, Adam, Optimizer
from torch.optim.lr_scheduler import StepLR

from lx import Callback, Trainer
from lx.kernel.errors import (
    ArgumentTypeError,
    CheckpointCorruptError,
    CheckpointDirectoryError,
    CheckpointKeyError,
    CheckpointMismatchError,
    CheckpointNotFoundError,
    MisconfigurationException,
)
from lx.testing import TinyDataModule, TinyModule

CALLED: list[str] = []
ENTRY_POINTS = ("fit", "validate", "test", "predict")


class Model(TinyModule):
    """Notes the hooks that come after the checkpoint has been read."""

    def prepare_data(self) -> None:
        CALLED.append("prepare_data")

    def setup(self, stage: str) -> None:
        CALLED.append("setup")

    def teardown(self, stage: str) -> None:
        CALLED.append("teardown")

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        CALLED.append("on_load_checkpoint")

    def configure_optimizers(self) -> Any:
        CALLED.append("configure_optimizers")
        return super().configure_optimizers()


class Noting(Callback):
    """Notes when it is called."""

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        CALLED.append("callback.setup")

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        CALLED.append("callback.on_exception")


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two checkpoints that a fit of two epochs wrote: `whole.ckpt`, and `weights.ckpt` without all but the weights."""
    folder = tmp_path_factory.mktemp("written")
    trainer = Trainer(accelerator="cpu", barebones=True, max_epochs=2, default_root_dir=folder)
    with pytest.warns(UserWarning, match="barebones"):
        trainer.fit(TinyModule(), TinyDataModule())
    trainer.save_checkpoint(folder / "whole.ckpt")
    trainer.save_checkpoint(folder / "weights.ckpt", weights_only=True)
    return folder


@pytest.fixture
def refused(bare_trainer: Callable[..., Trainer], tmp_path: Path) -> Callable[..., str]:
    """What an entry point says to a `ckpt_path`, when nobody was called and nothing was written."""

    def run(error: Any, ckpt_path: Any, entry_point: str = "fit", **arguments: Any) -> str:
        CALLED.clear()
        before = sorted(os.listdir(tmp_path))
        trainer = bare_trainer(**{"max_epochs": 2, "callbacks": [Noting()], **arguments})
        with pytest.raises(error) as caught:
            getattr(trainer, entry_point)(Model(), TinyDataModule(), ckpt_path=ckpt_path)
        assert CALLED == []
        assert sorted(os.listdir(tmp_path)) == before
        return str(caught.value)

    return run


# -- where it is ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("entry_point", ENTRY_POINTS)
def test_a_checkpoint_that_does_not_exist(refused: Callable[..., str], written: Path, tmp_path: Path, entry_point: str) -> None:
    message = refused(CheckpointNotFoundError, written / "whle.ckpt", entry_point)
    assert message == (
        f"there is no checkpoint {str(written / 'whle.ckpt')!r}. The folder {str(written)!r} holds 'weights.ckpt', 'whole.ckpt'."
    )
    assert "There is no folder" in refused(FileNotFoundError, str(tmp_path / "nowhere" / "a.ckpt"), entry_point)


@pytest.mark.parametrize("entry_point", ENTRY_POINTS)
def test_a_directory_is_no_checkpoint(refused: Callable[..., str], written: Path, entry_point: str) -> None:
    message = refused(CheckpointDirectoryError, written, entry_point)
    assert message.startswith(f"{str(written)!r} is a directory, and the checkpoint I/O 'torch_io' reads files. Name a file in it")
    assert message.endswith(f"The folder {str(written)!r} holds 'weights.ckpt', 'whole.ckpt'.")
    refused(OSError, written, entry_point)


@pytest.mark.parametrize("entry_point", ENTRY_POINTS)
@pytest.mark.parametrize("path", [3, True, ["a.ckpt"]])
def test_what_is_no_path(refused: Callable[..., str], entry_point: str, path: Any) -> None:
    assert refused(ArgumentTypeError, path, entry_point) == f"ckpt_path={path!r}: it must be a path, 'auto', 'best', 'last', 'hpc' or None."
    refused(TypeError, path, entry_point)


def test_the_path_of_a_callback_that_has_saved_nothing(refused: Callable[..., str]) -> None:
    message = refused(ValueError, "", "test")
    assert message.startswith("trainer.test(ckpt_path=''): the path is empty, as best_model_path of a callback is while nothing has been")


def test_a_url_that_cannot_be_reached(refused: Callable[..., str]) -> None:
    message = refused(MisconfigurationException, "acme://bucket/a.ckpt")
    assert "'acme://bucket/a.ckpt' is a URL that cannot be used here: Protocol not known: acme" in message


@pytest.mark.parametrize("path", ["registry", "registry:name:version:3", "Registry:name"])
def test_a_registry_of_models(refused: Callable[..., str], path: str) -> None:
    message = refused(MisconfigurationException, path)
    assert message.startswith(f"ckpt_path={path!r}: lx has no model registry; download the checkpoint with the client of the registry, and")


@pytest.mark.parametrize("entry_point", ENTRY_POINTS)
def test_weights_only_is_yes_or_no(bare_trainer: Callable[..., Trainer], written: Path, entry_point: str) -> None:
    with pytest.raises(ArgumentTypeError, match="weights_only='yes': it must be True, False or None"):
        getattr(bare_trainer(max_epochs=3), entry_point)(
            TinyModule(), TinyDataModule(), ckpt_path=written / "whole.ckpt", weights_only="yes"
        )


# -- which one -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("entry_point", ENTRY_POINTS)
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({}, "no callback writes checkpoints, so there is no best one; add 'model_checkpoint' to callbacks"),
        ({"enable_checkpointing": True}, "no checkpoint has been saved yet, so there is no best one; call fit first"),
        ({"enable_checkpointing": True, "fast_dev_run": True}, "fast_dev_run saves no checkpoint, so there is no best one"),
    ],
)
def test_there_is_no_best_one(refused: Callable[..., str], entry_point: str, arguments: dict[str, Any], said: str) -> None:
    message = refused(ValueError, "best", entry_point, **arguments)
    assert message.startswith("ckpt_path='best': ")
    assert said in message


def test_there_is_none_of_a_job_that_was_queued_again(refused: Callable[..., str], written: Path, tmp_path: Path) -> None:
    message = refused(ValueError, "hpc")
    assert message.startswith(f"ckpt_path='hpc': there is no file hpc_ckpt_<number>.ckpt in {str(tmp_path)!r} (default_root_dir)")


def test_the_newest_of_a_job_that_was_queued_again(bare_trainer: Callable[..., Trainer], written: Path, tmp_path: Path) -> None:
    for number in (2, 10):
        (tmp_path / f"hpc_ckpt_{number}.ckpt").write_bytes((written / "whole.ckpt").read_bytes() if number == 10 else b"damaged")
    trainer = bare_trainer(max_epochs=3)
    trainer.fit(TinyModule(), TinyDataModule(), ckpt_path="hpc")
    assert (trainer.current_epoch, trainer.global_step) == (3, 12)


def test_there_is_no_last_one_yet(bare_trainer: Callable[..., Trainer]) -> None:
    trainer = bare_trainer(max_epochs=1)
    with pytest.warns(UserWarning, match="ckpt_path='last': there is no last checkpoint yet; the run starts from scratch"):
        trainer.fit(TinyModule(), TinyDataModule(), ckpt_path="last")
    assert trainer.global_step == 4


@pytest.mark.parametrize("entry_point", ["validate", "test", "predict"])
def test_without_a_model_and_without_checkpoints_there_is_nothing_to_evaluate(
    bare_trainer: Callable[..., Trainer], entry_point: str
) -> None:
    trainer = bare_trainer(max_epochs=1)
    trainer.fit(TinyModule(), TinyDataModule())
    said = rf"trainer\.{entry_point}\(\) without a model evaluates the best checkpoint, and no callback writes checkpoints; pass the model"
    with pytest.raises(ValueError, match=said):
        getattr(trainer, entry_point)(datamodule=TinyDataModule())


# -- what is in it -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("entry_point", ENTRY_POINTS)
@pytest.mark.parametrize("share", [0, 1, 3, 4, 30, 0.1, 0.5, 0.9, -50, -1])
def test_a_truncated_checkpoint(refused: Callable[..., str], written: Path, tmp_path: Path, share: float, entry_point: str) -> None:
    whole = (written / "whole.ckpt").read_bytes()
    damaged = tmp_path / "damaged.ckpt"
    damaged.write_bytes(whole[: int(share * len(whole)) if isinstance(share, float) else share])
    message = refused(CheckpointCorruptError, damaged, entry_point)
    assert message.startswith(f"the checkpoint {str(damaged)!r} cannot be read: ")
    assert message.endswith("It is truncated, damaged, or no checkpoint; use another one.")
    refused(RuntimeError, damaged, entry_point)


def test_one_bit_that_has_turned(refused: Callable[..., str], written: Path, tmp_path: Path) -> None:
    content = bytearray((written / "whole.ckpt").read_bytes())
    content[content.index(b"layer.weight")] ^= 1
    (tmp_path / "damaged.ckpt").write_bytes(content)
    assert "its content and its digest differ" in refused(CheckpointCorruptError, tmp_path / "damaged.ckpt")


@pytest.mark.parametrize("entry_point", ENTRY_POINTS)
@pytest.mark.parametrize(
    ("write", "error", "said"),
    [
        (lambda path: path.write_text("epoch 3\n" * 20), CheckpointCorruptError, "it does not begin as a file of torch.save does"),
        (lambda path: path.write_bytes(pickle.dumps([1, 2])), CheckpointCorruptError, "it does not begin as a file of torch.save does"),
        (lambda path: torch.save([1, 2], path), CheckpointCorruptError, "is no checkpoint: it holds a list, not a dictionary"),
        (lambda path: torch.save({}, path), CheckpointKeyError, "is no checkpoint of a Trainer: it holds nothing, and no 'state_dict'"),
        (
            lambda path: torch.save(TinyModule().state_dict(), path),
            CheckpointKeyError,
            "it holds 'layer.weight', 'layer.bias', and no 'state_dict'; use one that fit or trainer.save_checkpoint wrote. These are bare"
            " weights: model.load_state_dict(torch.load(path)) loads them.",
        ),
    ],
)
def test_a_file_that_is_no_checkpoint(
    refused: Callable[..., str], tmp_path: Path, write: Any, error: type[Exception], said: str, entry_point: str
) -> None:
    write(tmp_path / "other.ckpt")
    message = refused(error, tmp_path / "other.ckpt", entry_point)
    assert repr(str(tmp_path / "other.ckpt")) in message
    assert said in message


def test_a_checkpoint_with_objects_that_are_not_allowed(refused: Callable[..., str], tmp_path: Path) -> None:
    torch.save({"state_dict": {}, "object": CheckpointKeyError("any class")}, tmp_path / "objects.ckpt")
    message = refused(Exception, tmp_path / "objects.ckpt")
    assert "pass weights_only=False, or allow its classes" in message


# -- whether it fits -------------------------------------------------------------------------------------------------------------


def test_fit_does_not_go_on_from_weights_alone(refused: Callable[..., str], written: Path) -> None:
    message = refused(CheckpointKeyError, written / "weights.ckpt")
    assert message.startswith(
        f"{str(written / 'weights.ckpt')!r} cannot be resumed from: it holds no 'optimizer_states'; it was saved with"
    )
    assert message.endswith("which is enough for validate, test and predict, and not for going on with fit.")
    refused(KeyError, written / "weights.ckpt")


@pytest.mark.parametrize("entry_point", ["validate", "test", "predict"])
def test_weights_alone_are_enough_to_evaluate(bare_trainer: Callable[..., Trainer], written: Path, entry_point: str) -> None:
    assert getattr(bare_trainer(), entry_point)(TinyModule(), TinyDataModule(), ckpt_path=written / "weights.ckpt")


def test_a_checkpoint_that_does_not_say_how_far_fit_was(refused: Callable[..., str], tmp_path: Path) -> None:
    torch.save({"state_dict": {}, "optimizer_states": [], "lr_schedulers": [], "loops": {}}, tmp_path / "loops.ckpt")
    message = refused(CheckpointKeyError, tmp_path / "loops.ckpt")
    assert "cannot be resumed from: its 'loops' hold no 'fit_loop', which says how far fit was; use one that fit wrote" in message


def test_a_checkpoint_that_is_farther_on_than_fit_is_to_go(refused: Callable[..., str], written: Path) -> None:
    message = refused(MisconfigurationException, written / "whole.ckpt", max_epochs=1)
    assert message.endswith("was written after 2 epochs, and max_epochs=1 is less; raise max_epochs to go on.")


@pytest.mark.parametrize("entry_point", ENTRY_POINTS)
def test_weights_of_another_model(bare_trainer: Callable[..., Trainer], written: Path, tmp_path: Path, entry_point: str) -> None:
    trainer = bare_trainer(max_epochs=3)
    with pytest.raises(CheckpointMismatchError) as caught:
        getattr(trainer, entry_point)(TinyModule(size=5), TinyDataModule(size=5), ckpt_path=written / "whole.ckpt")
    message = str(caught.value)
    assert message.startswith("the weights in the checkpoint do not fit the model: ")
    assert "size mismatch for layer.weight" in message
    assert "Make the model with the arguments that it was saved with (load_from_checkpoint does)" in message
    assert isinstance(caught.value, RuntimeError)
    assert os.listdir(tmp_path) == []


def configuring(make: Callable[[Any], Any]) -> TinyModule:
    """A model with other optimizers or schedulers."""
    return type("Model", (TinyModule,), {"configure_optimizers": make})()


def sgd(self: Any, *groups: Any) -> Optimizer:
    return SGD([*groups] or self.parameters(), lr=0.1)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda self: Adam(self.parameters()), "made Adam, and the checkpoint holds the state of another optimizer: it lacks betas, eps"),
        (
            lambda self: sgd(self, {"params": [self.layer.weight]}, {"params": [self.layer.bias]}),
            "the state of SGD in the checkpoint does not fit: .* Resume with the optimizer that wrote it, or load the weights alone",
        ),
        (lambda self: None, "the checkpoint holds 1 optimizers, and configure_optimizers made 0; resume with the model that wrote it"),
        (
            lambda self: {"optimizer": (own := sgd(self)), "lr_scheduler": StepLR(own, 1)},
            "the checkpoint holds 0 schedulers, and configure_optimizers made 1; resume with the model that wrote it",
        ),
    ],
)
@pytest.mark.filterwarnings("ignore:configure_optimizers returned None")
def test_states_of_other_optimizers_and_schedulers(
    bare_trainer: Callable[..., Trainer], written: Path, tmp_path: Path, make: Any, said: str
) -> None:
    trainer = bare_trainer(max_epochs=3)
    with pytest.raises(CheckpointMismatchError, match=said) as caught:
        trainer.fit(configuring(make), TinyDataModule(), ckpt_path=written / "whole.ckpt")
    assert isinstance(caught.value, ValueError)
    assert trainer.global_step in (0, 8)  # no batch was trained on
    assert os.listdir(tmp_path) == []


class Plain(Optimizer):
    """An optimizer of one's own, with no option but the learning rate."""

    def __init__(self, parameters: Any) -> None:
        super().__init__(parameters, {"lr": 0.1})

    def step(self, closure: Any) -> None:  # type: ignore[override]
        closure()
        for parameter in self.param_groups[0]["params"]:
            parameter.data -= self.param_groups[0]["lr"] * parameter.grad


@pytest.mark.parametrize("kind", [LBFGS, Plain])
def test_optimizers_with_few_options_go_on(bare_trainer: Callable[..., Trainer], tmp_path: Path, kind: Any) -> None:
    """While torch loads a state it adds options to their defaults, which the state cannot have."""
    model = configuring(lambda self: kind(self.parameters()))
    first, second = bare_trainer(max_epochs=1), bare_trainer(max_epochs=2)
    first.fit(model, TinyDataModule())
    first.save_checkpoint(tmp_path / "first.ckpt")
    second.fit(model, TinyDataModule(), ckpt_path=tmp_path / "first.ckpt")
    assert second.global_step == 2 * first.global_step > 0


def test_a_second_fit_that_is_refused_leaves_the_first_alone(bare_trainer: Callable[..., Trainer], tmp_path: Path) -> None:
    """Above all, a callback that saves when a run fails does not save for a run that never began."""
    trainer = bare_trainer(
        max_epochs=1, enable_checkpointing=None, callbacks=[f"on_exception_checkpoint(dirpath={str(tmp_path)!r})", Noting()]
    )
    model = Model()
    trainer.fit(model, TinyDataModule())
    CALLED.clear()
    with pytest.raises(CheckpointNotFoundError):
        trainer.fit(model, TinyDataModule(), ckpt_path=tmp_path / "nope.ckpt")
    assert CALLED == []
    assert list(tmp_path.glob("on_exception*")) == []
    assert (trainer.interrupted, trainer.global_step) == (True, 4)
    trainer.validate(model, TinyDataModule(), verbose=False)
    assert not trainer.interrupted
