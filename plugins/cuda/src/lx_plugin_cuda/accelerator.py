"""CUDA devices: NVIDIA's, and AMD's under a ROCm build of torch, which answers to the same names."""

from typing import Any

import torch

from lx.devices import device_indices
from lx.interfaces.accelerator import Accelerator, AcceleratorCapabilities
from lx.kernel.errors import MisconfigurationException
from lx.rank_zero import rank_zero_info

TENSOR_CORES_FOR_TF32 = 8
"""The major compute capability from which float32 matrix products can run on tensor cores (Ampere)."""


class CUDAAccelerator(Accelerator):
    """CUDA GPUs. `devices` is a count, -1 for all, or indices among the devices that `CUDA_VISIBLE_DEVICES` leaves visible.

    Whatever is asked before a run leaves CUDA uninitialised, so that processes may still be forked.

    >>> CUDAAccelerator.capabilities.process_group_backend
    'nccl'
    """

    capabilities = AcceleratorCapabilities(device_type="cuda", process_group_backend="nccl", non_blocking=True, native_float16=True)

    @staticmethod
    def name() -> str:
        """`"cuda"`."""
        return "cuda"

    @staticmethod
    def is_available() -> bool:
        """Whether a device is visible."""
        # device_count asks NVML where it can; torch.cuda.is_available may start the runtime, after which a fork is broken.
        return torch.cuda.device_count() > 0

    @staticmethod
    def auto_device_count() -> int:
        """All visible devices."""
        return torch.cuda.device_count()

    @staticmethod
    def parse_devices(devices: int | str | list[int]) -> list[int]:
        """The indices of `devices`; raises `MisconfigurationException` for none, one twice or an absent one, else `TypeError`."""
        return device_indices(devices, torch.cuda.device_count(), "CUDA device")

    @staticmethod
    def get_parallel_devices(devices: list[int]) -> list[torch.device]:
        """`cuda:0` and so on."""
        return [torch.device("cuda", index) for index in devices]

    def setup_device(self, device: torch.device) -> None:
        """Makes the device the current one of this process, and says once if float32 products could be faster.

        Raises `ValueError` for a device of another type, and `MisconfigurationException` if there is none.
        """
        if device.type != "cuda":
            raise ValueError(f"the accelerator 'cuda' cannot use the device {str(device)!r}; choose the accelerator of that device.")
        if not self.is_available():
            raise MisconfigurationException(
                f"the device {str(device)!r} was asked for, and torch sees no CUDA device; check the driver, CUDA_VISIBLE_DEVICES, and "
                f"that this torch ({torch.__version__}) is built for CUDA."
            )
        torch.cuda.set_device(device)
        _hint_at_tf32(device)

    def get_device_stats(self, device: torch.device) -> dict[str, Any]:
        """What `torch.cuda.memory_stats` tells: counts, and memory in bytes."""
        return dict(torch.cuda.memory_stats(device))

    def teardown(self) -> None:
        """Gives cached memory back to the device, so that the next run, or another process, finds it free."""
        if torch.cuda.is_initialized():
            torch.cuda.empty_cache()


def _hint_at_tf32(device: torch.device) -> None:
    # Not torch.get_float32_matmul_precision, which raises where the program has used torch's newer setting.
    undecided = torch.backends.cuda.matmul.fp32_precision == "none"
    if undecided and torch.cuda.get_device_capability(device)[0] >= TENSOR_CORES_FOR_TF32:
        rank_zero_info(
            f"{torch.cuda.get_device_name(device)} can compute float32 matrix products on its tensor cores, faster and less precisely: "
            "torch.set_float32_matmul_precision('high') does that, and 'highest' silences this."
        )


def find_usable_cuda_devices(num_devices: int = -1) -> list[int]:
    """The first `num_devices` devices on which a tensor can be made, which others may be using exclusively; -1 finds all.

    It initialises CUDA. Raises `ValueError` if there are fewer devices than asked for, and `RuntimeError` if too few can be used.
    """
    available = torch.cuda.device_count()
    if num_devices == 0:
        return []
    if num_devices > available or available == 0:
        raise ValueError(f"num_devices={num_devices}: this machine has {available} CUDA devices.")
    usable: list[int] = []
    for index in range(available):
        try:
            torch.ones(1, device=torch.device("cuda", index))
        except RuntimeError:
            continue
        usable.append(index)
        if len(usable) == num_devices:
            return usable
    if num_devices > 0:
        raise RuntimeError(f"num_devices={num_devices}: of {available} CUDA devices only {usable} can be used; the others are busy.")
    return usable
