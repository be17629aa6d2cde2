"""The GPU of Apple silicon, through Metal Performance Shaders."""

import os
from typing import Any

import torch

from lx.devices import device_indices
from lx.interfaces.accelerator import Accelerator, AcceleratorCapabilities
from lx.kernel.errors import MisconfigurationException


class MPSAccelerator(Accelerator):
    """The one GPU of an Apple silicon machine; `DISABLE_MPS=1` in the environment hides it.

    It has no 64-bit floats, and no process group works between such devices.

    >>> MPSAccelerator.get_parallel_devices([0])
    [device(type='mps', index=0)]
    """

    capabilities = AcceleratorCapabilities(
        device_type="mps", process_group_backend="gloo", float64=False, native_float16=True, max_devices=1
    )

    @staticmethod
    def name() -> str:
        """`"mps"`."""
        return "mps"

    @staticmethod
    def is_available() -> bool:
        """Whether torch can use the GPU, and it is not hidden."""
        return os.environ.get("DISABLE_MPS", "0") in ("", "0") and torch.backends.mps.is_available()

    @staticmethod
    def auto_device_count() -> int:
        """1, or 0 where there is none."""
        return int(MPSAccelerator.is_available())

    @staticmethod
    def parse_devices(devices: int | str | list[int]) -> list[int]:
        """`[0]`, the only device; raises `MisconfigurationException` for none or more, and `TypeError` for what is no such value."""
        return device_indices(devices, MPSAccelerator.auto_device_count(), "MPS device")

    @staticmethod
    def get_parallel_devices(devices: list[int]) -> list[torch.device]:
        """`mps:0`."""
        return [torch.device("mps", index) for index in devices]

    def setup_device(self, device: torch.device) -> None:
        """Checks the device, which needs no preparation.

        Raises `ValueError` for a device of another type, and `MisconfigurationException` if there is none.
        """
        if device.type != "mps":
            raise ValueError(f"the accelerator 'mps' cannot use the device {str(device)!r}; choose the accelerator of that device.")
        if not self.is_available():
            raise MisconfigurationException(
                f"the device {str(device)!r} was asked for, and torch sees none; it takes Apple silicon, macOS, and DISABLE_MPS unset."
            )

    def get_device_stats(self, device: torch.device) -> dict[str, Any]:
        """Load and memory of the machine, which CPU and GPU share, in percent: `M1_percent`, `M1_vm_percent`, `M1_swap_percent`.

        Raises `ModuleNotFoundError` without psutil.
        """
        try:
            import psutil  # type: ignore[import-untyped]  # noqa: PLC0415 -- optional: only who asks for statistics needs it
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError("statistics of the machine need psutil: `pip install psutil`.", name="psutil") from error
        return {
            "M1_vm_percent": psutil.virtual_memory().percent,
            "M1_percent": psutil.cpu_percent(),
            "M1_swap_percent": psutil.swap_memory().percent,
        }

    def teardown(self) -> None:
        """Gives cached memory back to the system."""
        if self.is_available():
            torch.mps.empty_cache()
