import sys
from typing import Any

import pytest
import torch

from lx.kernel.errors import MisconfigurationException
from lx.testing.conformance.accelerator import AcceleratorConformance
from lx_plugin_cpu.accelerator import CPUAccelerator


class TestCPU(AcceleratorConformance):
    component = "cpu"


def test_devices_is_a_count_of_processes() -> None:
    assert CPUAccelerator.parse_devices(3) == [0, 1, 2]
    assert CPUAccelerator.parse_devices(" 2 ") == [0, 1]
    assert CPUAccelerator.get_parallel_devices([0, 1, 2]) == [torch.device("cpu")] * 3


@pytest.mark.parametrize("devices", [-1, "-1", "0,1", [0, 1], [0], (0,), [], 1.0, "auto"])
def test_devices_is_nothing_else(devices: Any) -> None:
    with pytest.raises(TypeError, match=r"devices=.* the number of processes, an integer above 0"):
        CPUAccelerator.parse_devices(devices)


def test_no_process() -> None:
    with pytest.raises(MisconfigurationException, match=r"devices=0: .* at least one"):
        CPUAccelerator.parse_devices(0)


def test_another_device() -> None:
    with pytest.raises(ValueError, match="'cpu' cannot use the device 'cuda:1'"):
        CPUAccelerator().setup_device(torch.device("cuda", 1))


def test_statistics() -> None:
    pytest.importorskip("psutil")
    statistics = CPUAccelerator().get_device_stats(torch.device("cpu"))
    assert set(statistics) == {"cpu_percent", "cpu_vm_percent", "cpu_swap_percent"}
    assert all(0 <= value <= 100 for value in statistics.values())
    assert statistics["cpu_vm_percent"] > 0


def test_statistics_without_psutil(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psutil", None)
    with pytest.raises(ModuleNotFoundError, match="pip install psutil"):
        CPUAccelerator().get_device_stats(torch.device("cpu"))
