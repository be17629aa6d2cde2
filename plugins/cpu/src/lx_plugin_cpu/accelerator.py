"""The CPU, which is always there."""

from typing import Any

import torch

from lx.interfaces.accelerator import Accelerator, AcceleratorCapabilities
from lx.kernel.errors import ArgumentTypeError, MisconfigurationException


class CPUAccelerator(Accelerator):
    """The CPU. `devices` is the number of processes that share it, 1 by default.

    >>> CPUAccelerator.parse_devices(2), CPUAccelerator.auto_device_count()
    ([0, 1], 1)
    """

    capabilities = AcceleratorCapabilities(device_type="cpu", process_group_backend="gloo")

    @staticmethod
    def name() -> str:
        """`"cpu"`."""
        return "cpu"

    @staticmethod
    def is_available() -> bool:
        """True."""
        return True

    @staticmethod
    def auto_device_count() -> int:
        """1: a process uses all cores by threads, so more of them are a choice that only the user can make."""
        return 1

    @staticmethod
    def parse_devices(devices: int | str | list[int]) -> list[int]:
        """The indices below a count, a positive integer or its digits.

        Raises `MisconfigurationException` for 0, and `ArgumentTypeError` for anything else: processes have no indices to choose from,
        and there is no number that would be all of them.
        """
        count = int(devices) if isinstance(devices, str) and devices.strip().isdecimal() else devices
        if isinstance(count, bool) or not isinstance(count, int) or count < 0:
            raise ArgumentTypeError(f"devices={devices!r}: with the accelerator 'cpu' it is the number of processes, an integer above 0.")
        if count == 0:
            raise MisconfigurationException(f"devices={devices!r}: a run needs at least one process; give an integer above 0.")
        return list(range(count))

    @staticmethod
    def get_parallel_devices(devices: list[int]) -> list[torch.device]:
        """The same device for every process."""
        return [torch.device("cpu") for _ in devices]

    def setup_device(self, device: torch.device) -> None:
        """Checks the device; there is nothing to prepare. Raises `ValueError` for a device that is no CPU."""
        if device.type != "cpu":
            raise ValueError(f"the accelerator 'cpu' cannot use the device {str(device)!r}; choose the accelerator of that device.")

    def get_device_stats(self, device: torch.device) -> dict[str, Any]:
        """Load and memory of the machine in percent: `cpu_percent` (since the last call), `cpu_vm_percent`, `cpu_swap_percent`.

        Raises `ModuleNotFoundError` without psutil.
        """
        try:
            import psutil  # type: ignore[import-untyped]  # noqa: PLC0415 -- optional: only who asks for statistics needs it
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError("statistics of the CPU need psutil: `pip install psutil`.", name="psutil") from error
        return {
            "cpu_percent": psutil.cpu_percent(),
            "cpu_vm_percent": psutil.virtual_memory().percent,
            "cpu_swap_percent": psutil.swap_memory().percent,
        }
