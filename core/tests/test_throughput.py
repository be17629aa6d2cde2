"""Rates over a window, what an update may say, and the peaks of chips."""

import pytest
import torch

from lx import Fabric
from lx.interfaces.precision import Precision
from lx.measures.peak_flops import NVIDIA, TPU, compute_dtype, get_available_flops, peak_of
from lx.measures.throughput import Throughput, ThroughputMonitor
from lx.testing.fakes import FakeDistributedStrategy, FakeLogger, FakePrecision


def told(updates=3, **arguments):
    throughput = Throughput(**{"window_size": 3, **arguments})
    for number in range(1, updates + 1):
        throughput.update(time=2.0 * number, batches=number, samples=3 * number, lengths=6 * number, flops=10)
    return throughput


def test_totals_come_at_once_and_rates_with_a_full_window():
    assert Throughput().compute() == {}
    totals = {"time": 4.0, "batches": 2, "samples": 6, "lengths": 12}
    assert told(2).compute() == totals
    rates = {"device/batches_per_sec": 0.5, "device/samples_per_sec": 1.5, "device/items_per_sec": 3.0, "device/flops_per_sec": 5.0}
    assert told(3).compute() == {"time": 6.0, "batches": 3, "samples": 9, "lengths": 18, **rates}
    assert told(9).compute().items() >= rates.items()


def test_rates_are_those_of_the_window():
    throughput = Throughput(window_size=2)
    for time, samples in ((1.0, 1), (2.0, 11), (4.0, 12)):
        throughput.update(time=time, batches=samples, samples=samples)
    assert throughput.compute()["device/samples_per_sec"] == 0.5


def test_several_processes_and_the_share_of_the_peak():
    metrics = told(world_size=2, available_flops=50, separator=".").compute()
    assert metrics["device.mfu"] == 0.1
    assert {name: metrics[name] for name in ("batches_per_sec", "samples_per_sec", "items_per_sec", "flops_per_sec")} == {
        "batches_per_sec": 1.0,
        "samples_per_sec": 3.0,
        "items_per_sec": 6.0,
        "flops_per_sec": 10.0,
    }


def test_what_is_not_told_is_not_computed():
    throughput = Throughput(window_size=2, available_flops=50)
    throughput.update(time=1.0, batches=1, samples=1, flops=3)
    throughput.update(time=2.0, batches=2, samples=2)
    assert set(throughput.compute()) == {"time", "batches", "samples", "device/batches_per_sec", "device/samples_per_sec"}
    throughput.update(time=3.0, batches=3, samples=3, flops=5)
    assert throughput.compute()["device/flops_per_sec"] == 5.0


def test_a_reset_forgets():
    throughput = told()
    throughput.reset()
    assert throughput.compute() == {}
    throughput.update(time=0.0, batches=1, samples=1)


@pytest.mark.parametrize(
    ("update", "message"),
    [
        ({"time": 6.0}, r"time=6\.0 does not exceed the 6\.0"),
        ({"batches": 3}, "batches=3 does not exceed"),
        ({"samples": 8}, "samples=8 does not exceed"),
        ({"lengths": 18}, "lengths=18 does not exceed"),
        ({"batches": 20}, "samples=12 are fewer than the batches=20"),
        ({"samples": 40}, "lengths=24 is less than one for each of the samples=40"),
        ({"lengths": None}, r"lengths=None after lengths=18: tell them at every update"),
    ],
)
def test_an_update_that_cannot_be_leaves_nothing_behind(update, message):
    throughput = told()
    before = throughput.compute()
    with pytest.raises(ValueError, match=message):
        throughput.update(**{"time": 8.0, "batches": 4, "samples": 12, "lengths": 24, **update})
    assert throughput.compute() == before
    throughput.update(time=8.0, batches=4, samples=12, lengths=24)


@pytest.mark.parametrize("arguments", [{"window_size": 1}, {"window_size": 0}, {"world_size": 0}])
def test_arguments_that_cannot_work(arguments):
    with pytest.raises(ValueError, match=next(iter(arguments))):
        Throughput(**arguments)


def test_the_monitor_of_a_loop_of_ones_own(plugin_manager):
    logger = FakeLogger()
    monitor = ThroughputMonitor(Fabric(manager=plugin_manager, loggers=logger), window_size=2)
    monitor.update(time=1.0, batches=1, samples=1)
    assert monitor.compute_and_log() == {"time": 1.0, "batches": 1, "samples": 1}
    monitor.update(time=2.0, batches=2, samples=2)
    monitor.compute_and_log(step=7)
    monitor.compute_and_log()
    assert [step for step, _ in logger.metrics] == [0, 7, 8]
    assert logger.metrics[1][1]["device/samples_per_sec"] == 1.0


def test_the_monitor_knows_the_processes_unless_told(second):
    assert ThroughputMonitor(second).world_size == 2
    monitor = ThroughputMonitor(second, world_size=3, available_flops=9.0)
    assert (monitor.world_size, monitor.available_flops) == (3, 9.0)


def test_the_monitor_needs_launched_processes(plugin_manager):
    fabric = Fabric(manager=plugin_manager, strategy=FakeDistributedStrategy(2), devices=2)
    with pytest.raises(RuntimeError, match=r"call fabric\.launch\(\)"):
        ThroughputMonitor(fabric)


NAMES = {
    "NVIDIA H100 80GB HBM3": 989.4,
    "NVIDIA H100 PCIe": 756,
    "NVIDIA H100 NVL": 835.5,
    "NVIDIA H200": 989.4,
    "NVIDIA GH200 480GB": 989.4,
    "NVIDIA B200": 2250,
    "NVIDIA A100-SXM4-80GB": 312,
    "NVIDIA A100 80GB PCIe": 312,
    "NVIDIA A10G": 70,
    "NVIDIA A10": 125,
    "NVIDIA L40S": 362,
    "NVIDIA L40": 181,
    "NVIDIA L4": 121,
    "NVIDIA RTX A6000": 154.8,
    "NVIDIA RTX 6000 Ada Generation": 364.2,
    "NVIDIA GeForce RTX 4090": 165.2,
    "NVIDIA GeForce RTX 4070 Ti SUPER": 88.2,
    "NVIDIA GeForce RTX 3090 Ti": 80,
    "Tesla V100-SXM2-32GB": None,
    "Tesla T4": None,
}


@pytest.mark.parametrize(("name", "bfloat16"), NAMES.items())
def test_gpus_are_known_by_the_names_of_their_driver(name, bfloat16):
    assert peak_of(name).bfloat16 == bfloat16


@pytest.mark.parametrize(
    "name", ["NVIDIA GeForce RTX 4090 Laptop GPU", "GeForce RTX 2080 with Max-Q Design", "NVIDIA A100-SXM4-40GB MIG 1g.5gb", "AMD MI300X"]
)
def test_what_is_slower_or_unknown_has_no_peak(name):
    assert peak_of(name) is None


def test_every_row_of_the_table_can_be_found():
    assert len(NVIDIA) > 29
    assert [words for words, peak in NVIDIA if peak_of(f"NVIDIA {words.upper()}") is not peak] == []


def test_a_gpu(monkeypatch):
    device = torch.device("cuda", 0)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA A100-SXM4-40GB")
    assert get_available_flops(device, torch.bfloat16) == 312e12
    assert get_available_flops(device, torch.float32) == 19.5e12
    monkeypatch.setattr(torch, "get_float32_matmul_precision", lambda: "high")
    assert get_available_flops(device, torch.float32) == 156e12
    with pytest.warns(UserWarning, match=r"A100-SXM4-40GB has no peak for torch\.float8_e4m3fn there"):
        assert get_available_flops(device, torch.float8_e4m3fn) is None
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Abacus 1")
    with pytest.warns(UserWarning, match=r"Abacus 1 is not in the table of peaks.*available_flops="):
        assert get_available_flops(device, torch.float32) is None


@pytest.mark.parametrize(("kind", "peak"), [("v4-8", 275e12), ("v5litepod-16", 197e12), ("v2-8", 22.5e12)])
def test_a_tpu_is_told_by_its_environment(kind, peak, monkeypatch):
    monkeypatch.setenv("TPU_ACCELERATOR_TYPE", kind)
    assert get_available_flops(torch.device("xla"), torch.bfloat16) == peak
    assert set(TPU) >= {"v2", "v3", "v4", "v5litepod", "v5p"}


def test_an_unknown_tpu_has_no_peak(monkeypatch):
    for name in ("TPU_ACCELERATOR_TYPE", "ACCELERATOR_TYPE"):
        monkeypatch.delenv(name, raising=False)
    with pytest.warns(UserWarning, match="this TPU is not in the table"):
        assert get_available_flops(torch.device("xla"), torch.bfloat16) is None


class Autocast(Precision):
    def forward_context(self):
        return torch.autocast("cpu", dtype=torch.bfloat16)


class Converting(FakePrecision):
    def convert_input(self, data):
        return data.double()


@pytest.mark.parametrize(
    ("precision", "dtype"), [(Precision(), torch.float32), (Autocast(), torch.bfloat16), (Converting(), torch.float64)]
)
def test_the_numbers_that_a_precision_multiplies(precision, dtype):
    assert compute_dtype(precision, torch.device("cpu")) is dtype
