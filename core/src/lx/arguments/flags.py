"""The arguments of a Trainer that are plain switches or paths, and the flags of torch that hold for the whole process."""

import os
from collections.abc import Mapping
from typing import Any

import torch

from lx.kernel.errors import ArgumentTypeError, MisconfigurationException
from lx.rank_zero import rank_zero_warn
from lx.urls import local_or_url

SWITCHES = (
    "enable_checkpointing",
    "enable_progress_bar",
    "enable_model_summary",
    "benchmark",
    "inference_mode",
    "use_distributed_sampler",
    "detect_anomaly",
    "barebones",
    "sync_batchnorm",
    "enable_autolog_hparams",
    "suggest_integrations",
)
"""The arguments of a Trainer that are on or off."""

OPTIONAL_SWITCHES = SWITCHES[:4]

CHOSEN_BY_CALLBACKS = SWITCHES[:3]
"""Those that stand for a callback, which users like to name there."""


def check_switches(given: Mapping[str, Any]) -> None:
    """Raises `ArgumentTypeError` for one among the Trainer's arguments that is neither on nor off: a string such as "no" would be on."""
    for name in SWITCHES:
        value, optional = given[name], name in OPTIONAL_SWITCHES
        if value not in ((0, 1, None) if optional else (0, 1)):
            hint = " To choose which one, name it in callbacks." if name in CHOSEN_BY_CALLBACKS else ""
            raise ArgumentTypeError(f"{name}={value!r}: it must be True{', False or None' if optional else ' or False'}.{hint}")


def read_policy(unseekable_data: Any) -> str:
    """What is done with data that cannot seek, when fit goes on within an epoch; raises `MisconfigurationException` for no such policy."""
    if unseekable_data not in ("replay", "refuse"):
        raise MisconfigurationException(
            f"unseekable_data={unseekable_data!r}: it must be 'replay' (what was trained on is read again and dropped) or 'refuse' (to"
            " go on within an epoch)."
        )
    return str(unseekable_data)


def read_folder(default_root_dir: Any) -> str:
    """The absolute path of `default_root_dir`, the current folder for None, a URL as it is; raises `ArgumentTypeError` for no path."""
    if default_root_dir is None:
        return os.getcwd()
    if not isinstance(default_root_dir, str | os.PathLike):
        raise ArgumentTypeError(f"default_root_dir={default_root_dir!r}: it must be a path, as a string or a Path, or None.")
    place = local_or_url(default_root_dir)
    return place if isinstance(place, str) else os.path.abspath(os.path.expanduser(place))


def refuse_registry(model_registry: Any) -> None:
    """Raises `MisconfigurationException` for anything but None: checkpoints go to folders, and from there wherever a callback puts them."""
    if model_registry is not None:
        raise MisconfigurationException(
            f"model_registry={model_registry!r}: lx writes checkpoints to folders, and uploads them to no registry; leave it out, and copy"
            " trainer.checkpoint_callback.best_model_path to the registry when fit has ended, or in a callback's on_fit_end."
        )


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
        torch.backends.cudnn.benchmark = bool(benchmark)
        if benchmark and deterministic:
            rank_zero_warn("benchmark=True picks algorithms by time, which deterministic=True means to avoid.")
