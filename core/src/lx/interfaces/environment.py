"""What a cluster says about the processes of a run: how many, which one this is, and where to meet."""

from abc import ABC, abstractmethod


class ClusterEnvironment(ABC):
    """The interface of a cluster environment. `roles={"detect": rank}` has it asked by `detect`, the highest rank first."""

    requeues: bool = False
    """Whether a job that is started again here goes on with `fit` from the checkpoint that it left before, without being told: the
    newest file `hpc_ckpt_<number>.ckpt` in the trainer's `default_root_dir`."""

    requeues_on: int | None = None
    """The signal by which the cluster says that the time of a job is over; while `fit` runs in the main thread, such a file is written
    then, the run ends, and `requeue` is called. None for no signal."""

    @property
    @abstractmethod
    def creates_processes_externally(self) -> bool:
        """Whether the processes are already started, so that no launcher is needed."""

    @property
    @abstractmethod
    def main_address(self) -> str:
        """The host on which rank 0 listens."""

    @property
    @abstractmethod
    def main_port(self) -> int:
        """The port on which rank 0 listens."""

    @staticmethod
    @abstractmethod
    def detect() -> bool:
        """Whether this process runs in such an environment; reads environment variables only."""

    @abstractmethod
    def world_size(self) -> int:
        """The number of processes over all nodes."""

    @abstractmethod
    def global_rank(self) -> int:
        """This process among all, from 0."""

    @abstractmethod
    def local_rank(self) -> int:
        """This process among those of its node, from 0."""

    @abstractmethod
    def node_rank(self) -> int:
        """This node among all, from 0."""

    def set_world_size(self, size: int) -> None:
        """Told by the strategy; an environment that knows better ignores it."""

    def set_global_rank(self, rank: int) -> None:
        """Told by the strategy; an environment that knows better ignores it."""

    def validate_settings(self, num_devices: int, num_nodes: int) -> None:
        """Raises `ValueError` if the cluster started something else than what the user asked lx for."""

    def requeue(self) -> str:
        """Queues this job again, and says so in a sentence; called on rank 0 when the run has ended and the checkpoint is written. Raises
        `RuntimeError` where that fails."""
        raise NotImplementedError(f"{type(self).__name__} names a signal in `requeues_on`, and cannot queue a job again.")

    def teardown(self) -> None:
        """Undoes what it set, such as environment variables."""
