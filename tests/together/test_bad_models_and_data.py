"""Models and data that cannot be trained or evaluated: the error, what it says, and that nobody was called before it was known."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lx import Callback, LightningDataModule, LightningModule, Trainer
from lx.data import CombinedLoader
from lx.kernel.errors import ArgumentTypeError, ComponentTypeError, MisconfigurationException
from lx.testing import TinyDataModule, TinyModule

pytestmark = pytest.mark.filterwarnings("ignore:.*there is no validation loader")

CALLED: list[str] = []
ENTRY_POINTS = ("fit", "validate", "test", "predict")
PREFIX = {"fit": "train", "validate": "val", "test": "test", "predict": "predict"}


class Noting(Callback):
    """Notes when it is called."""

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        CALLED.append("callback.setup")

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        CALLED.append("callback.on_exception")


class Model(TinyModule):
    """Notes the hooks that are called before a loop begins."""

    def prepare_data(self) -> None:
        CALLED.append("prepare_data")

    def setup(self, stage: str) -> None:
        CALLED.append("setup")

    def teardown(self, stage: str) -> None:
        CALLED.append("teardown")

    def configure_callbacks(self) -> Any:
        CALLED.append("configure_callbacks")
        return []

    def configure_optimizers(self) -> Any:
        CALLED.append("configure_optimizers")
        return super().configure_optimizers()


class Bare(LightningModule):
    """A model with nothing but a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 1)

    def prepare_data(self) -> None:
        CALLED.append("prepare_data")


@pytest.fixture
def trainer(bare_trainer: Callable[..., Trainer], tmp_path: Path) -> Iterator[Trainer]:
    """A Trainer whose callback notes; afterwards nobody was called, and nothing was written."""
    CALLED.clear()
    yield bare_trainer(max_epochs=1, callbacks=[Noting()])
    assert CALLED == []
    assert os.listdir(tmp_path) == []


def loader(rows: int = 4) -> DataLoader[Any]:
    """Batches of one row of 8 numbers."""
    return DataLoader(torch.randn(rows, 8), batch_size=1)  # type: ignore[arg-type]


def model_with(**members: Any) -> Model:
    """A `Model` with some of its methods replaced."""
    return type("Model", (Model,), members)()


# -- the model -----------------------------------------------------------------------------------------------------------------


class OfAnotherLibrary(nn.Module):
    """Stands for a module made for Lightning."""


OfAnotherLibrary.__mro__[0].__name__ = "LightningModule"


@pytest.mark.parametrize("entry_point", ENTRY_POINTS)
@pytest.mark.parametrize(
    ("model", "said"),
    [
        (None, "needs a model, since no model was fitted before"),
        (Model, "takes a LightningModule of lx as its first argument, not the class Model. Did you mean Model(...)?"),
        (nn.Linear(8, 1), "not torch.nn.modules.linear.Linear. Wrap it: make it an attribute of a LightningModule whose steps call it."),
        ("model", "takes a LightningModule of lx as its first argument, not builtins.str."),
        (DataLoader([1]), "takes a LightningModule of lx as its first argument, not torch.utils.data.dataloader.DataLoader."),
        (OfAnotherLibrary(), "It derives from the LightningModule of another library; derive it from lx.LightningModule."),
    ],
)
def test_what_is_no_lightning_module_is_told_with_what_to_pass(trainer: Trainer, entry_point: str, model: Any, said: str) -> None:
    with pytest.raises(TypeError) as caught:
        getattr(trainer, entry_point)(model, loader())
    assert f"trainer.{entry_point}(" in str(caught.value)
    assert said in str(caught.value)
    assert isinstance(caught.value, MisconfigurationException)


def test_a_model_whose_init_does_not_call_that_of_its_base(trainer: Trainer) -> None:
    class Model(LightningModule):
        def __init__(self) -> None:
            pass

    with pytest.raises(MisconfigurationException, match=r"Model\.__init__ does not call super\(\)\.__init__\(\); call it first"):
        trainer.fit(Model(), loader())


@pytest.mark.parametrize(
    ("entry_point", "lacking"),
    [
        ("fit", "training_step(self, batch, batch_idx)"),
        ("fit", "configure_optimizers(self)"),
        ("validate", "validation_step(self, batch, batch_idx)"),
        ("test", "test_step(self, batch, batch_idx)"),
    ],
)
def test_a_step_or_hook_that_is_missing_is_named_with_its_signature(trainer: Trainer, entry_point: str, lacking: str) -> None:
    name = lacking.partition("(")[0]
    has = {"training_step": TinyModule.training_step} if name == "configure_optimizers" else {}
    model = type("Mine", (Bare,), has)()
    with pytest.raises(MisconfigurationException) as caught:
        getattr(trainer, entry_point)(model, loader())
    assert str(caught.value) == f"trainer.{entry_point} needs Mine.{name}, which is not defined: def {lacking}."


def test_prediction_needs_predict_step_or_forward(trainer: Trainer) -> None:
    with pytest.raises(MisconfigurationException, match=r"trainer\.predict needs Bare\.predict_step\(batch, batch_idx\), or forward\."):
        trainer.predict(Bare(), loader())


@pytest.mark.parametrize(
    ("entry_point", "step"), [("fit", "training_step"), ("validate", "validation_step"), ("test", "test_step"), ("predict", "predict_step")]
)
def test_a_step_takes_a_batch(trainer: Trainer, entry_point: str, step: str) -> None:
    model = model_with(**{step: lambda self: None})
    with pytest.raises(TypeError, match=rf"Model\.{step} has no parameter for the batch: def {step}\(self, batch, batch_idx\)"):
        getattr(trainer, entry_point)(model, loader())


@pytest.mark.parametrize(
    ("entry_point", "hook", "instead"),
    [
        ("fit", "training_epoch_end", "on_train_epoch_end"),
        ("fit", "validation_epoch_end", "on_validation_epoch_end"),
        ("test", "test_epoch_end", "on_test_epoch_end"),
        ("fit", "configure_sharded_model", "configure_model"),
    ],
)
def test_a_hook_of_other_times_is_told_with_its_successor(trainer: Trainer, entry_point: str, hook: str, instead: str) -> None:
    model = model_with(**{hook: lambda self, *outputs: None})
    with pytest.raises(NotImplementedError, match=rf"Model\.{hook} is never called; .*use {instead}\."):
        getattr(trainer, entry_point)(model, loader())


def test_a_training_step_that_waits_for_the_index_of_an_optimizer(trainer: Trainer) -> None:
    model = model_with(training_step=lambda self, batch, batch_idx, optimizer_idx: None)
    with pytest.raises(RuntimeError, match=r"parameter optimizer_idx, which is never passed: one loss has all optimizers step"):
        trainer.fit(model, loader())


@pytest.mark.parametrize(("entry_point", "step"), [("fit", "training_step"), ("validate", "validation_step"), ("predict", "predict_step")])
def test_a_step_that_waits_for_the_iterator_and_more_is_told_what_it_gets(trainer: Trainer, entry_point: str, step: str) -> None:
    model = model_with(**{step: lambda self, dataloader_iter, batch_idx: None})
    with pytest.raises(MisconfigurationException, match=rf"{step} takes dataloader_iter beside batch_idx; .*: def {step}\(self, dataload"):
        getattr(trainer, entry_point)(model, loader())


@pytest.mark.parametrize(("argument", "value"), [("gradient_clip_val", 1.0), ("accumulate_grad_batches", 2)])
def test_manual_optimization_clips_and_accumulates_by_hand(
    trainer: Trainer, bare_trainer: Callable[..., Trainer], argument: str, value: float
) -> None:
    model = Model()
    model.automatic_optimization = False
    with pytest.raises(MisconfigurationException, match=rf"Trainer\({argument}={value}\) does nothing in manual optimization; leave it"):
        bare_trainer(max_epochs=1, **{argument: value}).fit(model, loader(), loader())


@pytest.mark.parametrize(
    ("returned", "said"),
    [
        ([3], r"configure_callbacks returned \[3\]: 3 is no callback: pass a name, a component string or a Callback"),
        (Noting, r"configure_callbacks returned .*Did you mean Noting\(\.\.\.\)\?"),
        ("early_stoping(monitor='x')", r"there is no callback .*Did you mean 'early_stopping'"),
    ],
)
def test_callbacks_of_the_model_that_are_none(bare_trainer: Callable[..., Trainer], returned: Any, said: str) -> None:
    CALLED.clear()
    with pytest.raises(MisconfigurationException, match=said) as caught:
        bare_trainer(max_epochs=1).fit(model_with(configure_callbacks=lambda self: returned), loader())
    assert isinstance(caught.value, ComponentTypeError if not isinstance(returned, str) else ValueError)
    assert CALLED == []


# -- loaders and data modules --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("entry_point", ENTRY_POINTS)
def test_data_that_is_missing_is_named_with_the_ways_to_give_it(trainer: Trainer, entry_point: str) -> None:
    argument = "train_dataloaders" if entry_point == "fit" else "dataloaders"
    with pytest.raises(MisconfigurationException) as caught:
        getattr(trainer, entry_point)(Model())
    assert str(caught.value) == (
        f"trainer.{entry_point} needs data: pass {argument}= or datamodule=, or define {PREFIX[entry_point]}_dataloader in Model."
    )
    with pytest.raises(MisconfigurationException, match=rf"define {PREFIX[entry_point]}_dataloader in LightningDataModule"):
        getattr(trainer, entry_point)(Model(), datamodule=LightningDataModule())


@pytest.mark.parametrize("entry_point", ENTRY_POINTS)
@pytest.mark.parametrize("given", [5, "train", b"train", [loader(), 5], {"a": object()}])
def test_a_loader_that_cannot_be_iterated_is_refused_before_anything_is_called(trainer: Trainer, entry_point: str, given: Any) -> None:
    argument = "train_dataloaders" if entry_point == "fit" else "dataloaders"
    with pytest.raises(TypeError, match=rf"^{argument}: it must be an iterable of batches, such as a DataLoader, or a collection of these"):
        getattr(trainer, entry_point)(Model(), given)


def test_validation_loaders_are_looked_at_too(trainer: Trainer) -> None:
    with pytest.raises(TypeError, match=r"^val_dataloaders: it must be an iterable of batches, .*, not 7\.$"):
        trainer.fit(Model(), loader(), 7)
    with pytest.raises(TypeError, match=r"^train_dataloaders: DataLoader is a class; use an object of it, DataLoader\(\.\.\.\)\.$"):
        trainer.fit(Model(), DataLoader)


@pytest.mark.parametrize("returned", [None, 5, "train"])
def test_a_hook_that_returns_no_loader_is_named(bare_trainer: Callable[..., Trainer], returned: Any) -> None:
    class Data(TinyDataModule):
        def train_dataloader(self) -> Any:
            return returned

    for module, source in ((TinyModule(), Data()), (model_with(train_dataloader=lambda self: returned), None)):
        owner = type(source or module).__name__
        with pytest.raises(TypeError, match=rf"what {owner}\.train_dataloader\(\) returned: it must be an iterable .* not {returned!r}\.$"):
            bare_trainer(max_epochs=1, limit_val_batches=0).fit(module, datamodule=source)


@pytest.mark.parametrize("entry_point", ENTRY_POINTS)
@pytest.mark.parametrize(
    ("datamodule", "said"),
    [
        (TinyDataModule, r"takes a LightningDataModule of lx, not the class TinyDataModule\. Did you mean TinyDataModule\(\.\.\.\)\?"),
        (loader(), r"takes a LightningDataModule of lx, not a DataLoader\. Loaders are passed by the arguments for them\."),
        ("data", r"takes a LightningDataModule of lx, not a str\."),
    ],
)
def test_a_data_module_that_is_none_is_told_with_what_to_pass(trainer: Trainer, entry_point: str, datamodule: Any, said: str) -> None:
    with pytest.raises(ArgumentTypeError, match=rf"trainer\.{entry_point}\(datamodule=\.\.\.\) {said}"):
        getattr(trainer, entry_point)(Model(), datamodule=datamodule)


def test_a_class_of_data_modules_in_the_place_of_loaders(trainer: Trainer) -> None:
    with pytest.raises(ArgumentTypeError, match=r"not the class TinyDataModule\. Did you mean TinyDataModule\(\.\.\.\)\?"):
        trainer.fit(Model(), TinyDataModule)


@pytest.mark.parametrize("entry_point", ENTRY_POINTS)
def test_a_data_module_and_loaders_exclude_each_other(trainer: Trainer, entry_point: str) -> None:
    said = f"trainer.{entry_point}: loaders and a data module were both given; give one of the two."
    with pytest.raises(MisconfigurationException) as caught:
        getattr(trainer, entry_point)(Model(), loader(), datamodule=TinyDataModule())
    assert str(caught.value) == said
    with pytest.raises(MisconfigurationException, match="two data modules were given; give one"):
        getattr(trainer, entry_point)(Model(), TinyDataModule(), datamodule=TinyDataModule())


def test_a_data_module_whose_init_does_not_call_that_of_its_base_works(bare_trainer: Callable[..., Trainer]) -> None:
    class Data(TinyDataModule):
        def __init__(self) -> None:
            self.size, self.length, self.batch_size = 8, 4, 4

        def prepare_data(self) -> None:
            CALLED.append("data.prepare_data")

    CALLED.clear()
    bare_trainer(max_epochs=1).fit(TinyModule(), datamodule=Data())
    assert CALLED == ["data.prepare_data"]


def test_no_loaders_at_all_are_no_batches(bare_trainer: Callable[..., Trainer]) -> None:
    trainer = bare_trainer(max_epochs=1)
    with pytest.warns(UserWarning, match=r"a loader has no batches \(limit_train_batches limits it\)"):
        trainer.fit(model_with(validation_step=LightningModule.validation_step), [])
    assert trainer.global_step == 0


def test_a_generator_that_ends_with_the_first_epoch_is_warned_of(bare_trainer: Callable[..., Trainer]) -> None:
    trainer = bare_trainer(max_epochs=3)
    with pytest.warns(UserWarning, match="the training loader gave none. An iterator, such as a generator, can be gone through once; pass"):
        trainer.fit(TinyModule(), (torch.randn(2, 8) for _ in range(3)))
    assert (trainer.current_epoch, trainer.global_step) == (3, 3)


def test_a_data_set_in_the_place_of_a_loader_is_warned_of(bare_trainer: Callable[..., Trainer]) -> None:
    rows = TensorDataset(torch.randn(3, 1, 8), torch.randn(3, 1, 1))
    with pytest.warns(UserWarning, match="the train loader is a data set, so that each of its samples is a batch; wrap it in a DataLoader"):
        bare_trainer(max_epochs=1).fit(TinyModule(), rows)


# -- combined loaders ----------------------------------------------------------------------------------------------------------


def combined(mode: str) -> CombinedLoader:
    return CombinedLoader([loader(), loader()], mode)


def test_a_mode_of_combined_loaders_that_there_is_not() -> None:
    with pytest.raises(ValueError, match="CombinedLoader: mode='mean'; it must be one of min_size, max_size_cycle, max_size, sequential"):
        combined("mean")


def test_limits_and_loaders_of_combined_loaders_are_as_many_as_they_are() -> None:
    with pytest.raises(ValueError, match="CombinedLoader: 1 limits for 2 loaders"):
        combined("sequential").limits = [1]
    with pytest.raises(ValueError, match="CombinedLoader: 1 loaders cannot replace 2"):
        combined("sequential").flattened = [loader()]


def test_states_of_combined_loaders_are_as_many_as_have_one() -> None:
    with pytest.raises(RuntimeError, match="holds the states of 1 loaders, and 0 loaders here have one"):
        combined("min_size").load_state_dict([{}])


def test_the_mode_of_combined_loaders_fits_the_stage(trainer: Trainer) -> None:
    with pytest.raises(ValueError, match="to train on cannot have mode='sequential'; use 'min_size', 'max_size' or 'max_size_cycle'"):
        trainer.fit(Model(), combined("sequential"))
    with pytest.raises(ValueError, match="predict takes a CombinedLoader with mode='sequential' only, not mode='min_size'"):
        trainer.predict(Model(), combined("min_size"))


def test_a_step_tells_several_loaders_apart(bare_trainer: Callable[..., Trainer]) -> None:
    with pytest.raises(RuntimeError, match=r"2 loaders, and validation_step has no parameter dataloader_idx .*: def validation_step\(self"):
        bare_trainer().validate(TinyModule(), [loader(), loader()])
    required = model_with(validation_step=lambda self, batch, batch_idx, dataloader_idx: None)
    with pytest.raises(RuntimeError, match=r"one loader, and validation_step requires dataloader_idx; give it a default: dataloader_idx=0"):
        bare_trainer().validate(required, loader())


# -- how much of the data ------------------------------------------------------------------------------------------------------


def endless() -> Iterator[torch.Tensor]:
    while True:
        yield torch.randn(1, 8)


@pytest.mark.parametrize(
    ("arguments", "data", "error", "said"),
    [
        (
            {"limit_train_batches": 0.01},
            loader,
            MisconfigurationException,
            r"limit_train_batches=0\.01 of 4 batches .* at least 0\.25",
        ),
        ({"limit_val_batches": 0.01}, loader, MisconfigurationException, r"limit_val_batches=0\.01 of 4 batches is less than one batch"),
        (
            {"limit_train_batches": 0.5},
            endless,
            MisconfigurationException,
            r"limit_train_batches=0\.5 is a fraction, and the loader",
        ),
        (
            {"val_check_interval": 0.5},
            endless,
            MisconfigurationException,
            r"val_check_interval=0\.5 is a fraction, and the training",
        ),
        ({"val_check_interval": 9}, loader, ValueError, r"val_check_interval=9 is more than the 4 batches of an epoch; lower it, or count"),
    ],
)
def test_a_share_of_the_data_that_cannot_be_taken(
    bare_trainer: Callable[..., Trainer], arguments: dict[str, Any], data: Callable[[], Any], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        bare_trainer(max_epochs=1, **arguments).fit(TinyModule(), data(), loader())


# -- several processes -----------------------------------------------------------------------------------------------------------

TWO = """
import os, sys
from lx import LightningModule, Trainer
from lx.testing import TinyDataModule

print("STARTED", os.environ.get("LOCAL_RANK"), flush=True)
trainer = Trainer(accelerator="cpu", devices=2, strategy="ddp", barebones=True)
trainer.fit(LightningModule(), TinyDataModule())
"""


def test_a_model_that_cannot_be_trained_starts_no_process(tmp_path: Path) -> None:
    script = tmp_path / "two.py"
    script.write_text(TWO, "utf-8")
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1
    assert done.stdout.splitlines() == ["STARTED None"]
    assert "MisconfigurationException: trainer.fit needs LightningModule.training_step, which is not defined" in done.stderr
