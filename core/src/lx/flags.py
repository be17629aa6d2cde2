"""The flags of torch that hold for the whole process."""

import os

import torch

from lx.kernel.errors import MisconfigurationException
from lx.rank_zero import rank_zero_warn


def check_deterministic(deterministic: bool | str | None) -> None:
    """Raises `MisconfigurationException` for anything but True, False, `"warn"` and None."""
    if deterministic not in (None, False, True, "warn"):
        raise MisconfigurationException(f"deterministic={deterministic!r}: it must be True, False, 'warn' or None.")


def set_flags(deterministic: bool | str | None, benchmark: bool | None) -> None:
    """Sets torch's flags for the whole process; None leaves them alone."""
    if deterministic:
        torch.use_deterministic_algorithms(True, warn_only=deterministic == "warn")
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        if benchmark is None:
            torch.backends.cudnn.benchmark = False
    elif deterministic is False:
        torch.use_deterministic_algorithms(False)
    if benchmark is not None:
        torch.backends.cudnn.benchmark = benchmark
        if benchmark and deterministic:
            rank_zero_warn("benchmark=True picks algorithms by time, which deterministic=True means to avoid.")
