"""Which checkpoint a run goes on from, in which order it is put back, and what happens where it was written at an odd moment."""

import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from lx import Callback, Trainer
from lx.callbacks import ModelCheckpoint, OnExceptionCheckpoint
from lx.kernel.errors import CheckpointError
from lx.strategies import SingleDeviceStrategy
from lx.testing import FakeEnvironment, TinyDataModule, TinyModule

MakeTrainer = Callable[..., Trainer]


class Failure(Exception):
    """What ends a run in a test."""


class Model(TinyModule):
    """With momentum, and a schedule that looks at the validation loss."""

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=0.05, momentum=0.9)
        plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0, threshold=0.9)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": plateau, "monitor": "val_loss"}}


class At(Callback):
    """Does something at one call of a hook, the first one being 0."""

    def __init__(self, hook: str, call: int, action: Callable[[Trainer], Any]) -> None:
        self.call, self.calls, self.action = call, 0, action
        setattr(self, hook, self.act)

    def act(self, trainer: Trainer, *_: Any) -> None:
        self.calls += 1
        if self.calls == self.call + 1:
            self.action(trainer)


def fail(trainer: Trainer) -> None:
    """Ends the run."""
    raise Failure


def left(trainer: Trainer) -> dict[str, Any]:
    """What a run has left behind."""
    return {
        "epoch and step": (trainer.current_epoch, trainer.global_step, trainer.log_step),
        "weights": [parameter.tolist() for parameter in trainer.lightning_module.parameters()],
        "momentum": [state["momentum_buffer"].tolist() for state in trainer.optimizers[0].state.values()],
        "schedule": trainer.lr_scheduler_configs[0].scheduler.state_dict(),
        "metrics": {name: value.item() for name, value in trainer.callback_metrics.items()},
        "counters": trainer.fit_loop.progress.state_dict(),
    }


def fit(trainer: Trainer, **arguments: Any) -> Trainer:
    """Trains on seven batches an epoch, and validates on seven."""
    trainer.fit(Model(), datamodule=TinyDataModule(length=28), **arguments)
    return trainer


ODD_MOMENTS = [
    *(("on_train_batch_start", call) for call in (1, 2, 3, 6, 8, 10)),
    *(("on_before_backward", call) for call in (1, 3, 6, 9)),
    *(("on_before_optimizer_step", call) for call in (0, 1, 2, 3)),
    *(("on_train_batch_end", call) for call in (0, 1, 2, 6, 8)),
    ("on_validation_start", 1),
    *(("on_validation_batch_start", call) for call in (3, 12)),
    ("on_validation_batch_end", 12),
    ("on_validation_end", 1),
    ("on_train_epoch_end", 0),
]


@pytest.mark.parametrize("settings", [{}, {"accumulate_grad_batches": 3}, {"val_check_interval": 3}], ids=str)
@pytest.mark.parametrize(("hook", "call"), ODD_MOMENTS)
def test_a_run_that_failed_anywhere_is_gone_on_with(hook: str, call: int, settings: Any, tmp_path: Path, bare_trainer: MakeTrainer) -> None:
    settings = {"max_epochs": 2, "num_sanity_val_steps": 0, **settings}
    expected = left(fit(bare_trainer(**settings)))
    rescue: dict[str, Any] = {"enable_checkpointing": True, **settings}
    with pytest.raises(Failure):
        fit(bare_trainer(callbacks=[At(hook, call, fail), OnExceptionCheckpoint(tmp_path)], **rescue))
    found = left(fit(bare_trainer(callbacks=[OnExceptionCheckpoint(tmp_path)], **rescue)))
    if hook in ("on_before_backward", "on_before_optimizer_step"):
        del expected["metrics"], found["metrics"]  # the batch is trained on again, and its loss had been logged
    assert found == expected
    assert not list(tmp_path.glob("*.ckpt")), "the file is removed once the run has come to its end"


@pytest.mark.parametrize("batch", range(7))
def test_a_file_that_is_written_within_a_window_keeps_its_gradients(batch: int, tmp_path: Path, bare_trainer: MakeTrainer) -> None:
    settings: dict[str, Any] = {"max_epochs": 2, "accumulate_grad_batches": lambda step: 1 + step}
    saves = At("on_train_batch_end", batch, lambda trainer: trainer.save_checkpoint(tmp_path / "a.ckpt"))
    expected = left(fit(bare_trainer(callbacks=[saves], **settings)))
    assert left(fit(bare_trainer(**settings), ckpt_path=tmp_path / "a.ckpt")) == expected


@pytest.mark.filterwarnings("ignore:the checkpoint holds the states of callbacks")
def test_a_finished_run_goes_on_for_more_epochs(tmp_path: Path, bare_trainer: MakeTrainer) -> None:
    expected = left(fit(bare_trainer(max_epochs=4)))
    keeps = ModelCheckpoint(tmp_path, save_last=True)
    short = fit(bare_trainer(max_epochs=2, callbacks=[keeps], enable_checkpointing=True))
    short.save_checkpoint(tmp_path / "after.ckpt")
    for path in (keeps.best_model_path, keeps.last_model_path, tmp_path / "after.ckpt"):
        assert left(fit(bare_trainer(max_epochs=4), ckpt_path=path)) == expected


def test_a_trainer_goes_on_for_more_epochs_itself(bare_trainer: MakeTrainer) -> None:
    expected = left(fit(bare_trainer(max_epochs=3)))
    trainer = bare_trainer(max_epochs=1)
    module, data = Model(), TinyDataModule(length=28)
    trainer.fit(module, datamodule=data)
    trainer.save_checkpoint(f"{trainer.default_root_dir}/a.ckpt")
    trainer.fit_loop.max_epochs = 3
    trainer.fit(module, datamodule=data, ckpt_path=f"{trainer.default_root_dir}/a.ckpt")
    assert left(trainer) == expected


def test_max_steps_that_are_raised_end_the_epoch_first(tmp_path: Path, bare_trainer: MakeTrainer) -> None:
    saves = At("on_train_batch_end", 9, lambda trainer: trainer.save_checkpoint(tmp_path / "a.ckpt"))
    fit(bare_trainer(max_epochs=3, max_steps=10, callbacks=[saves]))
    expected = left(fit(bare_trainer(max_epochs=3)))
    assert left(fit(bare_trainer(max_epochs=3, max_steps=100), ckpt_path=tmp_path / "a.ckpt")) == expected


def test_best_and_last_are_found(tmp_path: Path, bare_trainer: MakeTrainer) -> None:
    def keeping(**arguments: Any) -> Trainer:
        keeps = ModelCheckpoint(tmp_path, "{epoch}", "epoch", save_last=True)  # the first epoch is the best
        return bare_trainer(callbacks=[keeps], enable_checkpointing=True, **arguments)

    trainer = fit(keeping(max_epochs=3))
    assert sorted(path.name for path in tmp_path.glob("*.ckpt")) == ["epoch=0.ckpt", "last.ckpt"]
    expected = left(fit(bare_trainer(max_epochs=5)))
    last = fit(keeping(max_epochs=5), ckpt_path="last")
    assert left(last) == expected

    trainer.fit_loop.max_epochs = 5
    started: list[int] = []
    trainer.callbacks.insert(0, At("on_train_epoch_start", 0, lambda trainer: started.append(trainer.current_epoch)))
    assert left(fit(trainer, ckpt_path="best")) == expected
    assert started == [1], "the best is of the first epoch"


def test_without_a_last_one_training_begins_anew(tmp_path: Path, bare_trainer: MakeTrainer) -> None:
    trainer = bare_trainer(max_epochs=1, callbacks=[ModelCheckpoint(tmp_path)], enable_checkpointing=True)
    with pytest.warns(UserWarning, match="no last checkpoint yet"):
        fit(trainer, ckpt_path="last")
    assert trainer.global_step == 7


def test_a_path_that_is_assigned_holds_until_it_is_taken_back(tmp_path: Path, bare_trainer: MakeTrainer) -> None:
    module, data = Model(), TinyDataModule(length=28)
    trainer = bare_trainer(max_epochs=1)
    trainer.fit(module, datamodule=data)
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    known = trainer.validate(module, datamodule=data, verbose=False)
    with torch.no_grad():
        module.layer.weight.zero_()
    changed = trainer.validate(module, datamodule=data, verbose=False)
    assert changed != known

    def validate(ckpt_path: Any = None) -> Any:
        with torch.no_grad():
            module.layer.weight.zero_()
        return trainer.validate(module, datamodule=data, verbose=False, ckpt_path=ckpt_path)

    trainer.ckpt_path = tmp_path / "a.ckpt"
    assert [validate(), validate()] == [known, known]
    assert trainer.ckpt_path == tmp_path / "a.ckpt"
    trainer.ckpt_path = None
    assert validate() == changed
    assert validate(tmp_path / "a.ckpt") == known
    assert trainer.ckpt_path == tmp_path / "a.ckpt", "it says what was loaded"
    assert validate() == changed, "one that is passed holds for one call"
    assert trainer.ckpt_path is None


def test_a_path_that_is_passed_counts_more_than_one_that_was_assigned(tmp_path: Path, bare_trainer: MakeTrainer) -> None:
    trainer = bare_trainer(max_epochs=1)
    trainer.fit(Model(), datamodule=TinyDataModule())
    for name in ("a.ckpt", "b.ckpt"):
        trainer.save_checkpoint(tmp_path / name)
    trainer.ckpt_path = tmp_path / "a.ckpt"
    with pytest.warns(UserWarning, match=r"b.ckpt'\) was passed, and trainer.ckpt_path='.*a.ckpt' assigned: what was passed counts"):
        trainer.validate(Model(), datamodule=TinyDataModule(), verbose=False, ckpt_path=tmp_path / "b.ckpt")
    assert trainer.ckpt_path == tmp_path / "b.ckpt"
    trainer.validate(Model(), datamodule=TinyDataModule(), verbose=False)
    assert trainer.ckpt_path is None, "the one that was assigned holds no longer"


def test_files_that_a_job_left_are_found_by_their_number(tmp_path: Path, bare_trainer: MakeTrainer) -> None:
    trainer = bare_trainer(max_epochs=1)
    trainer.fit(Model(), datamodule=TinyDataModule())
    for name in ("hpc_ckpt_2.ckpt", "hpc_ckpt_10.ckpt"):
        trainer.save_checkpoint(tmp_path / name)
    # What only resembles them is somebody else's.
    for name in ("hpc_ckpt_old_99.ckpt", "my_hpc_ckpt_98.ckpt", "hpc_ckpt_97.ckpt.part", "hpc_ckpt_.ckpt", "hpc_ckpt_96_ckpt"):
        (tmp_path / name).write_text("no checkpoint")
    trainer.validate(Model(), datamodule=TinyDataModule(), verbose=False, ckpt_path="hpc")
    assert trainer.ckpt_path == tmp_path / "hpc_ckpt_10.ckpt"


class Requeues(FakeEnvironment):
    """A cluster that starts a job again."""

    requeues = True


def test_a_job_that_is_queued_again_goes_on_by_itself(tmp_path: Path, bare_trainer: MakeTrainer) -> None:
    first = fit(bare_trainer(max_epochs=1, plugins=[Requeues()]))
    assert first.ckpt_path is None, "there was none"
    first.save_checkpoint(tmp_path / "hpc_ckpt_1.ckpt")
    again = fit(bare_trainer(max_epochs=2, plugins=[Requeues()]))
    assert (again.ckpt_path, again.global_step) == (tmp_path / "hpc_ckpt_1.ckpt", 14)
    again.validate(Model(), datamodule=TinyDataModule(), verbose=False)
    assert again.ckpt_path is None, "what is to be evaluated was said"
    assert fit(bare_trainer(max_epochs=2)).ckpt_path is None, "elsewhere such a file is a file"


class Late(SingleDeviceStrategy):
    """Restores after it has been set up, as strategies that shard do."""

    capabilities = replace(SingleDeviceStrategy.capabilities, restores_after_setup=True)


def test_a_strategy_that_restores_late_reads_as_it_was_told(tmp_path: Path, bare_trainer: MakeTrainer) -> None:
    class Keeps(Model):
        def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
            checkpoint["object"] = Failure("any class")

    trainer = bare_trainer(max_epochs=1, strategy=Late(), plugins="torch_io(allow_objects=True)")
    trainer.fit(Keeps(), datamodule=TinyDataModule())
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    again = bare_trainer(max_epochs=2, strategy=Late())
    with pytest.raises(CheckpointError, match="pass weights_only=False"):
        again.fit(Keeps(), datamodule=TinyDataModule(), ckpt_path=tmp_path / "a.ckpt")
    again.fit(Keeps(), datamodule=TinyDataModule(), ckpt_path=tmp_path / "a.ckpt", weights_only=False)
    assert again.global_step == 8


@pytest.mark.filterwarnings("ignore:the checkpoint holds the states of callbacks")
@pytest.mark.parametrize("validates", [True, False])
@pytest.mark.parametrize(("max_epochs", "max_steps", "ends"), [(2, 100, (2, 8)), (3, 12, (3, 12)), (-1, 10, (3, 10))])
def test_the_file_of_an_epochs_end_loses_none_whatever_bounds_the_run(
    max_epochs: int, max_steps: int, ends: tuple[int, int], validates: bool, tmp_path: Path, bare_trainer: MakeTrainer
) -> None:
    limits: dict[str, Any] = {} if validates else {"limit_val_batches": 0}
    keeps = ModelCheckpoint(tmp_path)
    first = bare_trainer(max_epochs=1, callbacks=[keeps], enable_checkpointing=True, **limits)
    first.fit(TinyModule(), datamodule=TinyDataModule())
    batches: list[int] = []
    seen = At("on_train_batch_start", 0, lambda trainer: None)
    seen.on_train_batch_start = lambda trainer, module, batch, batch_idx: batches.append(batch_idx)  # type: ignore[attr-defined]
    trainer = bare_trainer(max_epochs=max_epochs, max_steps=max_steps, callbacks=[seen], **limits)
    trainer.fit(TinyModule(), datamodule=TinyDataModule(), ckpt_path=keeps.best_model_path)
    assert (trainer.current_epoch, trainer.global_step) == ends
    assert batches == [*range(4), *range(4), *range(4)][: max(ends[1] - 4, 0)]


def rows_of(module: str) -> type[TinyDataModule]:
    """A data module class `Rows` of some module, with a state."""

    class Rows(TinyDataModule):
        served = 0

        def state_dict(self) -> dict[str, Any]:
            return {"served": self.served}

        def load_state_dict(self, state_dict: dict[str, Any]) -> None:
            self.served = state_dict["served"]

    Rows.__module__, Rows.__qualname__ = module, "Rows"
    return Rows


@pytest.mark.parametrize(("reader", "taken"), [("cats", True), ("dogs", False), ("__main__", True)])
def test_the_state_of_another_data_module_of_the_same_name_is_left_out(
    reader: str, taken: bool, tmp_path: Path, bare_trainer: MakeTrainer
) -> None:
    rows = rows_of("cats")()
    rows.served = 3
    trainer = bare_trainer(max_epochs=1)
    trainer.fit(Model(), datamodule=rows)
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    other = rows_of(reader)()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        trainer.validate(Model(), datamodule=other, verbose=False, ckpt_path=tmp_path / "a.ckpt")
        made = rows_of(reader).load_from_checkpoint(tmp_path / "a.ckpt")
    assert (other.served, made.served) == ((3, 3) if taken else (0, 0))
    found = [str(warning.message) for warning in said if "state of the data module" in str(warning.message)]
    assert len(found) == (0 if taken else 2)
    assert taken or found[0].startswith("the checkpoint holds the state of the data module cats.Rows, and this one is dogs.Rows: it is")


def test_a_checkpoint_is_put_back_in_this_order(tmp_path: Path, bare_trainer: MakeTrainer) -> None:
    calls: list[str] = []

    def record(base: type[Any], owner: str, *hooks: str) -> type[Any]:
        def hook(name: str) -> Callable[..., Any]:
            def recorded(this: Any, *args: Any, **kwargs: Any) -> Any:
                calls.append(f"{owner}.{name}")
                return getattr(super(made, this), name)(*args, **kwargs)

            return recorded

        made = type(base.__name__, (base,), {name: hook(name) for name in hooks})
        return made

    class WithState(Callback):
        def state_dict(self) -> dict[str, Any]:
            return {"a": 1}

    class DataWithState(TinyDataModule):
        def state_dict(self) -> dict[str, Any]:
            return {"a": 1}

    module_hooks = ("configure_model", "on_load_checkpoint", "load_state_dict", "configure_optimizers", "on_fit_start", "on_train_start")
    Module = record(Model, "module", *module_hooks)
    One, Other = (record(WithState, owner, "setup", "on_load_checkpoint", "load_state_dict", "on_fit_start") for owner in ("one", "other"))
    Data = record(DataWithState, "data", "setup", "load_state_dict")

    def run(**arguments: Any) -> Trainer:
        first, second = One(), Other()
        type(second).__qualname__ = "Other"
        trainer = bare_trainer(callbacks=[first, second], **arguments)
        return trainer

    trainer = run(max_epochs=1)
    trainer.fit(Module(), datamodule=Data())
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    calls.clear()
    run(max_epochs=2).fit(Module(), datamodule=Data(), ckpt_path=tmp_path / "a.ckpt")
    assert calls == [
        *("data.setup", "one.setup", "other.setup", "module.configure_model"),
        *("module.on_load_checkpoint", "module.load_state_dict", "data.load_state_dict"),
        *("one.on_load_checkpoint", "other.on_load_checkpoint", "one.load_state_dict", "other.load_state_dict"),
        *("module.configure_optimizers", "one.on_fit_start", "other.on_fit_start", "module.on_fit_start", "module.on_train_start"),
    ]
