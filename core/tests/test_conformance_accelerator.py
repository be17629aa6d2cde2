"""The suite of the accelerators: the fake passes, and each fault is found by the test that is there for it."""

from typing import Any, ClassVar

import pytest
import torch

from lx.interfaces.accelerator import AcceleratorCapabilities
from lx.kernel import Entry, PluginManager
from lx.testing import FakeAccelerator, fake_plugin_manager
from lx.testing.conformance.accelerator import AcceleratorConformance


class TestFake(AcceleratorConformance):
    component = "fake"
    test_is_found_without_torch = None  # the fakes are no plugin that is installed

    @pytest.fixture
    def manager(self) -> PluginManager:
        return fake_plugin_manager()

    @pytest.fixture
    def built(self, component_class: Any) -> Any:
        return component_class()


class Counting(FakeAccelerator):
    """Devices that are only counted, and statistics that need a package."""

    @staticmethod
    def parse_devices(devices: Any) -> list[int]:
        if not isinstance(devices, int | str) or isinstance(devices, bool) or not str(devices).isdecimal():
            raise TypeError(devices)
        return FakeAccelerator.parse_devices(int(devices))

    def get_device_stats(self, device: torch.device) -> dict[str, Any]:
        raise ModuleNotFoundError("pip install gauges")


class TestCounting(TestFake):
    @pytest.fixture
    def component_class(self) -> Any:
        return Counting


class Absent(FakeAccelerator):
    @staticmethod
    def is_available() -> bool:
        return False

    @staticmethod
    def auto_device_count() -> int:
        return 0


class Undeclared(FakeAccelerator):
    capabilities: ClassVar[Any] = {"device_type": "cpu"}


class CalledOtherwise(FakeAccelerator):
    @staticmethod
    def name() -> str:
        return "other"


class Undecided(FakeAccelerator):
    @staticmethod
    def is_available() -> Any:
        return None


class CountsNone(FakeAccelerator):
    @staticmethod
    def auto_device_count() -> int:
        return 0


class CountsFromStrings(FakeAccelerator):
    @staticmethod
    def parse_devices(devices: Any) -> list[int]:
        return [0, 1] if devices == "1" else FakeAccelerator.parse_devices(devices)


class TakesTrue(FakeAccelerator):
    @staticmethod
    def parse_devices(devices: Any) -> list[int]:
        return FakeAccelerator.parse_devices(1 if devices is True else devices)


class TakesNone(FakeAccelerator):
    @staticmethod
    def parse_devices(devices: Any) -> list[int]:
        return [] if devices in (0, "0") else FakeAccelerator.parse_devices(devices)


class TakesTwice(FakeAccelerator):
    @staticmethod
    def parse_devices(devices: Any) -> list[int]:
        return devices if isinstance(devices, list) and devices else FakeAccelerator.parse_devices(devices)


class TakesMore(FakeAccelerator):
    capabilities = AcceleratorCapabilities(max_devices=1)


class WrongType(FakeAccelerator):
    @staticmethod
    def get_parallel_devices(devices: list[int]) -> list[torch.device]:
        return [torch.device("meta") for _ in devices]


class SetsUpAnything(FakeAccelerator):
    def setup_device(self, device: torch.device) -> None:
        pass


class OnceOnly(FakeAccelerator):
    over = False

    def teardown(self) -> None:
        assert not self.over
        self.over = True


class WithoutDoubles(FakeAccelerator):
    capabilities = AcceleratorCapabilities(float64=False)


class WordyStatistics(FakeAccelerator):
    def get_device_stats(self, device: torch.device) -> dict[str, Any]:
        return {"load": "high"}


class SilentStatistics(FakeAccelerator):
    def get_device_stats(self, device: torch.device) -> dict[str, Any]:
        raise ModuleNotFoundError("no module named gauges")


@pytest.mark.parametrize(
    ("faulty", "test"),
    [
        (Undeclared, "test_declares_capabilities"),
        (CalledOtherwise, "test_its_name_is_registered"),
        (Undecided, "test_says_whether_it_is_available"),
        (CountsNone, "test_counts_its_devices"),
        (CountsFromStrings, "test_reads_a_count"),
        (Absent, "test_reads_a_count"),
        (TakesTwice, "test_reads_indices_or_refuses_them"),
        (TakesNone, "test_refuses_no_device"),
        (TakesTrue, "test_refuses_what_means_no_devices"),
        (TakesMore, "test_refuses_more_than_it_may_have"),
        (WrongType, "test_gives_a_torch_device_for_each_index"),
        (SetsUpAnything, "test_refuses_to_set_up_another_type_of_device"),
        (OnceOnly, "test_sets_up_and_tears_down"),
        (WithoutDoubles, "test_has_the_floats_that_it_declares"),
        (WordyStatistics, "test_has_statistics_or_says_what_they_need"),
        (SilentStatistics, "test_has_statistics_or_says_what_they_need"),
    ],
)
def test_a_fault_is_found(faulty: type[FakeAccelerator], test: str) -> None:
    method = getattr(AcceleratorConformance(), test)
    fixtures = {
        "component_class": faulty,
        "entry": Entry("accelerator", "fake", "lx-plugin-fake", faulty),
        "built": faulty(),
        "device": torch.device("cpu"),
    }
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        method(**{name: value for name, value in fixtures.items() if name in method.__annotations__})


def test_an_absent_device_skips_what_needs_it() -> None:
    fixture = AcceleratorConformance.device.__wrapped__  # type: ignore[attr-defined]
    with pytest.raises(pytest.skip.Exception, match="no fake device here"):
        fixture(AcceleratorConformance(), Absent)
