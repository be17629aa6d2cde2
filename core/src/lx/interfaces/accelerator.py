"""What a kind of device must tell: which devices there are, and how one of them is made ready."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True, slots=True)
class AcceleratorCapabilities:
    """What an accelerator can do, declared, so that nobody has to ask for its class.

    `device_type` is torch's name for it; `process_group_backend` the backend for collectives between such devices;
    `non_blocking`, whether copies to it may overlap with work; `float64`, whether it has 64-bit floats; `native_float16`, whether
    float16 arithmetic with a gradient scaler makes sense on it; `max_devices`, a bound on devices in one process group (0: none).
    """

    device_type: str = "cpu"
    process_group_backend: str = "gloo"
    non_blocking: bool = False
    float64: bool = True
    native_float16: bool = False
    max_devices: int = 0


class Accelerator(ABC):
    """A kind of device. All that is asked before a run is static, so that resolution constructs nothing.

    To be chosen by `accelerator="auto"`, register with `roles={"auto": rank}`: of those that are available, the highest rank is
    taken; `roles={"gpu": rank}` joins the candidates for `accelerator="gpu"`.
    """

    capabilities: AcceleratorCapabilities = AcceleratorCapabilities()

    @staticmethod
    @abstractmethod
    def name() -> str:
        """The name it goes by in messages; a registered name."""

    @staticmethod
    @abstractmethod
    def is_available() -> bool:
        """Whether this machine has such a device; asked before a run on every rank, and must not initialise the device."""

    @staticmethod
    @abstractmethod
    def auto_device_count() -> int:
        """The number of devices that `devices="auto"` means."""

    @staticmethod
    @abstractmethod
    def parse_devices(devices: int | str | list[int]) -> list[int]:
        """The indices that a user's `devices` means: a count, `-1` (all), a list of indices, or `"0,1"`.

        Raises `MisconfigurationException` for none or absent devices, and `TypeError` for what is no such value.
        """

    @staticmethod
    @abstractmethod
    def get_parallel_devices(devices: list[int]) -> list[torch.device]:
        """One torch device for each index."""

    @abstractmethod
    def setup_device(self, device: torch.device) -> None:
        """Makes a device current; called once on every rank before anything is put on it.

        Raises `ValueError` for a device of another type.
        """

    def get_device_stats(self, device: torch.device) -> dict[str, Any]:
        """Figures of a device, such as memory in bytes, under names of its own."""
        return {}

    def teardown(self) -> None:
        """Releases what `setup_device` took; called on every rank at the end of a run."""
