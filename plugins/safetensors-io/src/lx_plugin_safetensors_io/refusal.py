"""What is said of a value that a file without pickle cannot hold: where it is, what it is, and what to store instead."""

from collections.abc import Sequence
from typing import Any

import torch

from lx.checkpoints.advice import instead_of, name_of
from lx.kernel.errors import CheckpointError

KINDS = (str, int, float, complex, bytes, dict, list, tuple, set, frozenset)


def refusal(value: Any, path: Sequence[Any], reason: str = "") -> CheckpointError:
    """The error for a value at a place in a checkpoint."""
    cure = _cure_of_tensor(value) if isinstance(value, torch.Tensor) else instead_of(value, KINDS)
    reason = (
        reason or f"is a {name_of(type(value))}, which the checkpoint I/O 'safetensors_io' cannot write, since it uses no pickle; {cure}"
    )
    return CheckpointError(f"{place(path)} {reason}{_leaving_out(path)}.")


def cycle(value: Any, path: Sequence[Any]) -> CheckpointError:
    """The error for a value that holds itself."""
    return refusal(value, path, f"is the {type(value).__name__} that it lies in, and a file without pickle holds no cycles; break it")


def place(path: Sequence[Any]) -> str:
    """A place in a checkpoint, as a program writes it.

    >>> place(["optimizer_states", 0, "state"])
    "checkpoint['optimizer_states'][0]['state']"
    """
    return "checkpoint" + "".join(f"[{key!r}]" for key in path)


def _cure_of_tensor(value: torch.Tensor) -> str:
    if value.is_meta:
        return "it has no values: it is on the meta device"
    if value.is_quantized:
        return "store it.int_repr(), its scale and its zero point"
    if value.layout is not torch.strided:
        return f"store it.to_dense(), or the parts of the layout {value.layout}"
    if value.is_nested:
        return "store it.unbind()"
    return "store the plain tensors that it is made of"


def _leaving_out(path: Sequence[Any]) -> str:
    """How a hyperparameter is kept out of checkpoints."""
    if len(path) > 1 and path[0] in ("hyper_parameters", "datamodule_hyper_parameters"):
        return f", or leave it out: save_hyperparameters(ignore=[{path[1]!r}])"
    return ""
