"""What the throughput monitor counts, when it logs, and under which names; the clock is the tests' own."""

import pytest
import torch
from torch.utils.data import DataLoader

from lx import LightningModule, Trainer
from lx.kernel.errors import MisconfigurationException
from lx.testing.fakes import FakeLogger
from lx_plugin_throughput_monitor.callback import ThroughputMonitor

pytestmark = pytest.mark.filterwarnings("ignore:.* has a validation_step, and there is no validation loader")


class Model(LightningModule):
    """Each training step takes a second, each step of the other stages ten."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
        self.monitor = None

    def training_step(self, batch, batch_idx):
        self.monitor.clock.now += 1
        return self.layer(batch).sum()

    def validation_step(self, batch, batch_idx):
        self.monitor.clock.now += 10
        return batch

    test_step = predict_step = validation_step

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Clock:
    now = 50.0

    def __call__(self):
        return self.now


def rows(length=6):
    return DataLoader(torch.ones(length, 1), batch_size=2)


@pytest.fixture
def logged(tmp_path):
    """Runs an entry point, and returns what the logger got, as (step, values), without the values' common `epoch`."""

    def run(monitor, fn="fit", model=None, loaders=None, **settings):
        model = Model() if model is None else model
        model.monitor, monitor.clock, logger = monitor, Clock(), FakeLogger()
        loaders = loaders or [rows()]
        quiet = {
            "limit_val_batches": 1.0 if fn == "validate" or len(loaders) > 1 else 0,
            "enable_progress_bar": False,
            "enable_checkpointing": False,
            "enable_model_summary": False,
        }
        arguments = {"max_epochs": 1, "log_every_n_steps": 1, "logger": logger, **quiet, **settings}
        trainer = Trainer(accelerator="cpu", callbacks=[monitor], default_root_dir=tmp_path, **arguments)
        getattr(trainer, fn)(model, *loaders)
        return [(step, {name: value for name, value in values.items() if name != "epoch"}) for step, values in logger.metrics]

    return run


def test_rates_come_with_a_full_window(logged):
    assert logged(ThroughputMonitor(batch_size_fn=len, window_size=2)) == [
        (0, {"train/time": 1.0, "train/batches": 1, "train/samples": 2}),
        *(
            (batch - 1, {"train/time": float(batch), "train/batches": batch, "train/samples": 2 * batch, **rates})
            for batch, rates in ((n, {"train/device/batches_per_sec": 1.0, "train/device/samples_per_sec": 2.0}) for n in (2, 3))
        ),
    ]


def test_the_size_of_the_batch_is_found_and_its_last_one_may_be_smaller(logged):
    assert [values["train/samples"] for _, values in logged(ThroughputMonitor(), loaders=[rows(5)])] == [2, 4, 5]


def test_only_what_is_logged_is_computed(logged):
    monitor = ThroughputMonitor(window_size=3)
    assert [(step, values["train/batches"]) for step, values in logged(monitor, log_every_n_steps=2, max_epochs=2)] == [
        (1, 2),
        (3, 4),
        (5, 6),
    ]


@pytest.mark.filterwarnings("ignore:an epoch has")
def test_an_accumulation_window_is_logged_when_it_closes(logged):
    got = logged(ThroughputMonitor(window_size=2), accumulate_grad_batches=2, log_every_n_steps=1)
    assert [(step, values["train/batches"]) for step, values in got] == [(0, 2), (1, 3)]


def test_validation_is_a_stage_of_its_own_and_does_not_slow_training(logged):
    got = logged(ThroughputMonitor(window_size=2), loaders=[rows(8), rows(4)], val_check_interval=2, num_sanity_val_steps=2)
    train = [(step, values["train/time"]) for step, values in got if "train/time" in values]
    validate = [(step, values["validate/time"], values["validate/batches"]) for step, values in got if "validate/time" in values]
    assert train == [(0, 1.0), (1, 2.0), (2, 3.0), (3, 4.0)]
    assert validate == [(1, 10.0, 1), (2, 20.0, 2), (3, 10.0, 1), (4, 20.0, 2)]
    assert {values["train/device/batches_per_sec"] for _, values in got if "train/device/batches_per_sec" in values} == {1.0}


@pytest.mark.parametrize("fn", ["validate", "test", "predict"])
def test_the_other_entry_points_are_stages(logged, fn):
    got = logged(ThroughputMonitor(window_size=2, separator="."), fn, log_every_n_steps=2, loaders=[rows(8)])
    assert [(step, values) for step, values in got if f"{fn}.time" in values] == [
        (step, {f"{fn}.time": 10.0 * step, f"{fn}.batches": step, f"{fn}.samples": 2 * step, **rates})
        for step in (2, 4)
        for rates in [{f"{fn}.device.batches_per_sec": 0.1, f"{fn}.device.samples_per_sec": 0.2}]
    ]


class Counted(Model):
    flops_per_batch = 30


class ByProperty(Model):
    @property
    def flops_per_batch(self):
        return 30 if self.training else 10


class ByMethod(Model):
    def flops_per_batch(self):
        return 30 if self.training else 10


@pytest.mark.parametrize("model", [Counted, ByProperty, ByMethod])
def test_flops_and_their_share(logged, model):
    got = logged(ThroughputMonitor(window_size=2, available_flops=60, length_fn=lambda batch: 5 * len(batch)), model=model())
    assert got[-1][1] == {
        "train/time": 3.0,
        "train/batches": 3,
        "train/samples": 6,
        "train/lengths": 30,
        "train/device/batches_per_sec": 1.0,
        "train/device/samples_per_sec": 2.0,
        "train/device/items_per_sec": 10.0,
        "train/device/flops_per_sec": 30.0,
        "train/device/mfu": 0.5,
    }


def test_flops_may_differ_by_stage(logged):
    got = logged(ThroughputMonitor(window_size=2, available_flops=60), "validate", model=ByProperty())
    assert got[-1][1]["validate/device/flops_per_sec"] == 1.0


def test_the_peak_is_looked_up_for_the_precision(logged, monkeypatch):
    asked = []
    monkeypatch.setattr("lx_plugin_throughput_monitor.callback.get_available_flops", lambda *what: asked.append(what) or 300.0)
    assert logged(ThroughputMonitor(window_size=2), model=Counted())[-1][1]["train/device/mfu"] == 0.1
    assert asked == [(torch.device("cpu"), torch.float32)]


def test_several_processes_are_taken_to_be_alike(logged):
    values = logged(ThroughputMonitor(window_size=2, world_size=4))[-1][1]
    assert (values["train/device/samples_per_sec"], values["train/samples_per_sec"]) == (2.0, 8.0)


def test_a_gpu_is_waited_for_where_something_is_logged_and_nowhere_else(logged):
    waits = []

    class Monitor(ThroughputMonitor):
        def setup(self, trainer, pl_module, stage):
            super().setup(trainer, pl_module, stage)
            self._wait = lambda: waits.append(self.clock.now)

    logged(Monitor(), loaders=[rows(12)], log_every_n_steps=3)
    assert waits == [53.0, 56.0]


def test_every_fit_counts_from_0(logged):
    monitor = ThroughputMonitor()
    first, second = (logged(monitor) for _ in range(2))
    assert first == second


def test_a_logger_is_needed_but_for_a_development_run(logged):
    with pytest.raises(MisconfigurationException, match="no logger to log to"):
        logged(ThroughputMonitor(), logger=False)
    assert logged(ThroughputMonitor(), fast_dev_run=True) == []


def test_a_batch_without_a_tensor_needs_a_function(logged):
    class Words(Model):
        def training_step(self, batch, batch_idx):
            return self.layer(torch.ones(1))

    with pytest.raises(MisconfigurationException, match="give it a batch_size_fn"):
        logged(ThroughputMonitor(), model=Words(), loaders=[[["a", "b"]]])


@pytest.mark.parametrize(
    ("arguments", "error"),
    [({"window_size": 1}, ValueError), ({"batch_size_fn": 4}, TypeError), ({"length_fn": "len"}, TypeError), ({"window": 4}, TypeError)],
)
def test_arguments_that_cannot_work_are_refused_at_once(arguments, error):
    with pytest.raises(error, match=r"window|batch_size_fn|length_fn"):
        ThroughputMonitor(**arguments)


def test_what_is_not_counted_is_said_once(logged, caplog):
    caplog.set_level("INFO", logger="lx")
    logged(ThroughputMonitor(), loaders=[rows(), rows()])
    logged(ThroughputMonitor(), model=Counted(), loaders=[rows(), rows()])
    assert [message for message in caplog.messages if "flops_per_batch" in message] == [
        "ThroughputMonitor: Model has no flops_per_batch, so FLOPs are not counted."
    ]
