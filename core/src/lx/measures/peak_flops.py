"""The floating point operations per second that chips can reach, by type of number: what their data sheets say, without sparsity."""

import os
from typing import Any, NamedTuple

import torch

from lx.interfaces.precision import Precision
from lx.rank_zero import rank_zero_warn

TERA = 1e12


class Peak(NamedTuple):
    """Teraflops of a chip, None where it cannot do that or its data sheet does not say; `float16` and `fp8` are summed up in float32.

    `float32` and `float64` are the better of what vector and matrix units reach; `tf32` is what matrix units make of float32 if they may.
    """

    float64: float | None
    float32: float | None
    tf32: float | None
    float16: float | None
    bfloat16: float | None
    fp8: float | None = None

    def flops(self, dtype: torch.dtype) -> float | None:
        """The figure for a type of number, in operations per second."""
        if dtype is torch.float32 and self.tf32 is not None and torch.get_float32_matmul_precision() != "highest":
            found: float | None = self.tf32
        else:
            found = getattr(self, _FIELDS.get(dtype, ""), None)
        return None if found is None else found * TERA


_FIELDS = {
    torch.float64: "float64",
    torch.float32: "float32",
    torch.float16: "float16",
    torch.bfloat16: "bfloat16",
    torch.float8_e4m3fn: "fp8",
    torch.float8_e5m2: "fp8",
}


def _turing(float32: float) -> Peak:
    """A GeForce of the 20 series: its matrix units know float16 alone."""
    return Peak(float32 / 32, float32, None, 4 * float32, None)


def _ampere(float32: float) -> Peak:
    """A GeForce of the 30 series, whose matrix units are as fast in TF32 as its vector units in float32."""
    return Peak(float32 / 64, float32, float32, 2 * float32, 2 * float32)


def _ada(float32: float) -> Peak:
    """A GeForce of the 40 or 50 series: as before, and with FP8."""
    return Peak(float32 / 64, float32, float32, 2 * float32, 2 * float32, 4 * float32)


# A chip is the first row all of whose words are in the name that the driver gives it; so the longer names come first.
NVIDIA: tuple[tuple[str, Peak], ...] = (
    ("gb200", Peak(40, 80, 1250, 2500, 2500, 5000)),
    ("b200", Peak(37, 75, 1125, 2250, 2250, 4500)),
    ("gh200", Peak(67, 67, 494.7, 989.4, 989.4, 1978.9)),
    ("h200 nvl", Peak(60, 60, 417.5, 835.5, 835.5, 1670.5)),
    ("h200", Peak(67, 67, 494.7, 989.4, 989.4, 1978.9)),
    ("h100 nvl", Peak(60, 60, 417.5, 835.5, 835.5, 1670.5)),
    ("h100 pcie", Peak(51.2, 51.2, 378, 756, 756, 1513)),
    ("h100", Peak(67, 67, 494.7, 989.4, 989.4, 1978.9)),
    ("rtx 6000 ada", Peak(91.1 / 64, 91.1, 182.1, 364.2, 364.2, 728.5)),
    ("l40s", Peak(91.6 / 64, 91.6, 183, 362, 362, 733)),
    ("l40", Peak(90.5 / 64, 90.5, 90.5, 181, 181, 362)),
    ("l4", Peak(30.3 / 64, 30.3, 60, 121, 121, 242)),
    ("a100", Peak(19.5, 19.5, 156, 312, 312)),
    ("rtx a6000", Peak(38.7 / 64, 38.7, 77.4, 154.8, 154.8)),
    ("a40", Peak(37.4 / 64, 37.4, 74.8, 149.7, 149.7)),
    ("a30", Peak(10.3, 10.3, 82, 165, 165)),
    ("a10g", Peak(35 / 64, 35, 35, 70, 70)),
    ("a10", Peak(31.2 / 64, 31.2, 62.5, 125, 125)),
    ("a2", Peak(4.5 / 64, 4.5, 9, 18, 18)),
    ("t4", Peak(8.1 / 32, 8.1, None, 65, None)),
    ("v100s", Peak(8.2, 16.4, None, 130, None)),
    ("v100 sxm2", Peak(7.8, 15.7, None, 125, None)),
    ("v100 sxm3", Peak(7.8, 15.7, None, 125, None)),
    ("v100 pcie", Peak(7, 14, None, 112, None)),
    ("p100 sxm2", Peak(5.3, 10.6, None, 21.2, None)),
    ("p100 pcie", Peak(4.7, 9.3, None, 18.7, None)),
    ("rtx 5090", _ada(104.8)),
    ("rtx 5080", _ada(56.3)),
    ("rtx 5070 ti", _ada(43.9)),
    ("rtx 5070", _ada(30.9)),
    ("rtx 4090", _ada(82.6)),
    ("rtx 4080 super", _ada(52.2)),
    ("rtx 4080", _ada(48.7)),
    ("rtx 4070 ti super", _ada(44.1)),
    ("rtx 4070 ti", _ada(40.1)),
    ("rtx 4070 super", _ada(35.5)),
    ("rtx 4070", _ada(29.1)),
    ("rtx 4060 ti", _ada(22.1)),
    ("rtx 4060", _ada(15.1)),
    ("rtx 3090 ti", _ampere(40.0)),
    ("rtx 3090", _ampere(35.6)),
    ("rtx 3080 ti", _ampere(34.1)),
    ("rtx 3080", _ampere(29.8)),
    ("rtx 3070 ti", _ampere(21.7)),
    ("rtx 3070", _ampere(20.3)),
    ("rtx 3060 ti", _ampere(16.2)),
    ("rtx 3060", _ampere(12.7)),
    ("rtx 2080 ti", _turing(13.4)),
    ("rtx 2080 super", _turing(11.2)),
    ("rtx 2080", _turing(10.1)),
    ("rtx 2070 super", _turing(9.1)),
    ("rtx 2070", _turing(7.5)),
    ("rtx 2060 super", _turing(7.2)),
    ("rtx 2060", _turing(6.5)),
)
"""Cards for data centres, workstations and desktops."""

TPU = {"v2": 45 / 2, "v3": 123 / 2, "v4": 275.0, "v5litepod": 197.0, "v5e": 197.0, "v5p": 459.0}
"""Teraflops of a device as torch_xla counts them (a core of v2 and v3, a chip since) in bfloat16, with which they do float32, too."""

SLOWER = {"laptop", "mobile", "max", "mig"}
"""Words of names that are otherwise those of whole cards: chips for laptops (Max-Q among them), and a part of a card (MIG)."""


def get_available_flops(device: torch.device, dtype: torch.dtype) -> float | None:
    """The peak of a device in operations per second, for matrices of a type of number; None where it is not known.

    For float32 it is the peak in TF32 where `torch.set_float32_matmul_precision` allows that. Warns for a GPU or TPU that is not in the
    table, and for a number that the chip does not calculate with; of a CPU nothing is known, and nothing said.

    >>> get_available_flops(torch.device("cpu"), torch.float32) is None
    True
    """
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
        return _told(name, peak_of(name), dtype)
    if device.type == "xla":
        name = tpu_type()
        known = TPU.get(name.partition("-")[0])
        return _told(name or "this TPU", None if known is None else Peak(None, known, None, None, known), dtype)
    return None


def tpu_type() -> str:
    """What the machine says about its TPU in its environment, such as `v4-8`."""
    return os.environ.get("TPU_ACCELERATOR_TYPE", "") or os.environ.get("ACCELERATOR_TYPE", "")


def peak_of(name: str) -> Peak | None:
    """The figures of an NVIDIA GPU, by the name that its driver gives.

    >>> peak_of("NVIDIA A100-SXM4-80GB").bfloat16, peak_of("NVIDIA GeForce RTX 4090 Laptop GPU")
    (312, None)
    """
    words = name.lower().replace("-", " ").split()
    if SLOWER & set(words):
        return None
    return next((peak for known, peak in NVIDIA if _within(known.split(), words)), None)


def _within(some: list[str], words: list[str]) -> bool:
    """Whether words stand in a name, in their order, each a whole one."""
    rest = iter(words)
    return all(word in rest for word in some)


def _told(name: str, peak: Peak | None, dtype: torch.dtype) -> float | None:
    flops = None if peak is None else peak.flops(dtype)
    if flops is None:
        lacks = "is not in the table of peaks" if peak is None else f"has no peak for {dtype} there"
        rank_zero_warn(f"{name} {lacks}, so how much of it is used (MFU) is not known; available_flops=... tells it.", stacklevel=4)
    return flops


def compute_dtype(precision: Precision, device: torch.device) -> torch.dtype:
    """The type of number in which a precision multiplies matrices: that of autocast, if it uses that, else that of its inputs.

    >>> compute_dtype(Precision(), torch.device("cpu"))
    torch.float32
    """
    with precision.forward_context():
        if torch.is_autocast_enabled(device.type):
            return torch.get_autocast_dtype(device.type)
        probe: Any = precision.convert_input(torch.zeros(1))
    return probe.dtype if isinstance(probe, torch.Tensor) else torch.get_default_dtype()
