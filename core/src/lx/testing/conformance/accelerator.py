"""The conformance suite of the accelerators."""

from typing import Any

import pytest
import torch

from lx.interfaces.accelerator import Accelerator, AcceleratorCapabilities
from lx.kernel import Entry, normalise
from lx.kernel.errors import MisconfigurationException
from lx.testing.conformance.component import Conformance

REFUSED = (MisconfigurationException, TypeError)


class AcceleratorConformance(Conformance):
    """The suite of the accelerators; a subclass sets `component`.

    Where there is no such device, what can be asked without one is tested, and that it is refused in words; the rest is skipped.

    >>> class TestCPU(AcceleratorConformance):
    ...     component = "cpu"
    """

    kind = "accelerator"

    @pytest.fixture
    def device(self, component_class: type[Accelerator]) -> torch.device:
        """A device on which a tensor could be made; skips the test where there is none."""
        name = component_class.name()
        if not component_class.is_available():
            pytest.skip(f"no {name} device here")
        (device,) = component_class.get_parallel_devices(component_class.parse_devices(1))
        try:
            torch.ones(1, device=device)
        except (RuntimeError, AssertionError) as error:  # torch asserts that it is built for the device
            pytest.skip(f"no tensor can be made on the {name} device: {error}")
        return device

    def test_declares_capabilities(self, component_class: type[Accelerator]) -> None:
        capabilities = component_class.capabilities
        assert isinstance(capabilities, AcceleratorCapabilities)
        assert torch.device(capabilities.device_type).type == capabilities.device_type
        assert capabilities.process_group_backend, "it names no backend for its process groups"

    def test_its_name_is_registered(self, component_class: type[Accelerator], entry: Entry) -> None:
        assert normalise(component_class.name()) in entry.spellings

    def test_says_whether_it_is_available(self, component_class: type[Accelerator]) -> None:
        assert component_class.is_available() in (True, False)
        assert component_class.is_available() == component_class.is_available()

    def test_counts_its_devices(self, component_class: type[Accelerator]) -> None:
        count = component_class.auto_device_count()
        assert isinstance(count, int)
        if component_class.is_available():
            assert count >= 1, "it is available, and 'auto' means no device"
            assert len(set(component_class.parse_devices(count))) == count

    def test_reads_a_count(self, component_class: type[Accelerator]) -> None:
        if not component_class.is_available():
            with pytest.raises(MisconfigurationException):
                component_class.parse_devices(1)
            return
        assert len(component_class.parse_devices(1)) == 1
        assert component_class.parse_devices("1") == component_class.parse_devices(1)

    def test_reads_indices_or_refuses_them(self, component_class: type[Accelerator]) -> None:
        try:
            one = component_class.parse_devices([0])
        except REFUSED:  # its devices are only counted, or there are none
            for indices in ("0,", [0, 0]):
                with pytest.raises(REFUSED):
                    component_class.parse_devices(indices)
            return
        assert one == [0]
        assert component_class.parse_devices("0,") == [0]
        for absent in ([0, 0], "0,0", [-1], [100_000], "100000,", []):
            with pytest.raises(MisconfigurationException):
                component_class.parse_devices(absent)

    def test_refuses_no_device(self, component_class: type[Accelerator]) -> None:
        for none in (0, "0"):
            with pytest.raises(MisconfigurationException):
                component_class.parse_devices(none)

    def test_refuses_what_means_no_devices(self, component_class: type[Accelerator]) -> None:
        strange: list[Any] = [True, None, 1.5, "one", object(), [True], ["0"], {0: 0}]
        for value in strange:
            with pytest.raises(TypeError):
                component_class.parse_devices(value)

    def test_refuses_more_than_it_may_have(self, component_class: type[Accelerator]) -> None:
        most = component_class.capabilities.max_devices
        if most:
            with pytest.raises(MisconfigurationException):
                component_class.parse_devices(most + 1)

    def test_gives_a_torch_device_for_each_index(self, component_class: type[Accelerator]) -> None:
        devices = component_class.get_parallel_devices([0, 1])
        assert [device.type for device in devices] == [component_class.capabilities.device_type] * 2
        assert component_class.get_parallel_devices([]) == []

    def test_refuses_to_set_up_another_type_of_device(self, component_class: type[Accelerator]) -> None:
        with pytest.raises(ValueError, match="meta"):
            component_class().setup_device(torch.device("meta"))

    def test_sets_up_and_tears_down(self, built: Accelerator, device: torch.device) -> None:
        for _ in range(2):  # several runs in one process
            built.setup_device(device)
            assert torch.ones(2, device=device).sum().item() == 2
            built.teardown()
        built.teardown()

    def test_has_the_floats_that_it_declares(self, built: Accelerator, device: torch.device) -> None:
        built.setup_device(device)
        try:
            has = torch.ones(1, dtype=torch.float64, device=device).dtype is torch.float64
        except (TypeError, RuntimeError):
            has = False
        assert has == built.capabilities.float64

    def test_has_statistics_or_says_what_they_need(self, built: Accelerator, device: torch.device) -> None:
        built.setup_device(device)
        try:
            statistics = built.get_device_stats(device)
        except ModuleNotFoundError as error:
            if "pip install" not in str(error):
                pytest.fail(f"the message does not say how to get the statistics: {error}")
            return
        assert all(isinstance(name, str) for name in statistics)
        assert all(isinstance(value, int | float) for value in statistics.values())
