"""What users read from a Trainer, before, within and after each entry point; the names are those of Lightning's documentation."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from lx import Callback, Trainer
from lx.kernel.errors import ArgumentTypeError, MisconfigurationException
from lx.loggers import CSVLogger, TensorBoardLogger
from lx.state import RunningStage, TrainerFn, TrainerStatus
from lx.testing import FakeLogger, TinyDataModule, TinyModule

PROPERTIES = """
    accelerator strategy precision precision_plugin scaler global_rank local_rank node_rank world_size num_nodes num_devices device_ids
    lightning_module model optimizers lr_scheduler_configs is_global_zero distributed_sampler_kwargs enable_validation default_root_dir
    early_stopping_callback early_stopping_callbacks checkpoint_callback checkpoint_callbacks progress_bar_callback ckpt_path evaluating
    training testing validating predicting sanity_checking received_sigterm interrupted global_step current_epoch max_epochs min_epochs
    max_steps min_steps is_last_batch train_dataloader val_dataloaders test_dataloaders predict_dataloaders num_training_batches
    num_sanity_val_batches num_val_batches num_test_batches num_predict_batches logger loggers callback_metrics logged_metrics
    progress_bar_metrics log_dir
"""
ATTRIBUTES = """
    callbacks should_stop state datamodule accumulate_grad_batches fast_dev_run limit_train_batches limit_val_batches limit_test_batches
    limit_predict_batches overfit_batches profiler fit_loop validate_loop test_loop predict_loop gradient_clip_val
    gradient_clip_algorithm log_every_n_steps val_check_interval val_check_batch check_val_every_n_epoch num_sanity_val_steps
    reload_dataloaders_every_n_epochs barebones enable_autolog_hparams
"""
SHOWN = """
    accelerator strategy precision precision_plugin scaler global_rank local_rank node_rank world_size num_nodes num_devices device_ids
    is_global_zero distributed_sampler_kwargs enable_validation early_stopping_callback early_stopping_callbacks checkpoint_callback
    checkpoint_callbacks progress_bar_callback evaluating interrupted global_step current_epoch max_epochs min_epochs max_steps min_steps
    is_last_batch num_training_batches num_sanity_val_batches num_val_batches num_test_batches num_predict_batches callback_metrics
    logged_metrics progress_bar_metrics estimated_stepping_batches log_dir fast_dev_run overfit_batches val_check_batch
"""
"""Those whose value is somebody else's, so that setting them would change nothing."""


class Reads(Callback):
    """Reads some attributes whenever one of its hooks is called."""

    def __init__(self, *names: str, hooks: str) -> None:
        self.read: dict[str, list[Any]] = {}
        for hook in hooks.split():
            setattr(self, hook, self._reader(hook, names))

    def _reader(self, hook: str, names: tuple[str, ...]) -> Callable[..., None]:
        def read(trainer: Trainer, *args: Any, **kwargs: Any) -> None:
            self.read.setdefault(hook, []).append(tuple(getattr(trainer, name) for name in names))

        return read


class Logs(TinyModule):
    """Logs a value for the bar, and one for nobody."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss = self.loss(batch)
        self.log("bar", loss, prog_bar=True)
        self.log("kept", loss, logger=False)
        self.log("sent", loss)
        return loss


def rows(count: int, batch_size: int = 4) -> DataLoader[Any]:
    """A loader over ones."""
    return DataLoader(torch.ones(count, 8), batch_size=batch_size)  # type: ignore[arg-type]


def test_every_attribute_can_be_read_before_within_and_after_a_run(bare_trainer: Callable[..., Trainer]) -> None:
    names = (PROPERTIES + ATTRIBUTES).split()
    within = Reads(*names, "estimated_stepping_batches", hooks="on_train_batch_end on_validation_batch_end")
    outside = Reads(*names, hooks="setup on_test_batch_end on_predict_batch_end teardown")
    trainer = bare_trainer(max_epochs=2, callbacks=[within, outside])
    for name in names:
        getattr(trainer, name)
    with pytest.raises(MisconfigurationException, match="estimated_stepping_batches counts the batches of a fit; ask for it within one"):
        _ = trainer.estimated_stepping_batches
    module, data = TinyModule(), TinyDataModule()
    trainer.fit(module, data)
    for entry in ("validate", "test", "predict"):
        getattr(trainer, entry)(module, datamodule=data)
    assert {hook: len(calls) for hook, calls in {**within.read, **outside.read}.items()} == {
        "setup": 4,
        "on_train_batch_end": 8,
        "on_validation_batch_end": 2 + 8 + 4,
        "on_test_batch_end": 4,
        "on_predict_batch_end": 4,
        "teardown": 4,
    }
    for name in (*names, "estimated_stepping_batches"):
        getattr(trainer, name)


def test_what_is_only_shown_cannot_be_set(bare_trainer: Callable[..., Trainer]) -> None:
    trainer = bare_trainer(max_epochs=1)
    for name in SHOWN.split():
        with pytest.raises(AttributeError):
            setattr(trainer, name, 7)
    with pytest.raises(AttributeError, match=r"^Trainer\.max_epochs cannot be set: it shows what fit_loop\.max_epochs is\.$"):
        trainer.max_epochs = 7


def test_limits_may_be_set_between_runs_and_are_checked(bare_trainer: Callable[..., Trainer]) -> None:
    trainer, module, data = bare_trainer(max_epochs=1, num_sanity_val_steps=-1), TinyModule(), TinyDataModule()
    trainer.limit_train_batches, trainer.limit_val_batches, trainer.limit_test_batches = 3, 0.5, None
    trainer.limit_predict_batches = "1ba"
    trainer.val_check_interval = 2
    assert trainer.num_sanity_val_steps == math.inf
    trainer.num_sanity_val_steps = trainer.log_every_n_steps = trainer.reload_dataloaders_every_n_epochs = 1
    trainer.check_val_every_n_epoch = None
    trainer.fit(module, data)
    assert (trainer.num_training_batches, trainer.num_val_batches, trainer.num_sanity_val_batches) == (3, [2], [1])
    assert trainer.val_check_batch == 2
    assert len(trainer.predict(module, data)) == 1
    for name, wrong in {"limit_val_batches": 1.5, "val_check_interval": 0, "log_every_n_steps": "x", "check_val_every_n_epoch": 0}.items():
        before = getattr(trainer, name)
        with pytest.raises(MisconfigurationException, match=name):
            setattr(trainer, name, wrong)
        assert getattr(trainer, name) == before
    trainer.sanity_checking = True
    assert trainer.state.stage is RunningStage.SANITY_CHECKING


def test_loaders_are_as_they_were_given_and_counted(bare_trainer: Callable[..., Trainer]) -> None:
    class Several(TinyModule):
        def test_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Tensor:
            return self.loss(batch)

    module: Any = Several()
    trainer: Any = bare_trainer(max_epochs=1, num_sanity_val_steps=1)
    train, val = rows(8), rows(12)
    trainer.fit(module, train, val)
    assert (trainer.train_dataloader, trainer.val_dataloaders) == (train, val)
    assert (trainer.num_training_batches, trainer.num_val_batches, trainer.num_sanity_val_batches) == (2, [3], [1])
    assert trainer.estimated_stepping_batches == trainer.global_step == 2
    several = [rows(4), rows(8)]
    trainer.test(module, several, verbose=False)
    assert trainer.test_dataloaders == several
    assert trainer.num_test_batches == trainer.test_loop.max_batches == [1, 2]
    assert trainer.test_loop.num_dataloaders == 2
    trainer.validate(module, rows(4), verbose=False)
    assert (trainer.num_val_batches, trainer.validate_loop.batch_progress.completed) == ([1], 1)
    trainer.predict(module, rows(8))
    assert (trainer.num_predict_batches, trainer.predict_loop.batch_progress.completed) == ([2], 2)


def test_optimizers_stay_for_a_checkpoint_after_an_evaluation_of_the_same_model(
    bare_trainer: Callable[..., Trainer], tmp_path: Path
) -> None:
    module, data = TinyModule(), TinyDataModule()
    trainer = bare_trainer(max_epochs=1)
    trainer.fit(module, data)
    trainer.test(module, data, verbose=False)
    trainer.save_checkpoint(tmp_path / "after.ckpt")
    again = bare_trainer(max_epochs=2)
    again.fit(TinyModule(), data, ckpt_path=tmp_path / "after.ckpt")
    assert again.global_step == 8
    trainer.test(TinyModule(), data, verbose=False)
    assert trainer.optimizers == []


def test_optimizers_that_are_assigned_step_from_the_next_epoch_on(bare_trainer: Callable[..., Trainer]) -> None:
    class Swaps(Callback):
        def on_train_epoch_start(self, trainer: Trainer, pl_module: Any) -> None:
            weights.append(pl_module.layer.weight.clone())
            if trainer.current_epoch == 1:
                trainer.optimizers = [torch.optim.SGD(pl_module.parameters(), lr=0.0)]
                used.append(trainer.optimizers[0])

        def on_train_batch_end(self, trainer: Trainer, pl_module: Any, *args: Any) -> None:
            handed.append(pl_module.optimizers().optimizer)

    weights: list[Tensor] = []
    used: list[Any] = []
    handed: list[Any] = []
    module = TinyModule()
    trainer = bare_trainer(max_epochs=3, callbacks=[Swaps()])
    trainer.fit(module, TinyDataModule())
    assert not torch.equal(weights[0], weights[1])
    assert torch.equal(weights[1], module.layer.weight)
    assert trainer.global_step == 12
    assert [one is used[0] for one in handed] == [False] * 4 + [True] * 8


def test_metrics_by_who_is_to_see_them(bare_trainer: Callable[..., Trainer]) -> None:
    trainer = bare_trainer(max_epochs=1)
    trainer.fit(Logs(), TinyDataModule())
    assert sorted(trainer.callback_metrics) == ["bar", "kept", "sent", "val_loss"]
    assert sorted(trainer.logged_metrics) == ["bar", "sent", "val_loss"]
    assert list(trainer.progress_bar_metrics) == ["bar"]
    assert isinstance(trainer.progress_bar_metrics["bar"], float)
    assert isinstance(trainer.callback_metrics["bar"], Tensor)


@pytest.mark.parametrize(
    ("entry", "within", "hook"),
    [
        ("fit", (TrainerFn.FITTING, RunningStage.TRAINING, "training"), "on_train_batch_end"),
        ("fit", (TrainerFn.FITTING, RunningStage.VALIDATING, "validating"), "on_validation_batch_end"),
        ("validate", (TrainerFn.VALIDATING, RunningStage.VALIDATING, "validating"), "on_validation_batch_end"),
        ("test", (TrainerFn.TESTING, RunningStage.TESTING, "testing"), "on_test_batch_end"),
        ("predict", (TrainerFn.PREDICTING, RunningStage.PREDICTING, "predicting"), "on_predict_batch_end"),
    ],
)
def test_states_by_entry_point(bare_trainer: Callable[..., Trainer], entry: str, within: tuple[Any, ...], hook: str) -> None:
    flags = ("training", "validating", "testing", "predicting", "sanity_checking", "evaluating")
    seen: set[Any] = set()

    class Looks(Callback):
        def __init__(self) -> None:
            setattr(self, hook, self.look)

        def look(self, trainer: Trainer, *args: Any, **kwargs: Any) -> None:
            state = trainer.state
            seen.add((state.fn, state.stage, state.status, *(flag for flag in flags if getattr(trainer, flag))))

    trainer = bare_trainer(max_epochs=1, num_sanity_val_steps=0, callbacks=[Looks()])
    assert (trainer.state.fn, trainer.state.status, trainer.state.stage) == (None, TrainerStatus.INITIALIZING, None)
    getattr(trainer, entry)(TinyModule(), datamodule=TinyDataModule())
    evaluates = ["evaluating"] if within[2] in ("validating", "testing") else []
    assert seen == {(*within[:2], TrainerStatus.RUNNING, within[2], *evaluates)}
    assert trainer.state.fn == entry
    assert (trainer.state.status, trainer.state.stage) == (TrainerStatus.FINISHED, None)
    assert trainer.state.status.stopped


def test_stages_name_the_hook_of_their_loaders() -> None:
    prefixes = {stage.value: (stage.dataloader_prefix, stage.evaluating) for stage in RunningStage}
    assert prefixes == {
        "train": ("train", False),
        "sanity_check": ("val", True),
        "validate": ("val", True),
        "test": ("test", True),
        "predict": ("predict", False),
    }
    assert [status.value for status in TrainerStatus if status.stopped] == ["finished", "interrupted"]


class Elsewhere(FakeLogger):
    """Keeps its files in a folder, and has none for a run."""

    save_dir = "elsewhere"


def test_the_folder_of_a_run_is_that_of_its_first_logger(bare_trainer: Callable[..., Trainer], tmp_path: Path) -> None:
    assert bare_trainer().log_dir == str(tmp_path)
    assert bare_trainer(logger="csv").log_dir == str(tmp_path / "lightning_logs" / "version_0")
    assert bare_trainer(logger=["tensorboard", "csv"]).log_dir == str(tmp_path / "lightning_logs" / "version_0")
    assert bare_trainer(logger=Elsewhere()).log_dir == "elsewhere"


def test_a_logger_may_be_set_in_every_form_of_the_argument(bare_trainer: Callable[..., Trainer], tmp_path: Path) -> None:
    trainer: Any = bare_trainer(max_epochs=1)
    trainer.logger = "csv"
    assert isinstance(trainer.logger, CSVLogger)
    assert trainer.log_dir == str(tmp_path / "lightning_logs" / "version_0")
    trainer.loggers = ["tensorboard", {"csv": {"name": "own"}}]
    assert isinstance(trainer.logger, TensorBoardLogger)
    assert [logger.name for logger in trainer.loggers] == ["lightning_logs", "own"]
    nothings: list[Any] = [None, False, []]
    for nothing in nothings:
        trainer.logger = nothing
        assert (trainer.logger, trainer.loggers) == (None, [])
    own = FakeLogger()
    trainer.logger = own
    assert trainer.loggers == [own]
    for wrong in (3, [own, 3]):
        with pytest.raises(TypeError, match="3 is no name, component string or mapping, and no Logger object"):
            trainer.logger = wrong
    assert trainer.loggers == [own]
    trainer.log_every_n_steps = 1
    trainer.fit(TinyModule(), TinyDataModule())
    assert own.called("log_metrics")


def test_a_second_fit_goes_on_where_the_bound_was_raised(bare_trainer: Callable[..., Trainer]) -> None:
    module, data = TinyModule(), TinyDataModule()
    trainer = bare_trainer(max_epochs=1)
    trainer.fit(module, data)
    weight = module.layer.weight.clone()
    trainer.fit(module, data)
    assert (trainer.current_epoch, trainer.global_step) == (1, 4)
    assert torch.equal(module.layer.weight, weight)
    trainer.fit_loop.max_epochs = 3
    trainer.fit(module, data)
    assert (trainer.current_epoch, trainer.global_step, trainer.max_epochs) == (3, 12, 3)


def test_predictions_are_lists_by_loader_and_may_be_left_out(bare_trainer: Callable[..., Trainer]) -> None:
    class Counts(TinyModule):
        def predict_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Any:
            return {"rows": len(batch), "of": [dataloader_idx]}

    trainer, module = bare_trainer(), Counts()
    assert trainer.predict(module, rows(8)) == [{"rows": 4, "of": [0]}] * 2
    assert trainer.predict(module, [rows(8), rows(2)]) == [[{"rows": 4, "of": [0]}] * 2, [{"rows": 2, "of": [1]}]]
    assert trainer.predict(module, rows(8), return_predictions=False) is None
    with pytest.raises(ArgumentTypeError, match="return_predictions='no'"):
        trainer.predict(module, rows(8), return_predictions="no")  # type: ignore[arg-type]


def test_results_are_numbers_by_loader_and_a_data_module_stands_for_loaders(
    bare_trainer: Callable[..., Trainer], capsys: pytest.CaptureFixture[str]
) -> None:
    class Two(TinyDataModule):
        def test_dataloader(self) -> Any:
            return [rows(8), rows(4)]

    class Sums(TinyModule):
        def test_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Tensor:
            self.log("rows", float(len(batch)), reduce_fx="sum")
            return self.loss(batch)

    trainer = bare_trainer()
    assert trainer.test(Sums(), Two(), verbose=False) == [{"rows/dataloader_idx_0": 8.0}, {"rows/dataloader_idx_1": 4.0}]
    assert capsys.readouterr().out == ""
    (result,) = trainer.test(Sums(), rows(8))
    assert (result, type(result["rows"])) == ({"rows": 8.0}, float)
    assert capsys.readouterr().out == "test metric  value\n-----------  -----\nrows             8\n"


def test_without_a_model_the_best_checkpoint_of_the_last_fit_is_evaluated(bare_trainer: Callable[..., Trainer]) -> None:
    module, data = TinyModule(), TinyDataModule()
    trainer = bare_trainer(max_epochs=1, enable_checkpointing=True)
    trainer.fit(module, data)
    (fitted,) = trainer.validate(module, data, verbose=False)
    with torch.no_grad():
        module.layer.weight.zero_()
    (spoilt,) = trainer.validate(module, data, verbose=False)
    with pytest.warns(UserWarning, match="without a model: the best checkpoint"):
        (best,) = trainer.validate(datamodule=data, verbose=False)
    assert best == fitted
    assert not math.isclose(spoilt["val_loss"], fitted["val_loss"])


def test_modules_are_made_on_the_device_in_the_precision(bare_trainer: Callable[..., Trainer]) -> None:
    trainer = bare_trainer(precision="64-true")
    with trainer.init_module():
        made = torch.nn.Linear(2, 2)
    with trainer.init_module(empty_init=True):
        bare = torch.nn.Linear(2, 2)
    assert made.weight.dtype == bare.weight.dtype == torch.float64
