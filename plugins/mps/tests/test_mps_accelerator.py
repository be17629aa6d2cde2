import sys

import pytest
import torch

from lx.kernel.errors import MisconfigurationException
from lx.testing.conformance.accelerator import AcceleratorConformance
from lx_plugin_mps.accelerator import MPSAccelerator


class TestMPS(AcceleratorConformance):
    component = "mps"


@pytest.fixture
def apple(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DISABLE_MPS", raising=False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)


class TestMPSOnApple(AcceleratorConformance):
    """What can be asked without using the device, on a machine that seems to have it."""

    component = "mps"

    @pytest.fixture(autouse=True)
    def seeming(self, apple: None) -> None:
        pass

    test_sets_up_and_tears_down = test_has_the_floats_that_it_declares = test_has_statistics_or_says_what_they_need = None

    def test_has_one_device(self) -> None:
        assert MPSAccelerator.auto_device_count() == 1
        for devices in (1, "1", -1, [0], "0,"):
            assert MPSAccelerator.parse_devices(devices) == [0]  # type: ignore[arg-type]
        with pytest.raises(MisconfigurationException, match="only 0 is there"):
            MPSAccelerator.parse_devices(2)


def test_capabilities() -> None:
    capabilities = MPSAccelerator.capabilities
    assert (capabilities.device_type, capabilities.max_devices, capabilities.float64) == ("mps", 1, False)


@pytest.mark.usefixtures("apple")
def test_the_environment_hides_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert MPSAccelerator.is_available()
    monkeypatch.setenv("DISABLE_MPS", "0")
    assert MPSAccelerator.is_available()
    monkeypatch.setenv("DISABLE_MPS", "1")
    assert not MPSAccelerator.is_available()
    with pytest.raises(MisconfigurationException, match="this machine has no MPS device"):
        MPSAccelerator.parse_devices(1)
    with pytest.raises(MisconfigurationException, match="DISABLE_MPS"):
        MPSAccelerator().setup_device(torch.device("mps", 0))


def test_statistics_are_those_of_the_machine() -> None:
    pytest.importorskip("psutil")
    statistics = MPSAccelerator().get_device_stats(torch.device("mps", 0))
    assert set(statistics) == {"M1_vm_percent", "M1_percent", "M1_swap_percent"}
    assert statistics["M1_vm_percent"] > 0


def test_statistics_without_psutil(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psutil", None)
    with pytest.raises(ModuleNotFoundError, match="pip install psutil"):
        MPSAccelerator().get_device_stats(torch.device("mps", 0))
