"""Starts the processes that a strategy works with."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

from lx.interfaces.environment import ClusterEnvironment


class Launcher(ABC):
    """Made by the resolver from the name in the strategy's capabilities; called once, in the process that the user started."""

    def __init__(self, environment: ClusterEnvironment, num_processes: int, num_nodes: int = 1) -> None:
        self.environment = environment
        self.num_processes = num_processes
        self.num_nodes = num_nodes

    @property
    @abstractmethod
    def is_interactive_compatible(self) -> bool:
        """Whether it works in a notebook."""

    @abstractmethod
    def launch(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Makes sure that `num_processes` processes run on this node, each of which calls the function; returns its result."""

    def kill(self, signum: int) -> None:
        """Sends a signal to the processes that were started."""
