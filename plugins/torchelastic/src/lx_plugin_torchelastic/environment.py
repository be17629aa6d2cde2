"""What torchrun says about the processes that it started."""

import os

from lx.interfaces import ClusterEnvironment
from lx.kernel.errors import MisconfigurationException
from lx.rank_zero import rank_zero_warn

DEFAULT_ADDRESS, DEFAULT_PORT = "127.0.0.1", 12910


class TorchElasticEnvironment(ClusterEnvironment):
    """Processes that torchrun started; detected by `TORCHELASTIC_RUN_ID`, and read from the variables that torchrun sets.

    Without `MASTER_ADDR` or `MASTER_PORT` it warns, and takes 127.0.0.1 and 12910. Another variable that is missing or no number raises
    `MisconfigurationException`.
    """

    @property
    def creates_processes_externally(self) -> bool:
        """Always: torchrun starts and restarts them."""
        return True

    @property
    def main_address(self) -> str:
        """`MASTER_ADDR`."""
        if "MASTER_ADDR" not in os.environ:
            rank_zero_warn(f"MASTER_ADDR is not set; processes meet at {DEFAULT_ADDRESS}, which they can on one node only.")
        return os.environ.get("MASTER_ADDR", DEFAULT_ADDRESS)

    @property
    def main_port(self) -> int:
        """`MASTER_PORT`."""
        if "MASTER_PORT" not in os.environ:
            rank_zero_warn(f"MASTER_PORT is not set; processes meet at port {DEFAULT_PORT}, which another run may use too.")
        return _number("MASTER_PORT", DEFAULT_PORT)

    @staticmethod
    def detect() -> bool:
        """Whether torchrun started this process."""
        return "TORCHELASTIC_RUN_ID" in os.environ  # what torch.distributed.is_torchelastic_launched reads, without torch

    def world_size(self) -> int:
        """`WORLD_SIZE`, which may change when torchrun restarts the processes."""
        return _number("WORLD_SIZE")

    def global_rank(self) -> int:
        """`RANK`."""
        return _number("RANK")

    def local_rank(self) -> int:
        """`LOCAL_RANK`."""
        return _number("LOCAL_RANK")

    def node_rank(self) -> int:
        """`GROUP_RANK`, 0 where it is not set."""
        return _number("GROUP_RANK", 0)

    def validate_settings(self, num_devices: int, num_nodes: int) -> None:
        """Raises `ValueError` if torchrun started another number of processes than `devices` times `num_nodes`."""
        if num_devices * num_nodes != self.world_size():
            raise ValueError(
                f"torchrun started {self.world_size()} processes, and devices={num_devices} on num_nodes={num_nodes} ask for "
                f"{num_devices * num_nodes}; give as many devices as processes a node (--nproc-per-node) and as many nodes (--nnodes)."
            )


def _number(variable: str, default: int | None = None) -> int:
    given = os.environ.get(variable, None if default is None else str(default))
    if given is None or not given.strip().isdigit():
        raise MisconfigurationException(
            f"the environment variable {variable} is {'not set' if given is None else repr(given)}, and torchrun sets it to a number; "
            "start the program with torchrun, or use the environment 'local'."
        )
    return int(given)
