"""What the learning rate monitor logs, when, and under which names."""

import pytest
import torch
from torch.optim import SGD, Adam
from torch.optim.lr_scheduler import ExponentialLR, StepLR
from torch.utils.data import DataLoader

from lx import LightningModule, Trainer
from lx.kernel.errors import MisconfigurationException
from lx.testing.fakes import FakeLogger
from lx_plugin_lr_monitor.callback import LearningRateMonitor


class Model(LightningModule):
    """Two parameters, and the optimizers that a test wants."""

    def __init__(self, configure, manual=False):
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
        self.configure = configure
        self.automatic_optimization = not manual

    def training_step(self, batch, batch_idx):
        return self.layer(batch).sum()

    def configure_optimizers(self):
        return self.configure(self)


@pytest.fixture
def logged(tmp_path):
    """Fits four batches an epoch, and returns what the logger got, as (step, values), and the trainer."""

    def run(monitor, configure, manual=False, **settings):
        logger = FakeLogger()
        quiet = {"enable_progress_bar": False, "enable_checkpointing": False, "enable_model_summary": False}
        arguments = {"accelerator": "cpu", "max_epochs": 2, "default_root_dir": tmp_path, "log_every_n_steps": 2, "logger": logger, **quiet}
        trainer = Trainer(callbacks=[monitor], **{**arguments, **settings})
        trainer.fit(Model(configure, manual), DataLoader(torch.ones(4, 1), batch_size=1))
        rows = [(step, {name: round(value, 6) for name, value in values.items() if name != "epoch"}) for step, values in logger.metrics]
        return rows, trainer

    return run


def scheduled(interval="epoch", name=None, optimizer=SGD, **arguments):
    def configure(module):
        made = optimizer(module.parameters(), lr=0.4, **arguments)
        return {"optimizer": made, "lr_scheduler": {"scheduler": StepLR(made, 1, 0.5), "interval": interval, "name": name}}

    return configure


def unscheduled(module):
    return SGD(module.parameters(), lr=0.4)


EPOCHS = [(0, {"lr-SGD": 0.4}), (4, {"lr-SGD": 0.2})]


@pytest.mark.parametrize(
    ("monitor", "configure", "rows"),
    [
        pytest.param(LearningRateMonitor(), scheduled(), EPOCHS, id="a scheduler by epoch"),
        pytest.param(
            LearningRateMonitor(),
            scheduled("step"),
            [(1, {"lr-SGD": 0.2}), (3, {"lr-SGD": 0.05}), (5, {"lr-SGD": 0.0125}), (7, {"lr-SGD": 0.003125})],
            id="a scheduler by step",
        ),
        pytest.param(LearningRateMonitor("epoch"), scheduled("step"), [(0, {"lr-SGD": 0.4}), (4, {"lr-SGD": 0.025})], id="by epoch"),
        pytest.param(
            LearningRateMonitor("step"),
            scheduled(),
            [(1, {"lr-SGD": 0.4}), (3, {"lr-SGD": 0.4}), (5, {"lr-SGD": 0.2}), (7, {"lr-SGD": 0.2})],
            id="by step",
        ),
        pytest.param(LearningRateMonitor("epoch"), unscheduled, [(0, {"lr-SGD": 0.4}), (4, {"lr-SGD": 0.4})], id="no scheduler, by epoch"),
        pytest.param(LearningRateMonitor(), unscheduled, [(step, {"lr-SGD": 0.4}) for step in (0, 1, 3, 4, 5, 7)], id="no scheduler"),
        pytest.param(LearningRateMonitor(), scheduled(name="mine"), [(0, {"mine": 0.4}), (4, {"mine": 0.2})], id="a name"),
        pytest.param(
            LearningRateMonitor(log_momentum=True, log_weight_decay=True),
            scheduled(momentum=0.9),
            [(step, {"lr-SGD": rate, "lr-SGD-momentum": 0.9, "lr-SGD-weight_decay": 0.0}) for step, rate in ((0, 0.4), (4, 0.2))],
            id="momentum",
        ),
        pytest.param(
            LearningRateMonitor(log_momentum=True, log_weight_decay=True, log_key_prefix="optim/"),
            scheduled(optimizer=Adam, weight_decay=0.01),
            [
                (step, {"optim/lr-Adam": rate, "optim/lr-Adam-momentum": 0.9, "optim/lr-Adam-weight_decay": 0.01})
                for step, rate in ((0, 0.4), (4, 0.2))
            ],
            id="betas and a prefix",
        ),
    ],
)
def test_rates_are_logged(logged, monitor, configure, rows):
    assert logged(monitor, configure)[0] == rows


def test_an_accumulation_window_is_logged_once(logged):
    rows, _ = logged(LearningRateMonitor(), scheduled("step"), accumulate_grad_batches=2)
    assert rows == [(1, {"lr-SGD": 0.2}), (3, {"lr-SGD": 0.05})]


def test_what_was_logged_is_kept_and_can_be_monitored(logged):
    monitor = LearningRateMonitor()
    _, trainer = logged(monitor, scheduled())
    assert monitor.lrs == {"lr-SGD": [0.4, 0.2]}
    assert trainer.callback_metrics["lr-SGD"].item() == pytest.approx(0.2)


def groups(*names):
    def configure(module):
        listed = [{"params": [parameter], "lr": 0.1 * number} for number, parameter in enumerate(module.parameters(), start=1)]
        for group, name in zip(listed, names, strict=False):
            group["name"] = name
        optimizer = SGD(listed)
        return {"optimizer": optimizer, "lr_scheduler": StepLR(optimizer, 1)}

    return configure


@pytest.mark.parametrize(("names", "keys"), [((), ["pg1", "pg2"]), (("a", "b"), ["a", "b"]), (("a",), ["a", "pg2"])])
def test_parameter_groups_have_names(logged, names, keys):
    rows, _ = logged(LearningRateMonitor(), groups(*names), max_epochs=1)
    assert rows == [(0, {f"lr-SGD/{key}": rate for key, rate in zip(keys, (0.1, 0.2), strict=True)})]


def test_groups_of_one_name_are_refused(logged):
    with pytest.raises(MisconfigurationException, match=r"same name \(a, a\)"):
        logged(LearningRateMonitor(), groups("a", "a"))


def test_a_group_that_comes_later_is_logged_from_then_on(logged):
    class Grows(LearningRateMonitor):
        def on_train_epoch_start(self, trainer, pl_module):
            if trainer.current_epoch == 1:
                trainer.optimizers[0].add_param_group({"params": [torch.nn.Parameter(torch.ones(1))], "lr": 0.7})
            super().on_train_epoch_start(trainer, pl_module)

    rows, _ = logged(Grows("epoch"), unscheduled)
    assert rows == [(0, {"lr-SGD": 0.4}), (4, {"lr-SGD/pg1": 0.4, "lr-SGD/pg2": 0.7})]


def several(names=(None, None), kinds=(SGD, SGD)):
    def configure(module):
        optimizers = [kind([parameter], lr=0.1) for kind, parameter in zip(kinds, module.parameters(), strict=True)]
        return optimizers, [{"scheduler": StepLR(one, 1), "name": name} for one, name in zip(optimizers, names, strict=False)]

    return configure


def chained(module):
    optimizer = SGD(module.parameters(), lr=0.1)
    return [optimizer], [StepLR(optimizer, 1), ExponentialLR(optimizer, 0.9)]


@pytest.mark.parametrize(
    ("configure", "names"),
    [
        (several(), ["lr-SGD", "lr-SGD-1"]),
        (several(kinds=(SGD, Adam)), ["lr-SGD", "lr-Adam"]),
        (several(("mine", "mine")), ["mine", "mine-1"]),
        (several(("mine",)), ["mine", "lr-SGD"]),
        (chained, ["lr-SGD", "lr-SGD-1"]),
    ],
)
def test_every_optimizer_has_a_name_of_its_own(logged, configure, names):
    rows, _ = logged(LearningRateMonitor("epoch"), configure, manual=True, max_epochs=1)
    assert rows == [(0, dict.fromkeys(names, 0.1))]


def test_a_logger_is_needed_but_for_a_development_run(logged):
    with pytest.raises(MisconfigurationException, match="no logger"):
        logged(LearningRateMonitor(), unscheduled, logger=False)
    monitor = LearningRateMonitor()
    assert logged(monitor, unscheduled, fast_dev_run=True)[0] == []
    assert monitor.lrs == {}


@pytest.mark.parametrize(("interval", "batches", "epochs"), [(None, True, True), ("step", True, False), ("epoch", False, True)])
def test_only_what_is_logged_at_is_listened_to(interval, batches, epochs):
    monitor = LearningRateMonitor(interval)
    assert (monitor.listens_to("on_train_batch_start"), monitor.listens_to("on_train_epoch_start")) == (batches, epochs)


def test_another_interval_is_refused():
    with pytest.raises(MisconfigurationException, match="logging_interval='batch'"):
        LearningRateMonitor("batch")
