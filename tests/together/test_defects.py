"""The defects of Lightning that lx was made without, one test for each, by their numbers in the list of them.

What lx does instead is tested at length where it belongs; here a defect that comes back is seen by its number.
"""

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from lx import Callback, Fabric, LightningDataModule, LightningModule, Trainer
from lx.callbacks import EarlyStopping, LearningRateFinder, ModelCheckpoint, RichProgressBar, SpikeDetection, TQDMProgressBar
from lx.data import CombinedLoader
from lx.kernel import PluginManager
from lx.state import TrainerStatus
from lx.strategies import SingleDeviceStrategy
from lx.testing import TinyDataModule, TinyModule
from lx.testing.requires import requires

Make = Callable[..., Trainer]


def doing(hook: str, act: Callable[..., Any]) -> Callback:
    """A callback that does something in one hook."""
    callback = Callback()
    setattr(callback, hook, act)
    return callback


class ByHand(TinyModule):
    """Steps its optimizer itself."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        optimizer: Any = self.optimizers()
        loss = self.loss(batch)
        optimizer.zero_grad()
        self.manual_backward(loss)
        optimizer.step()
        return loss


class TwoOptimizers(TinyModule):
    """Has one optimizer for the weight and one for the bias."""

    def configure_optimizers(self) -> Any:
        return [torch.optim.SGD([parameter], lr=self.learning_rate) for parameter in self.layer.parameters()]


# -- 0 to 4 ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:the checkpoint holds the states of callbacks")
def test_defect_00_a_run_with_max_steps_goes_on_from_the_checkpoint_of_an_epoch(bare_trainer: Make, tmp_path: Path) -> None:
    saves = ModelCheckpoint(tmp_path)
    bare_trainer(max_epochs=1, callbacks=[saves], enable_checkpointing=True).fit(TinyModule(), TinyDataModule())
    for bounds, end in (({"max_epochs": 2}, (2, 8)), ({"max_epochs": 3, "max_steps": 12}, (3, 12))):
        again = bare_trainer(**{"max_steps": 100, **bounds})
        again.fit(TinyModule(), TinyDataModule(), ckpt_path=saves.best_model_path)
        assert (again.current_epoch, again.global_step) == end


def test_defect_01_parts_of_every_kind_come_from_plugins_and_have_names(bare_trainer: Make) -> None:
    registry = PluginManager().registry
    kinds = "accelerator strategy precision launcher environment checkpoint_io layer_sync logger profiler callback".split()  # noqa: SIM905
    for kind in kinds:
        assert kind == "layer_sync" or registry.kind(kind).names(), kind
    named = {"strategy": "single_device", "precision": "bf16-mixed", "logger": "csv", "profiler": "simple", "plugins": ["torch_io"]}
    trainer = bare_trainer(**named, callbacks=["timer", "tqdm"], enable_progress_bar=True)
    providers = {topic: provider for topic, _, provider, _ in trainer.resolution.decisions}
    assert providers["logger"] == "lx-plugin-csv"
    assert providers["checkpoint I/O"] == "lx-plugin-torch-io"


def test_defect_02_early_stopping_works_where_validation_comes_by_time(bare_trainer: Make) -> None:
    stops = EarlyStopping("val_loss", patience=1, mode="max")
    trainer = bare_trainer(max_epochs=5, val_check_interval=timedelta(microseconds=1), num_sanity_val_steps=0, callbacks=[stops])
    trainer.fit(TinyModule(), TinyDataModule())
    assert stops.stopped_epoch == 0
    assert trainer.global_step == 2


def test_defect_03_arguments_are_those_that_are_given_when_a_run_goes_on(bare_trainer: Make, tmp_path: Path) -> None:
    first = bare_trainer(max_epochs=1, callbacks=[EarlyStopping("val_loss", patience=1), SpikeDetection(rtol=1e3)])
    first.fit(TinyModule(), TinyDataModule())
    first.save_checkpoint(tmp_path / "a.ckpt")
    stops, spikes = EarlyStopping("val_loss", patience=7), SpikeDetection(rtol=1e6)
    second = bare_trainer(max_epochs=2, callbacks=[stops, spikes])
    second.fit(TinyModule(), TinyDataModule(), ckpt_path=tmp_path / "a.ckpt")
    assert stops.patience == 7
    assert (spikes.rtol, spikes.history.seen, len(spikes.losses)) == (1e6, 8, 8)


def test_defect_04_the_order_of_callbacks_is_declared(bare_trainer: Make) -> None:
    class Early(Callback):
        before = ("Late",)

    class Late(Callback):
        phase = "normal"

    class Watches(Callback):
        phase = "last"

    trainer = bare_trainer(callbacks=[Watches(), Late(), Early()])
    assert [type(callback).__name__ for callback in trainer.callbacks] == ["Early", "Late", "Watches"]


# -- 5 to 9 ----------------------------------------------------------------------------------------------------------------------


def test_defect_05_a_checkpoint_of_manual_optimization_is_simply_saved(bare_trainer: Make, tmp_path: Path) -> None:
    saves = ModelCheckpoint(tmp_path, "{step}", every_n_train_steps=2, save_top_k=-1)
    weights: dict[int, list[Any]] = {}
    notes = doing("on_train_batch_end", lambda trainer, module, *args: weights.update({trainer.global_step: module.layer.weight.tolist()}))
    bare_trainer(max_epochs=1, callbacks=[notes, saves], enable_checkpointing=True).fit(ByHand(), TinyDataModule())
    saved = {path.stem: torch.load(path, weights_only=True)["state_dict"]["layer.weight"].tolist() for path in tmp_path.glob("*.ckpt")}
    assert saved == {"step=2": weights[2], "step=4": weights[4]}


class Delayed(SingleDeviceStrategy):  # type: ignore[misc]
    """Loads weights after its set-up, as sharded strategies do."""

    capabilities = type(SingleDeviceStrategy.capabilities)(restores_after_setup=True)
    asked: Any = None

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        self.asked = weights_only
        content: dict[str, Any] = super().load_checkpoint(path, map_location, weights_only)
        return content


@pytest.mark.parametrize("weights_only", [True, False])
def test_defect_06_weights_only_reaches_a_strategy_that_loads_late(bare_trainer: Make, tmp_path: Path, weights_only: bool) -> None:
    first = bare_trainer(max_epochs=1)
    first.fit(TinyModule(), TinyDataModule())
    first.save_checkpoint(tmp_path / "a.ckpt")
    strategy = Delayed()
    bare_trainer(max_epochs=2, strategy=strategy).fit(
        TinyModule(), TinyDataModule(), ckpt_path=tmp_path / "a.ckpt", weights_only=weights_only
    )
    assert strategy.asked is weights_only


def test_defect_07_a_step_without_a_loss_counts_no_step(bare_trainer: Make) -> None:
    class Half(TinyModule):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            return self.loss(batch) if batch_idx % 2 else None

    trainer = bare_trainer(max_epochs=1)
    trainer.fit(Half(), TinyDataModule())
    assert trainer.global_step == 2


def test_defect_07_the_frequency_of_a_scheduler_counts_optimizer_steps(bare_trainer: Make) -> None:
    class Scheduled(TinyModule):
        def configure_optimizers(self) -> Any:
            optimizer = torch.optim.SGD(self.parameters(), lr=1.0)
            halves = torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)
            return [optimizer], [{"scheduler": halves, "interval": "step", "frequency": 2}]

    trainer = bare_trainer(max_epochs=1, accumulate_grad_batches=2)
    trainer.fit(Scheduled(), TinyDataModule(length=48))
    assert trainer.global_step == 6
    assert trainer.optimizers[0].param_groups[0]["lr"] == 0.5**3


def test_defect_08_no_batch_comes_twice_when_an_epoch_is_gone_on_with(bare_trainer: Make, tmp_path: Path) -> None:
    class Sees(TinyModule):
        validation_step: Any = LightningModule.validation_step

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            seen.append(batch[0, 0].item())
            return self.loss(batch)

    def stop(trainer: Trainer, *args: Any) -> None:
        if trainer.global_step == 2:
            trainer.save_checkpoint(tmp_path / "a.ckpt")
            trainer.should_stop = True

    seen: list[float] = []
    rows = torch.arange(4.0).unsqueeze(1).expand(4, 8) / 100
    bare_trainer(max_epochs=1, callbacks=[doing("on_train_batch_end", stop)]).fit(Sees(), DataLoader(rows))  # type: ignore[arg-type]
    bare_trainer(max_epochs=1).fit(Sees(), DataLoader(rows), ckpt_path=tmp_path / "a.ckpt")  # type: ignore[arg-type]
    assert [round(100 * first) for first in seen] == [0, 1, 2, 3]


TWO = """
import json, sys

from lx import Trainer
from lx.callbacks import EarlyStopping
from lx.testing import TinyDataModule, TinyModule


class Model(TinyModule):
    def validation_step(self, batch, batch_idx):
        self.log("val_loss", self.loss(batch), sync_dist=True)

    def training_step(self, batch, batch_idx):
        return self.loss(batch)


if __name__ == "__main__":
    stops = EarlyStopping("val_loss", patience=9)
    quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    trainer = Trainer(accelerator="cpu", devices=2, strategy="ddp", max_epochs=1, callbacks=[stops], **quiet)
    model, data = Model(), TinyDataModule()
    trainer.fit(model, data)
    trainer.fit_loop.max_epochs = 2
    trainer.fit(model, data)
    predictions = trainer.predict(model, data)
    told = {"steps": trainer.global_step, "predictions": len(predictions), "best": float(stops.best_score), "status": trainer.state.status}
    with open(f"{sys.argv[1]}_{trainer.global_rank}", "w") as file:
        json.dump(told, file)
"""


@requires(processes=2)
def test_defect_09_the_process_that_was_started_knows_all_of_a_run_of_two(tmp_path: Path) -> None:
    program = tmp_path / "two.py"
    program.write_text(TWO)
    settings = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "ignore", str(program), str(tmp_path / "told")]
    done = subprocess.run(command, env=settings, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    first, second = (json.loads((tmp_path / f"told_{rank}").read_text()) for rank in (0, 1))
    assert first == second
    assert (first["steps"], first["predictions"], first["status"]) == (4, 2, TrainerStatus.FINISHED)
    assert math.isfinite(first["best"])


# -- 10 to 14 --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "batches"),
    [
        ("sequential", [0, 1, 10, 11]),
        ("min_size", [[0, 10], [1, 11]]),
        ("max_size", [[0, 10], [1, 11]]),
        ("max_size_cycle", [[0, 10], [1, 11]]),
    ],
)
def test_defect_10_limits_of_combined_loaders_mean_the_same_in_every_mode(mode: str, batches: list[Any]) -> None:
    combined = CombinedLoader([range(4), range(10, 13)], mode)
    combined.limits = 2
    assert [batch for batch, _, _ in combined] == batches
    assert len(combined) == len(batches)


def test_defect_11_there_are_hooks_for_failures_modes_transfer_and_schedulers(bare_trainer: Make) -> None:
    class Told(TinyModule):
        def on_exception(self, exception: BaseException) -> None:
            told.append("on_exception")

        def on_predict_model_train(self) -> None:
            told.append("on_predict_model_train")
            super().on_predict_model_train()

        def configure_optimizers(self) -> Any:
            optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
            return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1)]

    def fail(*args: Any) -> None:
        raise ZeroDivisionError

    told: list[str] = []
    bare_trainer().predict(Told(), TinyDataModule())
    hooks = ("on_before_batch_transfer", "on_after_batch_transfer", "on_before_lr_scheduler_step", "on_after_lr_scheduler_step")
    listeners = [doing(hook, lambda *args, hook=hook: told.append(hook)) for hook in hooks]
    with pytest.raises(ZeroDivisionError):
        bare_trainer(max_epochs=1, limit_train_batches=1, limit_val_batches=0, callbacks=[*listeners, doing("on_train_end", fail)]).fit(
            Told(), TinyDataModule()
        )
    assert told == ["on_predict_model_train", *hooks, "on_exception"]


def test_defect_12_a_model_is_exported_for_torchscript(tmp_path: Path) -> None:
    module = TinyModule()
    script = module.to_torchscript(tmp_path / "model.pt", method="trace", example_inputs=torch.ones(1, 8))
    assert torch.equal(script(torch.ones(2, 8)), module(torch.ones(2, 8)))
    with pytest.warns(DeprecationWarning, match="torch.export"):  # torch says so of its own format
        loaded = torch.jit.load(tmp_path / "model.pt")
    assert torch.equal(loaded(torch.ones(1, 8)), module(torch.ones(1, 8)))


def test_defect_12_the_address_of_mlflow_is_read_when_its_logger_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    loggers = []
    for folder in ("first", "second"):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"file:///{folder}")
        loggers.append(Trainer(logger="mlflow").logger)
    assert [Path(str(logger.save_dir)).name for logger in loggers if logger is not None] == ["first", "second"]


@pytest.mark.parametrize("offline", [True, False])
def test_defect_12_offline_means_offline_for_comet(monkeypatch: pytest.MonkeyPatch, offline: bool) -> None:
    monkeypatch.setenv("COMET_ERROR_TRACKING_ENABLE", "false")  # both are read when Comet is imported
    monkeypatch.setenv("COMET_DISABLE_AUTO_LOGGING", "1")
    comet_ml = pytest.importorskip("comet_ml")
    with pytest.warns(DeprecationWarning, match=rf"offline={offline}\) is now written online={not offline}"):
        logger = Trainer(logger={"comet": {"offline": offline}}).logger
    monkeypatch.setattr(comet_ml, "start", lambda online, **rest: SimpleNamespace(online=online, get_key=str, log_other=lambda *args: None))
    assert logger is not None
    assert logger.experiment.online is not offline


def test_defect_13_a_fabric_without_a_logger_says_so_and_setting_up_a_module_is_an_event() -> None:
    class Listens:
        def on_after_setup(self, fabric: Fabric, module: Any) -> None:
            called.append(module)

    called: list[Any] = []
    fabric = Fabric(accelerator="cpu", callbacks=[Listens()])
    assert fabric.logger is None
    assert called == [fabric.setup_module(torch.nn.Linear(1, 1))]


def test_defect_14_no_bound_on_steps_is_told_how_it_is_written() -> None:
    with pytest.raises(TypeError, match=r"^max_steps=None: it must be an integer\. Use -1 for no bound\.$"):
        Trainer(max_steps=None)  # type: ignore[arg-type]


# -- 15 to 20 --------------------------------------------------------------------------------------------------------------------


def test_defect_15_teardown_is_called_after_a_failure_and_fit_ends_on_the_device(bare_trainer: Make) -> None:
    class Moves(TinyModule):
        def cpu(self) -> Any:
            told.append("cpu")
            return super().cpu()

        def on_fit_end(self) -> None:
            told.append("on_fit_end")

        def teardown(self, stage: str) -> None:
            told.append("teardown")

    def fail(*args: Any) -> None:
        raise ZeroDivisionError

    told: list[str] = []
    bare_trainer(max_epochs=1).fit(Moves(), TinyDataModule())
    assert told == ["on_fit_end", "cpu", "teardown"]
    told.clear()
    with pytest.raises(ZeroDivisionError):
        bare_trainer(max_epochs=1, callbacks=[doing("on_train_start", fail)]).fit(Moves(), TinyDataModule())
    assert told == ["cpu", "teardown"]


def test_defect_16_a_checkpoint_that_may_not_be_written_is_an_error(
    bare_trainer: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, target: Any) -> None:
        raise PermissionError(13, "Permission denied", str(target))

    trainer = bare_trainer(max_epochs=1)
    trainer.fit(TinyModule(), TinyDataModule())
    monkeypatch.setattr(Path, "replace", refuse)
    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(PermissionError):
        trainer.save_checkpoint(tmp_path / "a.ckpt")
    assert list(tmp_path.iterdir()) == []


def test_defect_16_only_what_is_named_as_a_checkpoint_of_a_job_is_one(bare_trainer: Make, tmp_path: Path) -> None:
    first = bare_trainer(max_epochs=1)
    first.fit(TinyModule(), TinyDataModule())
    first.save_checkpoint(tmp_path / "hpc_ckpt_2.ckpt")
    for name in ("hpc_ckpt_best_9.ckpt", "hpc_ckpt_10.ckpt.bak", "hpc_ckpt_.ckpt"):
        (tmp_path / name).touch()
    second = bare_trainer(max_epochs=2)
    paths: list[Any] = []
    second.callbacks.append(doing("on_fit_start", lambda trainer, module: paths.append(trainer.ckpt_path)))
    second.fit(TinyModule(), TinyDataModule(), ckpt_path="hpc")
    assert paths == [tmp_path / "hpc_ckpt_2.ckpt"]


def test_defect_17_the_refresh_rate_of_both_bars_is_a_number_of_batches() -> None:
    rates = {bar: bar().refresh_rate for bar in (TQDMProgressBar, RichProgressBar)}
    assert set(rates.values()) == {1}
    for bar in rates:
        assert "number of batches between two refreshes" in (bar.__doc__ or "")
        assert not bar(refresh_rate=0).listens_to("on_train_batch_end")


def test_defect_18_float16_on_the_cpu_is_not_changed_in_silence(bare_trainer: Make) -> None:
    with pytest.warns(UserWarning, match="precision='16-mixed': float16 gains nothing on the CPU, so 'bf16-mixed' is used"):
        trainer = bare_trainer(precision="16-mixed")
    assert trainer.precision == "bf16-mixed"
    assert "in place of 16-mixed: float16 gains nothing on the CPU" in trainer.explain()


def test_defect_19_several_optimizers_step_in_automatic_optimization(bare_trainer: Make) -> None:
    one, two = TinyModule(), TwoOptimizers()
    for module in (one, two):
        bare_trainer(max_epochs=1).fit(module, TinyDataModule())
    assert torch.equal(one.layer.weight, two.layer.weight)
    assert torch.equal(one.layer.bias, two.layer.bias)


def test_defect_19_a_learning_rate_is_found_for_several_optimizers(bare_trainer: Make) -> None:
    finder = LearningRateFinder(num_training_steps=20)
    module = TwoOptimizers()
    bare_trainer(max_epochs=1, callbacks=[finder]).fit(module, TinyDataModule())
    assert finder.optimal_lr is not None
    assert module.learning_rate == finder.optimal_lr.suggestion()


def test_defect_20_a_data_module_gets_no_state_of_another_of_its_name(bare_trainer: Make, tmp_path: Path) -> None:
    def named(module: str) -> Any:
        class Data(TinyDataModule):
            taken: Any = None

            def state_dict(self) -> dict[str, Any]:
                return {"of": module}

            def load_state_dict(self, state_dict: dict[str, Any]) -> None:
                self.taken = state_dict

        Data.__module__, Data.__qualname__ = module, "Data"
        return Data()

    first, again, other = named("one.data"), named("one.data"), named("two.data")
    assert isinstance(first, LightningDataModule)
    trainer = bare_trainer(max_epochs=1)
    trainer.fit(TinyModule(), first)
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    bare_trainer(max_epochs=1).fit(TinyModule(), again, ckpt_path=tmp_path / "a.ckpt")
    assert again.taken == {"of": "one.data"}
    with pytest.warns(UserWarning, match=r"state of the data module one\.data\.Data, and this one is two\.data\.Data"):
        bare_trainer(max_epochs=1).fit(TinyModule(), other, ckpt_path=tmp_path / "a.ckpt")
    assert other.taken is None
