"""The finders: what they find, that they leave nothing else behind, and what they refuse."""

import json
import math
import random
import re
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam
from torch.optim.lr_scheduler import LambdaLR, OneCycleLR, ReduceLROnPlateau, StepLR
from torch.utils.data import DataLoader, TensorDataset

from lx import Callback, LightningDataModule, LightningModule
from lx.callbacks import BatchSizeFinder, LearningRateFinder, ModelCheckpoint
from lx.kernel.errors import MisconfigurationException
from lx.testing.fakes import FakeLogger
from lx.tuner import Tuner

ROWS = torch.randn(64, 4, generator=torch.Generator().manual_seed(1))

SCHEDULERS = {
    "none": None,
    "by epoch": lambda optimizer, lr: {"scheduler": StepLR(optimizer, 1, 0.5)},
    "by step": lambda optimizer, lr: {"scheduler": LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / 5)), "interval": "step"},
    "one cycle": lambda optimizer, lr: {"scheduler": OneCycleLR(optimizer, lr, total_steps=33), "interval": "step"},
    "plateau": lambda optimizer, lr: {"scheduler": ReduceLROnPlateau(optimizer, patience=0), "monitor": "val"},
}


class Net(LightningModule):
    """Dropout, batch norm, all kinds of random numbers, and state in attributes."""

    def __init__(self, lr: float = 0.02, schedule: str = "none") -> None:
        super().__init__()
        self.save_hyperparameters()
        self.lr = lr
        self.layers = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.2), nn.Linear(8, 1))
        self.register_buffer("unkept", torch.zeros(1), persistent=False)
        self.shadow = {name: weight.detach().clone() for name, weight in self.named_parameters()}
        self.outputs: list[Tensor] = []
        self.batches = 0

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        (rows,) = batch if isinstance(batch, list) else (batch,)
        noise = torch.rand(1) + random.random() + float(np.random.rand())
        loss = (self.layers(rows) - rows.sum(1, keepdim=True)).square().mean() + 0.01 * noise.item()
        self.log("loss", loss, on_step=True, on_epoch=True, prog_bar=True)
        self.batches += 1
        self.outputs.append(loss.detach())
        self.unkept += 1
        for name, weight in self.named_parameters():
            self.shadow[name].lerp_(weight.detach(), 0.1)
        return loss

    def on_train_epoch_end(self) -> None:
        self.log("mean", torch.stack(self.outputs).mean())
        self.outputs.clear()

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        (rows,) = batch if isinstance(batch, list) else (batch,)
        self.log("val", self.layers(rows).square().mean())

    def configure_optimizers(self) -> Any:
        optimizer = SGD(self.parameters(), lr=self.lr, momentum=0.9)
        make = SCHEDULERS[self.hparams.schedule]
        return optimizer if make is None else {"optimizer": optimizer, "lr_scheduler": make(optimizer, self.lr)}

    def train_dataloader(self) -> Any:
        return DataLoader(TensorDataset(ROWS), batch_size=6, shuffle=True)

    def val_dataloader(self) -> Any:
        return DataLoader(TensorDataset(ROWS[:12]), batch_size=6)


def plain(value: Any) -> Any:
    """A nested state with lists for tensors, so that it can be compared to the bit."""
    if isinstance(value, Tensor):
        return value.tolist()
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list | tuple) else value


def outcome(trainer: Any, model: Net) -> dict[str, Any]:
    """Everything that a fit leaves behind."""
    return {
        "weights": plain(model.state_dict()),
        "others": plain([model.shadow, model.unkept, model.batches, model.outputs]),
        "optimizers": [plain(optimizer.state_dict()) for optimizer in trainer.optimizers],
        "schedulers": [plain(config.scheduler.state_dict()) for config in trainer.lr_scheduler_configs],
        "logged": trainer.loggers[0].metrics,
        "metrics": plain(dict(trainer.callback_metrics)),
        "progress": trainer.fit_loop.progress.state_dict(),
        "random": [torch.rand(1).item(), random.random(), float(np.random.rand())],
    }


@pytest.fixture
def make(bare_trainer):
    """Makes a trainer for one epoch, unless told otherwise."""
    return lambda **settings: bare_trainer(**{"max_epochs": 1, **settings})


@pytest.fixture
def fit(bare_trainer):
    """Fits a seeded model for three epochs, and returns what that leaves behind, and the model."""

    def run(*callbacks: Any, tune: Any = None, lr: float = 0.02, schedule: str = "none", **settings: Any) -> tuple[dict[str, Any], Net]:
        for seed in (torch.manual_seed, random.seed, np.random.seed):
            seed(7)
        model = Net(lr, schedule)
        trainer = bare_trainer(
            **{"callbacks": list(callbacks), "max_epochs": 3, "logger": FakeLogger(), "log_every_n_steps": 1, **settings}
        )
        if tune is not None:
            tune(trainer, model)
        trainer.fit(model)
        return outcome(trainer, model), model

    return run


# -- nothing is left behind ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("schedule", SCHEDULERS)
@pytest.mark.parametrize("way", ["callback", "tuner"])
def test_a_fit_with_a_finder_is_the_fit_with_the_rate_that_it_finds(fit, schedule, way):
    if way == "callback":
        finder = LearningRateFinder(1e-6, num_training_steps=40)
        found, model = fit(finder, schedule=schedule)
        assert finder.optimal_lr.suggestion() == model.lr
    else:
        found, model = fit(tune=lambda trainer, model: Tuner(trainer).lr_find(model, min_lr=1e-6, num_training=40), schedule=schedule)
    assert model.lr == model.hparams.lr != 0.02
    by_hand, _ = fit(lr=model.lr, schedule=schedule)
    assert found == by_hand


@pytest.mark.parametrize("at", ["on_train_start", "on_train_epoch_start", "on_train_epoch_end"])
def test_a_sweep_within_training_changes_nothing(fit, at):
    curves = []

    class Looks(LearningRateFinder):
        def on_fit_start(self, trainer, pl_module):
            pass

    def look(trainer, pl_module):
        finder.lr_find(trainer, pl_module)
        curves.append(finder.optimal_lr)

    finder = Looks(num_training_steps=15, update_attr=False, early_stop_threshold=None)
    setattr(finder, at, look)
    assert fit(finder, schedule="by step")[0] == fit(schedule="by step")[0]
    assert curves
    assert all(len(curve.results["loss"]) == 15 for curve in curves)


def test_a_sweep_that_fails_changes_nothing(fit):
    class Fails(LearningRateFinder):
        def on_fit_start(self, trainer, pl_module):
            step, calls = pl_module.training_step, []

            def failing(batch, batch_idx):
                calls.append(batch_idx)
                if len(calls) == 5:
                    raise ZeroDivisionError
                return step(batch, batch_idx)

            pl_module.training_step = failing
            with pytest.raises(ZeroDivisionError):
                self.lr_find(trainer, pl_module)
            del pl_module.training_step

    assert fit(Fails())[0] == fit()[0]


def test_batch_sizes_are_tried_without_a_trace(fit):
    tried = []

    def by_hand(trainer, model):
        model.batch_size = 6
        model.train_dataloader = lambda: DataLoader(TensorDataset(ROWS), batch_size=model.batch_size, shuffle=True)

    def search(trainer, model):
        by_hand(trainer, model)
        tried.append(Tuner(trainer).scale_batch_size(model, max_trials=3))
        model.batch_size = 6

    assert fit(tune=search, schedule="by step")[0] == fit(tune=by_hand, schedule="by step")[0]
    assert tried == [8]


def test_finders_write_no_file_and_leave_callbacks_alone(make, tmp_path):
    events = []

    class Counts(Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            events.append("batch")

        def on_exception(self, trainer, pl_module, exception):
            events.append("exception")

    callbacks = [Counts(), ModelCheckpoint(dirpath=tmp_path / "checkpoints")]
    trainer = make(callbacks=callbacks, enable_checkpointing=True, logger="csv", log_every_n_steps=1)
    before, model = list(trainer.callbacks), Net()
    Tuner(trainer).lr_find(model, num_training=5, early_stop_threshold=None, update_attr=False)
    assert trainer.callbacks == before
    assert events == []
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    assert (trainer.global_step, trainer.current_epoch, trainer.state.status) == (0, 0, "finished")
    trainer.fit(model)
    assert trainer.global_step == 11


# -- learning rates ------------------------------------------------------------------------------------------------------


class Line(LightningModule):
    """The smallest model, with the attributes that a test gives it."""

    def __init__(self, configure: Any = None, **attributes: Any) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 1)
        self.configure = configure
        self.losses: list[float] | None = None
        self.__dict__.update(attributes)

    def training_step(self, batch: Tensor, batch_idx: int) -> Any:
        loss = self.layer(batch).square().mean()
        return loss if self.losses is None else loss * 0 + self.losses.pop(0)

    def configure_optimizers(self) -> Any:
        return self.configure(self) if self.configure else SGD(self.parameters(), lr=getattr(self, "lr", 0.1))


def loader(rows: int = 64, batch_size: int = 4) -> DataLoader:
    return DataLoader(ROWS[:rows], batch_size=batch_size)


def rates_of(trainer: Any) -> list[float]:
    return [group["lr"] for optimizer in trainer.optimizers for group in optimizer.param_groups]


class Noting(Line):
    """Notes the rates of each batch."""

    def training_step(self, batch, batch_idx):
        seen.append(rates_of(self.trainer))
        return super().training_step(batch, batch_idx)


seen: list[list[float]] = []


@pytest.fixture(autouse=True)
def forget():
    seen.clear()


def test_the_rates_are_those_that_were_asked_for(make):
    curve = Tuner(make()).lr_find(Noting(), loader(), min_lr=0.001, num_training=6, early_stop_threshold=None, update_attr=False)
    assert [rates for (rates,) in seen] == curve.results["lr"] == pytest.approx([0.001, 0.01, 0.0316227766, 0.1, 0.316227766, 1.0])
    assert (curve.mode, curve.lr_min, curve.lr_max, curve.num_training) == ("exponential", 0.001, 1, 6)
    curve = Tuner(make()).lr_find(
        Line(lr=0.1), loader(), min_lr=0, num_training=4, mode="linear", early_stop_threshold=None, update_attr=False
    )
    assert curve.results["lr"] == [0, 0.5, 0.75, 1.0]


def test_a_sweep_goes_over_as_many_epochs_as_it_needs(make):
    trainer = make(limit_train_batches=3)
    curve = Tuner(trainer).lr_find(Line(lr=0.1), loader(), num_training=20, early_stop_threshold=None)
    assert len(curve.results["lr"]) == 20


@pytest.mark.parametrize("windows", [2, 3])
def test_an_accumulation_window_has_one_rate_and_the_mean_of_its_losses(make, windows):
    trainer = make(accumulate_grad_batches=windows)
    model = Noting(lr=0.1, losses=[float(1 + number % windows) for number in range(100)])
    curve = Tuner(trainer).lr_find(model, loader(rows=48), num_training=6, update_attr=False)
    assert [rates for (rates,) in seen] == [rate for rate in curve.results["lr"] for _ in range(windows)]
    mean = (1 + windows) / 2
    smooth = [mean * (1 - 0.98 ** (step + 1)) / (1 - 0.98 ** (step + 2)) for step in range(6)]
    assert curve.results["loss"] == pytest.approx(smooth)


def by_layers(model):
    return SGD([{"params": [model.layer.weight], "lr": model.lr / 10}, {"params": [model.layer.bias], "lr": model.lr}])


def by_two(model):
    return [Adam([model.layer.weight], lr=model.lr), SGD([model.layer.bias], lr=model.lr * 4)]


@pytest.mark.parametrize(("configure", "ratios"), [(by_layers, [0.1, 1.0]), (by_two, [1.0, 4.0])])
@pytest.mark.parametrize("manual", [False, True])
def test_all_groups_and_optimizers_rise_together_in_their_ratios(make, configure, ratios, manual):
    class Manual(Noting):
        automatic_optimization = not manual

        def training_step(self, batch, batch_idx):
            loss = super().training_step(batch, batch_idx)
            if manual:
                optimizers = self.optimizers()
                self.manual_backward(loss)
                for optimizer in optimizers if isinstance(optimizers, list) else [optimizers]:
                    optimizer.step()
                    optimizer.zero_grad()
            return {"loss": loss}

    finder = LearningRateFinder(num_training_steps=20, early_stop_threshold=None)
    trainer = make(callbacks=[finder])
    model = Manual(configure, lr=0.5)
    trainer.fit(model, loader())
    rates = finder.optimal_lr.results["lr"]
    assert seen[:20] == [pytest.approx([rate * ratio for ratio in ratios]) for rate in rates]
    assert model.lr == finder.optimal_lr.suggestion()
    assert rates_of(trainer) == pytest.approx([model.lr * ratio for ratio in ratios])


def test_manual_optimization_must_return_its_loss(make):
    class Silent(Line):
        automatic_optimization = False

        def training_step(self, batch, batch_idx):
            """Returns nothing."""

    with pytest.raises(MisconfigurationException, match="which in manual optimization training_step must return"):
        Tuner(make()).lr_find(Silent(lr=0.1), loader())


@pytest.mark.parametrize(
    ("losses", "points"),
    [
        ([1.0, 1.0, 50.0, 1.0], 3),  # too high
        ([1.0, math.nan, 1.0, 1.0], 2),
        ([1.0, 1.0, math.inf, 1.0], 3),
    ],
)
def test_a_loss_that_diverges_ends_the_sweep_without_a_suggestion(make, losses, points):
    model = Line(lr=0.1, losses=[*losses, *[1.0] * 30])
    with pytest.warns(UserWarning, match="no learning rate can be suggested"):
        curve = Tuner(make()).lr_find(model, loader(), num_training=20)
    assert len(curve.results["loss"]) == points
    assert model.lr == 0.1
    with pytest.warns(UserWarning, match="no learning rate can be suggested"):
        assert curve.suggestion() is None


def test_a_run_without_batches_has_no_curve(make):
    with pytest.warns(UserWarning, match=r"0 loss\(es\) were met"):
        curve = Tuner(make(limit_train_batches=0)).lr_find(Line(lr=0.1), loader())
    assert curve.results == {"lr": [], "loss": []}


def test_batches_that_are_all_skipped_end_the_sweep(make):
    class Skips(Line):
        def training_step(self, batch, batch_idx):
            return None

    with pytest.warns(UserWarning, match=r"0 loss\(es\) were met"):
        Tuner(make()).lr_find(Skips(lr=0.1), loader())


def test_the_rate_goes_to_every_holder(make):
    class Data(LightningDataModule):
        def __init__(self, learning_rate=0.2):
            super().__init__()
            self.save_hyperparameters()

        def train_dataloader(self):
            return loader()

    class Held(Line):
        def __init__(self, learning_rate=0.2):
            super().__init__()
            self.save_hyperparameters()
            self.learning_rate = learning_rate

    model, data = Held(), Data()
    curve = Tuner(make()).lr_find(model, datamodule=data, num_training=30, early_stop_threshold=None)
    assert {model.learning_rate, model.hparams.learning_rate, data.hparams.learning_rate} == {curve.suggestion()}


def test_one_may_name_the_attribute_or_have_none(make):
    model = Line(lr=1.0, pace=0.2)
    curve = Tuner(make()).lr_find(model, loader(), num_training=30, early_stop_threshold=None, attr_name="pace")
    assert (model.lr, model.pace) == (1.0, curve.suggestion())
    nameless = Line()
    assert Tuner(make()).lr_find(nameless, loader(), num_training=5, update_attr=False).results["lr"]


def test_a_rate_that_is_found_within_training_is_gone_on_with(make):
    class Later(LearningRateFinder):
        def on_fit_start(self, trainer, pl_module):
            pass

        def on_train_epoch_start(self, trainer, pl_module):
            if trainer.current_epoch == 1:
                trainer.strategy.barrier()
                self.lr_find(trainer, pl_module)

    def scheduled(model):
        optimizer = SGD(model.parameters(), lr=model.lr, momentum=0.9)
        return [optimizer], [LambdaLR(optimizer, lambda epoch: 0.5**epoch)]

    finder = Later(num_training_steps=20, early_stop_threshold=None)
    trainer = make(max_epochs=3, callbacks=[finder])
    model = Noting(scheduled, lr=0.4)
    trainer.fit(model, loader(rows=8))
    found = finder.optimal_lr.suggestion()
    assert model.lr == found
    assert [rates[0] for rates in seen[:2] + seen[-4:]] == pytest.approx([0.4, 0.4, found, found, found / 2, found / 2])


def test_a_run_that_is_resumed_keeps_its_rate(make, tmp_path):
    def run(max_epochs, **options):
        finder = LearningRateFinder(num_training_steps=20, early_stop_threshold=None)
        trainer = make(max_epochs=max_epochs, callbacks=[finder])
        model = Line(lr=0.1)
        trainer.fit(model, loader(), **options)
        return trainer, model, finder

    first, before, _ = run(1)
    first.save_checkpoint(tmp_path / "one.ckpt")
    _, after, finder = run(2, ckpt_path=tmp_path / "one.ckpt")
    assert after.lr == before.lr != 0.1
    assert finder.optimal_lr is None


def test_nothing_is_searched_for_in_a_development_run(make):
    model = Sizes()
    with pytest.warns(UserWarning, match="no learning rate is searched for"):
        assert Tuner(make(fast_dev_run=True)).lr_find(model) is None
    with pytest.warns(UserWarning, match="no batch size is searched for"):
        assert Tuner(make(fast_dev_run=True)).scale_batch_size(model) is None


# -- batch sizes ---------------------------------------------------------------------------------------------------------

MESSAGES = {
    "cuda": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    "cudnn": RuntimeError("cuDNN error: CUDNN_STATUS_NOT_SUPPORTED. This error may appear if you passed in a non-contiguous input."),
    "cpu": RuntimeError("[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to ..."),
}


class Sizes(Line):
    """Runs out of memory with batches of more than `fits` rows, of `rows` that there are."""

    def __init__(self, fits: float = math.inf, rows: int = 640, message: str = "cuda", **attributes: Any) -> None:
        super().__init__(lr=0.1, batch_size=2, tried=[], **attributes)
        self.fits, self.rows, self.message = fits, rows, message

    def step(self, batch: Tensor, batch_idx: int) -> Any:
        if len(batch) > self.fits:
            raise MESSAGES[self.message]
        return self.layer(batch).square().mean()

    training_step = validation_step = test_step = predict_step = step

    def train_dataloader(self) -> Any:
        sizes.append(self.batch_size)
        return DataLoader(torch.ones(self.rows, 4), batch_size=self.batch_size)

    val_dataloader = test_dataloader = predict_dataloader = train_dataloader


sizes: list[int] = []


@pytest.fixture(autouse=True)
def forget_sizes():
    sizes.clear()


@pytest.mark.parametrize(
    ("options", "fits", "tried", "found"),
    [
        pytest.param({"max_trials": 4}, math.inf, [2, 4, 8, 16], 16, id="trials run out"),
        pytest.param({}, 20, [2, 4, 8, 16, 32], 16, id="memory runs out"),
        pytest.param({}, 1, [2, 1], 1, id="the first is too large"),
        pytest.param({"init_val": 3}, 20, [3, 6, 12, 24], 12, id="another first"),
        pytest.param({"init_val": 300}, 50, [300, 150, 75, 37], 37, id="far too large a first"),
        pytest.param({"max_val": 50}, math.inf, [2, 4, 8, 16, 32, 50], 50, id="a bound"),
        pytest.param({"init_val": 400}, math.inf, [400, 640], 640, id="the data set"),
        pytest.param({"init_val": 5000}, math.inf, [5000], 640, id="more than the data set"),
        pytest.param({"mode": "binsearch"}, 20, [2, 4, 8, 16, 32, 24, 20, 22, 21], 19, id="bisected"),
        pytest.param({"mode": "binsearch", "margin": 0}, 20, [2, 4, 8, 16, 32, 24, 20, 22, 21], 20, id="no margin"),
        pytest.param({"mode": "binsearch", "margin": 0.9}, 1, [2, 1], 1, id="a margin of more than there is"),
        pytest.param({"mode": "binsearch", "max_val": 50}, math.inf, [2, 4, 8, 16, 32, 50], 47, id="a bound, with a margin"),
    ],
)
def test_sizes_are_tried_until_the_memory_runs_out(make, options, fits, tried, found):
    model = Sizes(fits)
    assert Tuner(make(limit_val_batches=0)).scale_batch_size(model, **options) == model.batch_size == found
    assert sizes == tried


@pytest.mark.parametrize("method", ["validate", "test", "predict"])
def test_evaluations_have_a_size_of_their_own(make, method):
    model, trainer = Sizes(20), make()
    assert Tuner(trainer).scale_batch_size(model, method=method) == model.batch_size == 16
    assert model.training
    assert trainer.global_step == 0


@pytest.mark.parametrize("message", MESSAGES)
def test_every_allocator_is_understood(make, message):
    assert Tuner(make()).scale_batch_size(Sizes(5, message=message)) == 4


def test_another_error_is_no_lack_of_memory(make):
    class Broken(Sizes):
        def training_step(self, batch, batch_idx):
            raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    model = Broken()
    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        Tuner(make()).scale_batch_size(model)
    assert model.batch_size == 2


def test_where_nothing_fits_the_error_says_so(make):
    with pytest.raises(torch.OutOfMemoryError, match="CUDA out of memory") as caught:
        Tuner(make()).scale_batch_size(Sizes(0))
    assert "not even 1" in caught.value.__notes__[0]


@pytest.mark.parametrize("method", ["fit", "validate", "test", "predict"])
def test_a_run_with_the_callback_goes_on_with_the_size_that_it_found(make, method):
    lengths = []

    class Measures(Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx, dataloader_idx=0):
            lengths.append(len(batch))

        on_validation_batch_end = on_test_batch_end = on_predict_batch_end = on_train_batch_end

    finder = BatchSizeFinder(init_val=30)
    trainer = make(callbacks=[Measures(), finder])
    getattr(trainer, method)(Sizes(100, rows=480))
    assert finder.optimal_batch_size == 60
    assert set(lengths) == {60}
    assert len(lengths) in (8, 16, 18)  # an epoch, and in fit its validation and the sanity check


def test_a_size_that_is_found_when_an_epoch_begins_holds_for_it(make):
    class Later(BatchSizeFinder):
        def on_fit_start(self, trainer, pl_module):
            pass

        def on_train_epoch_start(self, trainer, pl_module):
            if trainer.current_epoch == 1:
                self.scale_batch_size(trainer, pl_module)

    lengths = []

    class Measures(Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            lengths.append((trainer.current_epoch, len(batch)))

    trainer = make(max_epochs=3, callbacks=[Later(), Measures()], num_sanity_val_steps=0)
    trainer.fit(Sizes(8, rows=16))
    assert lengths == [(0, 2)] * 8 + [(1, 8)] * 2 + [(2, 8)] * 2


def test_schedules_are_made_for_the_new_number_of_steps(make):
    def one_cycle(model):
        optimizer = SGD(model.parameters(), lr=0.1)
        steps = model.trainer.estimated_stepping_batches
        return [optimizer], [{"scheduler": OneCycleLR(optimizer, 0.1, total_steps=steps), "interval": "step"}]

    trainer = make(max_epochs=2, callbacks=[BatchSizeFinder()])
    trainer.fit(Sizes(8, rows=64, configure=one_cycle))
    assert trainer.lr_scheduler_configs[0].scheduler.total_steps == 16


def test_both_finders_work_in_one_run_the_batch_size_first(make):
    lr_finder, size_finder = LearningRateFinder(num_training_steps=20, early_stop_threshold=None), BatchSizeFinder()
    trainer = make(callbacks=[Callback(), lr_finder, size_finder])
    assert trainer.callbacks[:2] == [size_finder, lr_finder]
    model = Sizes(8)
    trainer.fit(model)
    assert (model.batch_size, model.lr) == (8, lr_finder.optimal_lr.suggestion())
    assert trainer.global_step == 80


def test_the_size_goes_to_every_holder_and_is_remembered(make, tmp_path):
    class Data(LightningDataModule):
        def __init__(self, batch_size=2):
            super().__init__()
            self.save_hyperparameters()

        def train_dataloader(self):
            sizes.append(self.hparams.batch_size)
            return DataLoader(torch.ones(64, 4), batch_size=self.hparams.batch_size)

    def run(max_epochs, **options):
        trainer = make(max_epochs=max_epochs, callbacks=["batch_size_finder"], limit_val_batches=0)
        model, data = Line(lr=0.1, batch_size=2), Data()
        trainer.fit(model, datamodule=data, **options)
        return trainer, model, data

    trainer, model, data = run(1)
    assert model.batch_size == data.hparams.batch_size == 64
    trainer.save_checkpoint(tmp_path / "one.ckpt")
    sizes.clear()
    _, model, data = run(2, ckpt_path=tmp_path / "one.ckpt")
    assert model.batch_size == data.hparams.batch_size == 64
    assert set(sizes) == {64}


# -- what is refused -----------------------------------------------------------------------------------------------------

REFUSED = [
    (lambda tuner: tuner.lr_find(Sizes(), method="validate"), MisconfigurationException, "a learning rate is for training alone"),
    (lambda tuner: tuner.lr_find(Sizes(), method="tune"), ValueError, "method='tune': it must be one of fit, validate, test, predict"),
    (lambda tuner: tuner.scale_batch_size(Sizes(), method="tune"), ValueError, "method='tune'"),
    (lambda tuner: tuner.lr_find(Sizes(), dataloaders=loader()), MisconfigurationException, "method='fit' takes train_dataloaders"),
    (
        lambda tuner: tuner.scale_batch_size(Sizes(), loader(), method="test"),
        MisconfigurationException,
        "method='test' takes dataloaders, not",
    ),
    (lambda tuner: tuner.lr_find(Sizes(), mode="log"), ValueError, "mode='log': it must be one of linear, exponential"),
    (lambda tuner: tuner.scale_batch_size(Sizes(), mode="log"), ValueError, "mode='log': it must be one of power, binsearch"),
    (lambda tuner: tuner.lr_find(Sizes(), min_lr=1, max_lr=0.1), MisconfigurationException, "min_lr=1, max_lr=0.1"),
    (lambda tuner: tuner.lr_find(Sizes(), num_training=0), MisconfigurationException, "num_training_steps=0"),
    (lambda tuner: tuner.lr_find(Sizes(), early_stop_threshold=0), MisconfigurationException, "early_stop_threshold=0"),
    (lambda tuner: tuner.scale_batch_size(Sizes(), margin=1), MisconfigurationException, "margin=1"),
    (lambda tuner: tuner.scale_batch_size(Sizes(), init_val=0), MisconfigurationException, "init_val=0"),
    (lambda tuner: tuner.lr_find(Line(), loader()), AttributeError, "no attribute or hyperparameter 'lr' or 'learning_rate' in Line"),
    (lambda tuner: tuner.lr_find(Line(lr=1), loader(), attr_name="pace"), AttributeError, "no attribute or hyperparameter 'pace'"),
    (
        lambda tuner: tuner.lr_find(Line(lambda model: None, lr=1), loader()),
        MisconfigurationException,
        "configure_optimizers returned no optimizer",
    ),
    (
        lambda tuner: tuner.scale_batch_size(Sizes(), batch_arg_name="rows_at_once"),
        MisconfigurationException,
        "no attribute or hyperparameter 'rows_at_once' in Sizes",
    ),
    (
        lambda tuner: tuner.scale_batch_size(Sizes(), loader()),
        MisconfigurationException,
        "cannot change the train loaders that were passed to trainer.fit",
    ),
    (
        lambda tuner: tuner.scale_batch_size(Sizes(), dataloaders=loader(), method="validate"),
        MisconfigurationException,
        "cannot change the val loaders that were passed to trainer.validate",
    ),
]


@pytest.mark.parametrize(("ask", "error", "message"), REFUSED, ids=[message for _, _, message in REFUSED])
@pytest.mark.filterwarnings("ignore:.*there is no validation loader", "ignore:.*returned None")
def test_what_cannot_be_is_refused(make, ask, error, message):
    trainer = make()
    before = list(trainer.callbacks)
    with pytest.raises(error, match=re.escape(message)):
        ask(Tuner(trainer))
    assert trainer.callbacks == before


@pytest.mark.parametrize(("finder", "method"), [(LearningRateFinder, "lr_find"), (BatchSizeFinder, "scale_batch_size")])
def test_a_tuner_is_not_for_a_trainer_with_the_finder(make, finder, method):
    with pytest.raises(ValueError, match=f"the trainer has a {finder.__name__} among its callbacks"):
        getattr(Tuner(make(callbacks=[finder()])), method)(Sizes())


def test_a_batch_size_is_found_in_one_process(make, monkeypatch):
    trainer = make()
    monkeypatch.setattr(type(trainer), "world_size", 2)
    with pytest.raises(ValueError, match="works in one process, and this run has 2"):
        Tuner(trainer).scale_batch_size(Sizes())


def test_loaders_that_do_not_follow_the_attribute_are_refused(make):
    class Fixed(Sizes):
        def train_dataloader(self):
            return DataLoader(torch.ones(64, 4), batch_size=16)

    with pytest.raises(MisconfigurationException, match="has batches of 16 with batch_size=2, and also with batch_size=4"):
        Tuner(make(limit_val_batches=0)).scale_batch_size(Fixed())


def test_several_loaders_of_an_evaluation_are_refused(make):
    class Several(Sizes):
        def val_dataloader(self):
            return [loader(), loader()]

        def validation_step(self, batch, batch_idx, dataloader_idx=0):
            return self.step(batch, batch_idx)

    with pytest.raises(MisconfigurationException, match="cannot tell 2 val loaders apart"):
        Tuner(make()).scale_batch_size(Several(), method="validate")
    assert Tuner(make()).scale_batch_size(Several(), max_trials=2) == 4


# -- several processes ---------------------------------------------------------------------------------------------------

TWO_PROCESSES = """
import json, torch
from torch.utils.data import DataLoader
from lx import LightningModule, Trainer
from lx.tuner import Tuner

class Net(LightningModule):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layer, self.lr = torch.nn.Linear(4, 1), 0.1

    def training_step(self, batch, batch_idx):
        height = 100.0 if self.trainer.global_rank and self.trainer.global_step > 14 else 1.0
        return self.layer(batch).square().mean() * 0 + height

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=self.lr)

off = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
trainer = Trainer(accelerator="cpu", devices=2, strategy="ddp", max_epochs=1, **off)
model = Net()
curve = Tuner(trainer).lr_find(model, DataLoader(torch.ones(64, 4), batch_size=4), num_training=30, early_stop_threshold=1.5)
with open(f"{trainer.global_rank}.json", "w") as file:
    json.dump({"lr": model.lr, **curve.results}, file)
"""


def test_processes_stop_together_and_find_the_same(tmp_path):
    (tmp_path / "tune.py").write_text(TWO_PROCESSES)
    done = subprocess.run([sys.executable, "tune.py"], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1))
    assert first == second
    assert len(first["loss"]) < 30, "the mean over both is what stops them"
