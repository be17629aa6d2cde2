"""How a model is spread over devices and processes, and how those work as one."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from lx.interfaces.accelerator import Accelerator
from lx.interfaces.checkpoint_io import CheckpointIO
from lx.interfaces.environment import ClusterEnvironment
from lx.interfaces.precision import Precision
from lx.kernel.errors import CheckpointMismatchError


@dataclass(frozen=True, slots=True)
class StrategyCapabilities:
    """What a strategy is and can do, declared, so that nobody has to ask for its class.

    `distributed`: several processes work as one, so samplers are split and values may be reduced. `launcher`: the registered
    name of the launcher that starts its processes (None: none are started). `device_types`: torch device types it runs on
    (empty: all). `precisions`: registered precisions it works with (empty: all). `wraps_training`: `setup_module` wraps, and only
    for training. `handles_accumulation`: gradients are accumulated inside, so the loss is not divided and every batch steps.
    `restores_after_setup`: model weights are loaded after wrapping. `joint_setup`: modules and optimizers must be set up together.
    `sync_batchnorm`: batch norm layers may be synchronised. `inference_mode`: `torch.inference_mode` is safe while evaluating.
    """

    distributed: bool = False
    launcher: str | None = None
    device_types: frozenset[str] = frozenset()
    precisions: frozenset[str] = frozenset()
    wraps_training: bool = False
    handles_accumulation: bool = False
    restores_after_setup: bool = False
    joint_setup: bool = False
    sync_batchnorm: bool = False
    inference_mode: bool = True


class Strategy(ABC):
    """The interface of a strategy. The five abstract members are enough for one process; the others have neutral defaults.

    The leading constructor arguments are what a user may fix in an instance; what is left None, the resolver chooses.
    A strategy becomes an automatic choice with `roles={"one-device": rank}` or `roles={"many-devices": rank}`.
    Subclasses of a concrete strategy are welcome where its docstring says that it is open.
    """

    capabilities: StrategyCapabilities = StrategyCapabilities()

    def __init__(
        self,
        accelerator: Accelerator | None = None,
        parallel_devices: list[torch.device] | None = None,
        cluster_environment: ClusterEnvironment | None = None,
        checkpoint_io: CheckpointIO | None = None,
        precision_plugin: Precision | None = None,
    ) -> None:
        self.accelerator = accelerator
        self.parallel_devices = parallel_devices
        self.cluster_environment = cluster_environment
        self.checkpoint_io = checkpoint_io
        self.precision = precision_plugin
        self.num_nodes = 1

    def connect(
        self,
        *,
        accelerator: Accelerator,
        parallel_devices: list[torch.device],
        cluster_environment: ClusterEnvironment | None,
        checkpoint_io: CheckpointIO | None,
        precision: Precision,
        num_nodes: int = 1,
    ) -> None:
        """Hands over the parts that resolution chose; called once, on every rank, before processes are launched."""
        self.accelerator = accelerator
        self.parallel_devices = parallel_devices
        self.cluster_environment = cluster_environment
        self.checkpoint_io = checkpoint_io
        self.precision = precision
        self.num_nodes = num_nodes

    # -- where this process stands -----------------------------------------------------------------------------------

    @property
    @abstractmethod
    def root_device(self) -> torch.device:
        """The device of this process."""

    @property
    def world_size(self) -> int:
        """The number of processes."""
        return 1

    @property
    def global_rank(self) -> int:
        """This process among all, from 0."""
        return 0

    @property
    def local_rank(self) -> int:
        """This process among those of its node, from 0."""
        return 0

    @property
    def node_rank(self) -> int:
        """This node among all, from 0."""
        return 0

    @property
    def is_global_zero(self) -> bool:
        """Whether this process writes and prints."""
        return self.global_rank == 0

    @property
    def distributed_sampler_kwargs(self) -> dict[str, int]:
        """`num_replicas` and `rank` for samplers; data is the same on processes that share a rank here."""
        return {"num_replicas": self.world_size, "rank": self.global_rank}

    # -- life ----------------------------------------------------------------------------------------------------------

    def setup_environment(self) -> None:
        """Readies the device and joins the process group; called once on every rank, after launch, before anything is built."""
        if self.accelerator is not None:
            self.accelerator.setup_device(self.root_device)

    def setup_module(self, module: nn.Module) -> nn.Module:
        """The module as it is trained, wrapped where the strategy wraps; it is on its device already."""
        return module

    def setup_optimizer(self, optimizer: Optimizer) -> Optimizer:
        """The optimizer as it is stepped."""
        return optimizer

    def setup_module_and_optimizers(self, module: nn.Module, optimizers: list[Optimizer]) -> tuple[nn.Module, list[Optimizer]]:
        """Both together, for strategies with `joint_setup`."""
        return self.setup_module(module), [self.setup_optimizer(optimizer) for optimizer in optimizers]

    def module_to_device(self, module: nn.Module) -> None:
        """Moves a module to the root device."""
        module.to(self.root_device)

    def teardown(self) -> None:
        """Leaves the process group and releases the device; called on every rank at the end of the program's use of it."""
        for part in (self.precision, self.accelerator, self.checkpoint_io):
            if part is not None:
                part.teardown()

    # -- contexts ------------------------------------------------------------------------------------------------------

    def tensor_init_context(self) -> AbstractContextManager[Any]:
        """Entered while tensors are made: on the root device, in the precision."""
        stack = ExitStack()
        stack.enter_context(self.root_device)
        if self.precision is not None:
            stack.enter_context(self.precision.tensor_init_context())
        return stack

    def module_init_context(self, empty_init: bool | None = None) -> AbstractContextManager[Any]:
        """Entered while modules are made: on the root device, in the precision; `empty_init` skips their initialisation."""
        stack = ExitStack()
        stack.enter_context(self.root_device)
        if self.precision is not None:
            stack.enter_context(self.precision.module_init_context())
        if empty_init:
            stack.enter_context(_EmptyInit())
        return stack

    def no_backward_sync(self, module: nn.Module, enabled: bool = True) -> AbstractContextManager[Any]:
        """Within it, `backward` does not reduce gradients over processes; for the inner batches of an accumulation window."""
        return nullcontext()

    # -- arithmetic ------------------------------------------------------------------------------------------------------

    def clip_gradients_norm(
        self, module: nn.Module, optimizer: Optimizer, max_norm: float, norm_type: float = 2.0, error_if_nonfinite: bool = False
    ) -> torch.Tensor:
        """Scales the optimizer's gradients so that their joint norm is at most `max_norm`; returns the norm before."""
        return nn.utils.clip_grad_norm_(optimizer_parameters(optimizer), max_norm, norm_type, error_if_nonfinite)

    def clip_gradients_value(self, module: nn.Module, optimizer: Optimizer, clip_val: float) -> None:
        """Limits every element of the optimizer's gradients to `[-clip_val, clip_val]`."""
        nn.utils.clip_grad_value_(optimizer_parameters(optimizer), clip_val)

    # -- collectives -----------------------------------------------------------------------------------------------------

    @abstractmethod
    def all_reduce(self, tensor: torch.Tensor, group: Any = None, reduce_op: str = "mean") -> torch.Tensor:
        """The `sum`, `mean`, `min` or `max` of a tensor over the processes, in place where it can be."""

    @abstractmethod
    def all_gather(self, tensor: torch.Tensor, group: Any = None, sync_grads: bool = False) -> torch.Tensor:
        """The tensors of all processes, stacked along a new first dimension; in one process the tensor itself."""

    @abstractmethod
    def broadcast(self, obj: Any, src: int = 0) -> Any:
        """An object of rank `src`, on every rank; it must be picklable."""

    @abstractmethod
    def barrier(self, name: str | None = None) -> None:
        """Returns when every process has come here."""

    def reduce_boolean_decision(self, decision: bool, all: bool = True) -> bool:  # noqa: A002 -- the name users of Lightning pass
        """Whether all (or, with `all=False`, any) of the processes decided for it."""
        return decision

    # -- checkpoints -----------------------------------------------------------------------------------------------------

    def module_state_dict(self, module: nn.Module) -> dict[str, Any]:
        """The whole state of an unwrapped module as it is saved; called on every rank, may be empty beside rank 0."""
        return module.state_dict()

    def load_module_state_dict(self, module: nn.Module, state: Mapping[str, Any], strict: bool = True) -> Any:
        """Loads what `module_state_dict` gave into an unwrapped module; raises `CheckpointMismatchError` if it does not fit."""
        try:
            return module.load_state_dict(state, strict=strict)
        except RuntimeError as error:
            raise CheckpointMismatchError(
                f"the weights in the checkpoint do not fit the model: {error}\nMake the model with the arguments that it was saved with"
                " (load_from_checkpoint does); where names alone differ, self.strict_loading = False loads the rest."
            ) from error

    def optimizer_state_dict(self, optimizer: Optimizer, module: nn.Module) -> dict[str, Any]:
        """The whole state of an optimizer as it is saved; called on every rank."""
        return optimizer.state_dict()

    def load_optimizer_state_dict(self, optimizer: Optimizer, module: nn.Module, state: dict[str, Any]) -> None:
        """Loads what `optimizer_state_dict` gave, and puts the optimizer's tensors on their parameters' devices."""
        optimizer.load_state_dict(state)

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Writes a checkpoint; called on every rank, and by default only rank 0 writes."""
        if self.is_global_zero:
            self.require_checkpoint_io().save_checkpoint(checkpoint, path, storage_options=storage_options)

    def load_checkpoint(self, path: str | Path, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        """Reads a checkpoint on every rank."""
        return self.require_checkpoint_io().load_checkpoint(path, map_location=map_location, weights_only=weights_only)

    def remove_checkpoint(self, path: str | Path) -> None:
        """Removes a checkpoint; called on every rank, and by default only rank 0 removes."""
        if self.is_global_zero:
            self.require_checkpoint_io().remove_checkpoint(path)

    def require_checkpoint_io(self) -> CheckpointIO:
        """The checkpoint I/O; raises `RuntimeError` where the strategy has none."""
        if self.checkpoint_io is None:
            raise RuntimeError("no checkpoint I/O is installed; `pip install lx-standard` brings one.")
        return self.checkpoint_io


class _EmptyInit(torch.overrides.TorchFunctionMode):
    """Makes the functions of `torch.nn.init` do nothing."""

    def __torch_function__(self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__module__", None) == "torch.nn.init":
            return kwargs["tensor"] if kwargs and "tensor" in kwargs else args[0]
        return func(*args, **(kwargs or {}))


def optimizer_parameters(optimizer: Optimizer) -> list[torch.Tensor]:
    """All parameters of an optimizer, in the order of its groups."""
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]
