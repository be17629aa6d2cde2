"""Fabric: device, strategy, precision, launch and checkpoint as one layer, on which the Trainer stands and a loop of one's own can."""

import inspect
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any
from weakref import ReferenceType, ref

import torch
from torch import nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader

from lx.arguments.passing import or_from_environment, passed_by_name
from lx.batch import as_tensors, map_tensors, move_to
from lx.data.samplers import distribute
from lx.delegate import delegated
from lx.fabric_state import call_each, restored, scalar, states_of
from lx.fabric_trainer import attach
from lx.interfaces.accelerator import Accelerator
from lx.interfaces.precision import Precision
from lx.interfaces.strategy import Strategy
from lx.kernel import PluginManager, default_manager
from lx.kernel.errors import ArgumentValueError, CheckpointKeyError
from lx.rank_zero import rank_zero_only, rank_zero_warn
from lx.resolution.request import Request, Resolution
from lx.resolution.resolve import resolve
from lx.rng import SEED_VARIABLE, WORKERS_VARIABLE, seed_everything, worker_init_function
from lx.wrappers import BackwardGuard, FabricDataLoader, FabricModule, FabricOptimizer, is_wrapped, require_original, unwrap

__all__ = ["Fabric", "is_wrapped"]


class Fabric:
    """Runs a training loop of your own on any hardware; every argument may be a name that a plugin offers.

    >>> fabric = Fabric(accelerator="cpu")
    >>> model = nn.Linear(2, 1)
    >>> model, optimizer = fabric.setup(model, torch.optim.SGD(model.parameters(), lr=0.1))
    >>> fabric.backward(model(torch.ones(4, 2)).sum())
    >>> _ = optimizer.step()
    """

    @or_from_environment("LX_FABRIC_", "LT_")
    @passed_by_name
    def __init__(
        self,
        *,
        accelerator: str | Accelerator = "auto",
        strategy: str | Strategy = "auto",
        devices: int | str | list[int] = "auto",
        num_nodes: int = 1,
        precision: str | int | Precision | None = None,
        plugins: Any = None,
        callbacks: Any = None,
        loggers: Any = None,
        manager: PluginManager | None = None,
    ) -> None:
        manager = manager or default_manager()
        request = Request(
            accelerator=accelerator,
            strategy=strategy,
            devices=devices,
            num_nodes=num_nodes,
            precision=precision,
            plugins=plugins,
            logger=loggers,
            trainer=False,
        )
        self._assemble(resolve(request, manager.registry, manager.trace))
        self.callbacks: list[Any] = list(callbacks) if isinstance(callbacks, list | tuple) else [callbacks] if callbacks is not None else []
        self.loggers: list[Any] = [choice.make(save_dir=os.getcwd(), root_dir=os.getcwd()) for choice in self.resolution.loggers]

    @classmethod
    def from_resolution(cls, resolution: Resolution) -> "Fabric":
        """A Fabric of parts that were resolved already; it has no callbacks and no loggers."""
        fabric = cls.__new__(cls)
        fabric._assemble(resolution)
        fabric.callbacks, fabric.loggers = [], []
        return fabric

    def _assemble(self, resolution: Resolution) -> None:
        self.resolution = resolution
        strategy: Strategy = resolution.strategy.make()
        environment = strategy.cluster_environment or (resolution.environment.make() if resolution.environment else None)
        processes = len(resolution.devices)
        if environment is not None:
            environment.validate_settings(num_devices=processes, num_nodes=resolution.request.num_nodes)
        strategy.connect(
            accelerator=strategy.accelerator or resolution.accelerator.make(),
            parallel_devices=strategy.parallel_devices or resolution.parallel_devices,
            cluster_environment=environment,
            checkpoint_io=strategy.checkpoint_io or (resolution.checkpoint_io.make() if resolution.checkpoint_io else None),
            precision=strategy.precision or resolution.precision.make(),
            num_nodes=resolution.request.num_nodes,
        )
        self.strategy = strategy
        self._guard = BackwardGuard(self.precision)
        self._optimizers: list[ReferenceType[FabricOptimizer]] = []
        self.launcher = None
        if resolution.launcher is not None and environment is not None and not environment.creates_processes_externally:
            self.launcher = resolution.launcher.make(
                environment=environment, num_processes=processes, num_nodes=resolution.request.num_nodes
            )
        self._launched = False

    accelerator = delegated("strategy.accelerator", "The accelerator.")
    precision = delegated("strategy.precision", "The precision.")
    device = delegated("strategy.root_device", "The device of this process.")
    world_size = delegated("strategy.world_size", "The number of processes.")
    global_rank = delegated("strategy.global_rank", "This process among all.")
    local_rank = delegated("strategy.local_rank", "This process among those of its node.")
    node_rank = delegated("strategy.node_rank", "This node among all.")
    is_global_zero = delegated("strategy.is_global_zero", "Whether this process writes and prints.")

    @property
    def logger(self) -> Any:
        """The first logger, None without any."""
        return self.loggers[0] if self.loggers else None

    # -- launch ----------------------------------------------------------------------------------------------------------

    def launch(self, function: Callable[..., Any] | None = None, *args: Any, **kwargs: Any) -> Any:
        """Starts the other processes, if the strategy needs them and nobody has, and calls the function with this Fabric first.

        Call it once, before `setup`; with one device it is not needed. Raises `TypeError` for a function that takes no argument.
        """
        if function is not None and not callable(function):
            raise TypeError(f"launch takes a function, not {function!r}.")
        if function is not None and not inspect.signature(function).parameters:
            raise TypeError("the function given to launch must take one argument at least, the Fabric.")
        if self.launcher is None or self._launched:
            return self._in_place(function, *args, **kwargs)
        self._launched = True
        return self.launcher.launch(self._in_place, function, *args, **kwargs)

    def _in_place(self, function: Callable[..., Any] | None, *args: Any, **kwargs: Any) -> Any:
        self.setup_environment()
        return function(self, *args, **kwargs) if function is not None else None

    def setup_environment(self) -> None:
        """Readies the device and joins the other processes; `launch` and the first `setup` do it, and a second call does nothing."""
        if getattr(self, "_ready", False):
            return
        processes = len(self.resolution.devices) * self.resolution.request.num_nodes
        if self.launcher is not None and not self._launched and processes > 1:
            raise RuntimeError(f"the devices asked for need {processes} processes; call fabric.launch() before this.")
        self._ready = True
        self.strategy.setup_environment()
        rank_zero_only.rank = self.strategy.global_rank
        self.precision.connect(self.device)

    def teardown(self) -> None:
        """Leaves the other processes and releases the device."""
        if getattr(self, "_ready", False):
            self.strategy.teardown()
            self._ready = False

    # -- set-up ----------------------------------------------------------------------------------------------------------

    def setup(self, module: nn.Module, *optimizers: Optimizer, move_to_device: bool = True) -> Any:
        """The module alone, or a tuple of it and its optimizers, ready to be trained under the strategy and the precision.

        A LightningModule logs, prints and runs backward through this Fabric from then on, and `call` reaches its hooks, too. Raises
        `ValueError` for what was set up already, before anything is moved.
        """
        self.setup_environment()
        for place, given in enumerate((module, *optimizers)):
            require_original(given, Optimizer if place else nn.Module)
        if not optimizers:
            ready: Any = self._wrap(module, self.strategy.setup_module(self._moved(module, move_to_device)))
        elif self.strategy.capabilities.joint_setup:
            wrapped, stepped = self.strategy.setup_module_and_optimizers(self._moved(module, move_to_device), list(optimizers))
            ready = (self._wrap(module, wrapped), *(self._wrap_optimizer(optimizer) for optimizer in stepped))
        else:
            wrapped = self.strategy.setup_module(self._moved(module, move_to_device))
            ready = (self._wrap(module, wrapped), *_listed(self.setup_optimizers(*optimizers)))
        attach(self, module)
        self.call("on_after_setup", fabric=self, module=ready[0] if optimizers else ready)
        return ready

    def setup_module(self, module: nn.Module, move_to_device: bool = True) -> FabricModule:
        """A module without optimizers, ready to run."""
        return self.setup(module, move_to_device=move_to_device)  # type: ignore[no-any-return]

    def setup_optimizers(self, *optimizers: Optimizer) -> Any:
        """One optimizer, or a tuple of them, stepping through the precision.

        Raises `RuntimeError` where the set-up must be joint, and for an optimizer of parameters on the meta device, which get other
        tensors when the module is set up.
        """
        self.setup_environment()
        if not optimizers:
            raise ValueError("setup_optimizers needs one optimizer at least.")
        if self.strategy.capabilities.joint_setup:
            raise RuntimeError("this strategy sets up a module and its optimizers together: fabric.setup(module, *optimizers).")
        for optimizer in optimizers:
            require_original(optimizer, Optimizer)
            if any(parameter.is_meta for group in optimizer.param_groups for parameter in group["params"]):
                raise RuntimeError(
                    f"this {type(optimizer).__name__} holds parameters on the meta device, which it would lose sight of; set up the module"
                    " first, then make the optimizer from it and pass that to setup_optimizers."
                )
        ready = tuple(self._wrap_optimizer(self.strategy.setup_optimizer(optimizer)) for optimizer in optimizers)
        return ready[0] if len(ready) == 1 else ready

    def setup_dataloaders(self, *dataloaders: DataLoader[Any], use_distributed_sampler: bool = True, move_to_device: bool = True) -> Any:
        """One loader, or a list of them, whose batches come on the device, each process with its own share of the data."""
        self.setup_environment()
        if not dataloaders:
            raise ValueError("setup_dataloaders needs one loader at least.")
        ready = [self._setup_dataloader(loader, use_distributed_sampler, move_to_device) for loader in dataloaders]
        return ready[0] if len(ready) == 1 else ready

    def _setup_dataloader(self, loader: Any, use_distributed_sampler: bool, move_to_device: bool) -> FabricDataLoader:
        require_original(loader, DataLoader)
        if use_distributed_sampler and self.strategy.capabilities.distributed:
            share, seed = self.strategy.distributed_sampler_kwargs, int(os.environ.get(SEED_VARIABLE, "0"))
            loader = distribute(loader, share["num_replicas"], share["rank"], seed=seed)
        if os.environ.get(WORKERS_VARIABLE, "0") == "1" and loader.worker_init_fn is None:
            loader.worker_init_fn = worker_init_function
        return FabricDataLoader(loader, self.device if move_to_device else None, self.accelerator.capabilities.non_blocking)

    def _moved(self, module: nn.Module, move: bool) -> nn.Module:
        module = self.precision.convert_module(module)
        if move:
            if len({parameter.device for parameter in module.parameters()}) > 1:
                rank_zero_warn("the module's parameters lie on several devices, and all move to one; move_to_device=False keeps them.")
            self.strategy.module_to_device(module)
        return module

    def _wrap(self, module: nn.Module, wrapped: nn.Module) -> FabricModule:
        return FabricModule(module, wrapped, self.strategy, self.precision, self._guard)

    def _wrap_optimizer(self, optimizer: Optimizer) -> FabricOptimizer:
        ready = FabricOptimizer(optimizer, self.strategy, self.precision, self.call)
        self._optimizers.append(ref(ready))
        return ready

    @property
    def optimizers(self) -> list[FabricOptimizer]:
        """The optimizers that were set up and are still held by somebody."""
        return [optimizer for reference in self._optimizers if (optimizer := reference()) is not None]

    # -- a step ----------------------------------------------------------------------------------------------------------

    def backward(self, tensor: torch.Tensor, *args: Any, model: FabricModule | None = None, **kwargs: Any) -> None:
        """Instead of `tensor.backward()`, which is refused where the precision scales."""
        with self._guard:
            self.precision.backward(tensor, *args, **kwargs)

    def clip_gradients(
        self,
        module: Any,
        optimizer: Any,
        clip_val: float | None = None,
        max_norm: float | None = None,
        norm_type: float | int = 2.0,
        error_if_nonfinite: bool = True,
    ) -> torch.Tensor | None:
        """Clips by value or by norm, of which exactly one must be given; returns the norm before, for `max_norm`."""
        if (clip_val is None) == (max_norm is None):
            raise ArgumentValueError(f"clip_val={clip_val!r}, max_norm={max_norm!r}: it takes either clip_val or max_norm.")
        module, optimizer = unwrap(module), unwrap(optimizer)
        self.precision.unscale_gradients(optimizer)
        if max_norm is not None:
            return self.strategy.clip_gradients_norm(module, optimizer, max_norm, norm_type, error_if_nonfinite)
        return self.strategy.clip_gradients_value(module, optimizer, clip_val)  # type: ignore[arg-type, func-returns-value]

    autocast = delegated("precision.forward_context", "The precision's forward context, for code outside of a module.")

    def no_backward_sync(self, module: FabricModule, enabled: bool = True) -> AbstractContextManager[Any]:
        """Within it gradients stay in this process; for all but the last batch of an accumulation window."""
        if not isinstance(module, FabricModule):
            raise TypeError(f"no_backward_sync takes a module from fabric.setup, not {type(module).__name__}.")
        return self.strategy.no_backward_sync(module.wrapped, enabled)

    def to_device(self, obj: Any) -> Any:
        """A module, tensor or collection of tensors, on this process's device."""
        if isinstance(obj, nn.Module):
            self.strategy.module_to_device(obj)
            return obj
        return move_to(obj, self.device, self.accelerator.capabilities.non_blocking)

    # -- contexts --------------------------------------------------------------------------------------------------------

    init_tensor = delegated("strategy.tensor_init_context", "Tensors made within are on the device, in the precision.")
    sharded_model = delegated("strategy.module_init_context", "Modules made within are sharded where the strategy shards.")

    def init_module(self, empty_init: bool | None = None) -> AbstractContextManager[Any]:
        """Modules made within are on the device, in the precision; `empty_init=True` leaves their weights uninitialised."""
        self.setup_environment()
        return self.strategy.module_init_context(empty_init)

    @contextmanager
    def rank_zero_first(self, local: bool = False) -> Iterator[None]:
        """Rank 0 (of each node, with `local`) runs the block before the others, for downloads and the like."""
        rank = self.local_rank if local else self.global_rank
        if rank > 0:
            self.barrier()
        yield
        if rank == 0:
            self.barrier()
        self.barrier()

    # -- processes -------------------------------------------------------------------------------------------------------

    def barrier(self, name: str | None = None) -> None:
        """Returns when every process has come here."""
        self.setup_environment()
        self.strategy.barrier(name)

    def broadcast(self, obj: Any, src: int = 0) -> Any:
        """An object of rank `src`, on every rank."""
        self.setup_environment()
        return self.strategy.broadcast(obj, src)

    def all_gather(self, data: Any, group: Any = None, sync_grads: bool = False) -> Any:
        """Every tensor or number of a collection from all processes, stacked in a new first dimension; of one process, each as a tensor."""
        self.setup_environment()
        return map_tensors(lambda tensor: self.strategy.all_gather(tensor, group, sync_grads), as_tensors(data, self.device))

    def all_reduce(self, data: Any, group: Any = None, reduce_op: str = "mean") -> Any:
        """Every tensor or number of a collection, as a tensor, reduced over all processes."""
        self.setup_environment()
        return map_tensors(lambda tensor: self.strategy.all_reduce(tensor, group, reduce_op), as_tensors(data, self.device))

    def print(self, *args: Any, **kwargs: Any) -> None:
        """Prints on local rank 0."""
        if self.local_rank == 0:
            print(*args, **kwargs)

    def seed_everything(self, seed: int | None = None, workers: bool | None = None, verbose: bool = True) -> int:
        """`lx.seed_everything`, with the loaders' workers seeded unless told otherwise."""
        return seed_everything(seed, workers=True if workers is None else workers, verbose=verbose)

    # -- checkpoints -----------------------------------------------------------------------------------------------------

    def save(self, path: str | Path, state: Mapping[str, Any], filter: Mapping[str, Callable[[str, Any], bool]] | None = None) -> None:  # noqa: A002
        """Writes modules, optimizers, whatever has a `state_dict`, and plain values; call it on every rank.

        `filter` maps keys of `state` to functions of (name, value) that say what of that entry is kept. Raises `TypeError` for what is no
        such function and for a filter of a plain value, `ValueError` for keys that the state does not have.
        """
        self.setup_environment()
        self.strategy.save_checkpoint(states_of(state, filter, self.strategy), path)
        self.barrier()

    def load(
        self, path: str | Path, state: dict[str, Any] | None = None, strict: bool = True, *, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Reads a checkpoint into the objects of `state`, in place, and returns what it held beside them.

        Plain values in `state` are replaced. Raises `KeyError` for a missing key if `strict`, before anything is loaded, and
        `FileNotFoundError` for a missing file.
        """
        self.setup_environment()
        content = self.strategy.load_checkpoint(path, map_location="cpu", weights_only=weights_only)
        state = {} if state is None else state
        missing = [key for key in state if key not in content]
        if missing and strict:
            raise CheckpointKeyError(
                f"{path} holds no {missing[0]!r}; it holds {', '.join(map(repr, content))}. strict=False skips what is missing."
            )
        for key in [key for key in state if key in content]:
            state[key] = restored(state[key], content.pop(key), strict, self.strategy)
        self.barrier()
        return content

    def load_raw(self, path: str | Path, obj: Any, strict: bool = True, *, weights_only: bool | None = None) -> None:
        """Reads a file that holds one bare state dict into a module or optimizer; raises `TypeError` for what has no state."""
        self.setup_environment()
        if not callable(getattr(obj, "load_state_dict", None)):
            raise TypeError(f"load_raw fills a module, an optimizer or what else has load_state_dict, not a {type(obj).__name__}.")
        restored(obj, self.strategy.load_checkpoint(path, map_location="cpu", weights_only=weights_only), strict, self.strategy)

    # -- callbacks and loggers -------------------------------------------------------------------------------------------

    def call(self, hook_name: str, *args: Any, **kwargs: Any) -> None:
        """Calls a method on every callback that has it, with those keyword arguments that it takes."""
        call_each(tuple(self.callbacks), hook_name, args, kwargs)

    def log(self, name: str, value: Any, step: int | None = None) -> None:
        """Sends one value to all loggers, on rank 0."""
        self.log_dict({name: value}, step)

    def log_dict(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Sends values to all loggers, on rank 0; raises `ValueError` for a tensor of several elements."""
        values = {name: scalar(name, value) for name, value in metrics.items()}
        if self.is_global_zero:
            for logger in self.loggers:
                logger.log_metrics(metrics=values, step=step)


def _listed(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)
