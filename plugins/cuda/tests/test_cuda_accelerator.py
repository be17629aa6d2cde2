import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from lx.kernel.errors import MisconfigurationException
from lx.testing.conformance.accelerator import AcceleratorConformance
from lx_plugin_cuda.accelerator import CUDAAccelerator, find_usable_cuda_devices

no_cuda = pytest.mark.skipif(torch.cuda.device_count() > 0, reason="there is a CUDA device")


class TestCUDA(AcceleratorConformance):
    component = "cuda"


@pytest.fixture
def four_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)


class TestCUDAWithFourDevices(AcceleratorConformance):
    """What can be asked without using a device, on a machine that seems to have four."""

    component = "cuda"

    @pytest.fixture(autouse=True)
    def seeming(self, four_devices: None) -> None:
        pass

    test_sets_up_and_tears_down = test_has_the_floats_that_it_declares = test_has_statistics_or_says_what_they_need = None

    def test_uses_all(self, component_class: type[CUDAAccelerator]) -> None:
        assert component_class.is_available()
        assert component_class.auto_device_count() == 4
        assert component_class.parse_devices(-1) == [0, 1, 2, 3]
        assert component_class.get_parallel_devices([1, 3]) == [torch.device("cuda", 1), torch.device("cuda", 3)]


def test_capabilities() -> None:
    capabilities = CUDAAccelerator.capabilities
    assert (capabilities.device_type, capabilities.process_group_backend) == ("cuda", "nccl")
    assert capabilities.non_blocking
    assert capabilities.native_float16


@no_cuda
def test_without_a_device() -> None:
    assert not CUDAAccelerator.is_available()
    assert CUDAAccelerator.auto_device_count() == 0
    for devices in (1, -1, [0], "0,1"):
        with pytest.raises(MisconfigurationException, match="this machine has no CUDA device that torch can use"):
            CUDAAccelerator.parse_devices(devices)  # type: ignore[arg-type]
    with pytest.raises(MisconfigurationException, match="CUDA_VISIBLE_DEVICES"):
        CUDAAccelerator().setup_device(torch.device("cuda", 0))
    CUDAAccelerator().teardown()


def test_what_is_asked_before_a_run_does_not_initialise_cuda() -> None:
    code = (
        "import torch; from lx_plugin_cuda.accelerator import CUDAAccelerator as A\n"
        "A.is_available(); A.auto_device_count(); A.get_parallel_devices([0]); A.name()\n"
        "assert not torch.cuda.is_initialized()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_device_is_made_current_and_faster_products_are_hinted_at(
    monkeypatch: pytest.MonkeyPatch, four_devices: None, caplog: pytest.LogCaptureFixture
) -> None:
    current: list[Any] = []
    monkeypatch.setattr(torch.cuda, "set_device", current.append)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "A100")
    for capability, chosen, hints in (((7, 5), "none", 0), ((8, 0), "none", 1), ((8, 0), "tf32", 0), ((8, 0), "ieee", 0)):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device, capability=capability: capability)
        monkeypatch.setattr(torch.backends.cuda, "matmul", SimpleNamespace(fp32_precision=chosen))
        caplog.clear()
        with caplog.at_level("INFO", logger="lx"):
            CUDAAccelerator().setup_device(torch.device("cuda", 2))
        assert sum("set_float32_matmul_precision('high')" in message for message in caplog.messages) == hints
    assert current == [torch.device("cuda", 2)] * 4


def test_usable_devices(monkeypatch: pytest.MonkeyPatch, four_devices: None) -> None:
    make = torch.ones

    def busy(*size: int, device: torch.device) -> torch.Tensor:
        if device.index == 1:
            raise RuntimeError("CUDA error: all CUDA-capable devices are busy or unavailable")
        return make(*size)

    monkeypatch.setattr(torch, "ones", busy)
    assert find_usable_cuda_devices() == [0, 2, 3]
    assert find_usable_cuda_devices(2) == [0, 2]
    assert find_usable_cuda_devices(0) == []
    with pytest.raises(RuntimeError, match=r"only \[0, 2, 3\] can be used"):
        find_usable_cuda_devices(4)
    with pytest.raises(ValueError, match="has 4 CUDA devices"):
        find_usable_cuda_devices(5)


@no_cuda
def test_no_usable_device() -> None:
    with pytest.raises(ValueError, match="has 0 CUDA devices"):
        find_usable_cuda_devices()
