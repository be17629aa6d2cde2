"""Distributed data parallel: every process holds the whole model, and gradients are averaged while they are computed."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.algorithms.ddp_comm_hooks.post_localSGD_hook import PostLocalSGDState
from torch.distributed.algorithms.model_averaging.averagers import PeriodicModelAverager
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from lx.interfaces import Accelerator, CheckpointIO, ClusterEnvironment, Precision, Strategy, StrategyCapabilities
from lx.kernel.errors import MisconfigurationException
from lx.kernel.registry import check_arguments
from lx_plugin_ddp import collectives, process_group

_SET_BY_STRATEGY = ("module", "device_ids", "output_device")


class DDPStrategy(Strategy):
    """One process a device, each with the whole model; `torch.nn.parallel.DistributedDataParallel` averages the gradients.

    `ddp_comm_hook(state, bucket)` replaces that average, with `ddp_comm_state` as its state, decorated by `ddp_comm_wrapper`.
    With torch's `PostLocalSGDState`, `model_averaging_period` is the number of steps between two averages of the weights.
    `process_group_backend` defaults to the accelerator's. `timeout` bounds every collective, as a `timedelta` or in seconds.
    `start_method` is `"popen"`. All further arguments are those of `DistributedDataParallel`, such as `find_unused_parameters`.

    Raises `MisconfigurationException` for another start method, `ComponentArgumentError` for an argument that
    `DistributedDataParallel` does not take, `ValueError` for an averaging period without its state or the reverse.

    It is open: override `setup_module` to wrap otherwise, `setup_environment` to make more process groups.
    """

    capabilities = StrategyCapabilities(
        distributed=True,
        launcher="script",
        device_types=frozenset({"cpu", "cuda", "xpu", "hpu", "npu", "mtia"}),
        wraps_training=True,
        sync_batchnorm=True,
        inference_mode=False,  # until `connect` knows the backend: gloo refuses inference tensors
    )

    def __init__(
        self,
        accelerator: Accelerator | None = None,
        parallel_devices: list[torch.device] | None = None,
        cluster_environment: ClusterEnvironment | None = None,
        checkpoint_io: CheckpointIO | None = None,
        precision_plugin: Precision | None = None,
        ddp_comm_state: Any = None,
        ddp_comm_hook: Callable[..., Any] | None = None,
        ddp_comm_wrapper: Callable[..., Any] | None = None,
        model_averaging_period: int | None = None,
        process_group_backend: str | None = None,
        timeout: timedelta | float = timedelta(minutes=30),
        start_method: str = "popen",
        **ddp_kwargs: Any,
    ) -> None:
        super().__init__(accelerator, parallel_devices, cluster_environment, checkpoint_io, precision_plugin)
        if start_method != "popen":
            raise MisconfigurationException(
                f"start_method={start_method!r}: this strategy starts its processes with 'popen', which runs the program's command again "
                "for each device. Leave start_method out, or start the processes yourself, with torchrun."
            )
        _check_ddp_kwargs(ddp_kwargs)
        _check_averaging(ddp_comm_state, model_averaging_period)
        self.timeout = timeout if isinstance(timeout, timedelta) else timedelta(seconds=timeout)
        self._comm = (ddp_comm_state, ddp_comm_hook, ddp_comm_wrapper)
        self._averaging_period = model_averaging_period
        self._backend = process_group_backend
        self._ddp_kwargs = ddp_kwargs
        self._made_group = False

    def connect(self, **parts: Any) -> None:
        """Hands over the parts that resolution chose; called once, on every rank, before processes are launched."""
        super().connect(**parts)
        self._tell_ranks()
        self.capabilities = replace(type(self).capabilities, inference_mode="gloo" not in self.process_group_backend)

    # -- where this process stands -----------------------------------------------------------------------------------

    @property
    def root_device(self) -> torch.device:
        """The device of this process: the one at its local rank. Raises `RuntimeError` for a rank that has none."""
        devices = self.parallel_devices or []
        if not 0 <= self.local_rank < len(devices):
            raise RuntimeError(
                f"this process has the local rank {self.local_rank} (LOCAL_RANK), and devices asks for {len(devices)} on this node; "
                "start as many processes as devices."
            )
        return devices[self.local_rank]

    @property
    def process_group_backend(self) -> str:
        """The backend of the collectives: the one that was given, or the accelerator's."""
        if self._backend is not None:
            return self._backend
        if self.accelerator is not None:
            return self.accelerator.capabilities.process_group_backend
        return str(dist.get_default_backend_for_device(self.root_device))

    @property
    def world_size(self) -> int:
        """The number of processes: devices times nodes."""
        return self.num_nodes * len(self.parallel_devices or [None])

    @property
    def global_rank(self) -> int:
        """This process among all, from 0."""
        return self.cluster_environment.global_rank() if self.cluster_environment is not None else 0

    @property
    def local_rank(self) -> int:
        """This process among those of its node, from 0."""
        return self.cluster_environment.local_rank() if self.cluster_environment is not None else 0

    @property
    def node_rank(self) -> int:
        """This node among all, from 0."""
        return self.cluster_environment.node_rank() if self.cluster_environment is not None else 0

    # -- life ----------------------------------------------------------------------------------------------------------

    def setup_environment(self) -> None:
        """Readies the device and joins the process group, which the program may also have made itself.

        Raises `RuntimeError` if other processes were started than `devices` and `num_nodes` ask for.
        """
        if self.cluster_environment is None:
            raise RuntimeError("DDPStrategy needs a cluster environment; Trainer and Fabric choose one, others give cluster_environment.")
        self._tell_ranks()
        started = self.cluster_environment.world_size()
        if started != self.world_size:
            raise RuntimeError(
                f"{started} processes were started, and devices and num_nodes ask for {self.world_size}. All runs of one program that use "
                "several processes share them; give the same devices and num_nodes, or strategy='single_device' with devices=1."
            )
        super().setup_environment()
        address, port = self.cluster_environment.main_address, self.cluster_environment.main_port if self.world_size > 1 else 0
        self._made_group = process_group.join(
            self.process_group_backend,
            address,
            port,
            rank=self.global_rank,
            world_size=self.world_size,
            timeout=self.timeout,
            device=self.root_device,
        )

    def _tell_ranks(self) -> None:
        if self.cluster_environment is not None:
            self.cluster_environment.set_world_size(self.world_size)
            self.cluster_environment.set_global_rank(self.node_rank * len(self.parallel_devices or [None]) + self.local_rank)

    def setup_module(self, module: nn.Module) -> nn.Module:
        """The module in `DistributedDataParallel`, or itself if none of its parameters is trained.

        Raises `MisconfigurationException` for synchronised batch norm on the CPU, which torch does not have.
        """
        if not _is_trained(module):
            return module
        on_cpu = self.root_device.type == "cpu"
        if on_cpu and self.world_size > 1 and any(isinstance(layer, nn.SyncBatchNorm) for layer in module.modules()):
            raise MisconfigurationException(
                "the model has SyncBatchNorm layers (sync_batchnorm=True makes them), which torch cannot train on the CPU; leave them out."
            )
        wrapped = DistributedDataParallel(module, device_ids=None if on_cpu else [self.root_device.index], **self._ddp_kwargs)
        state, hook, wrapper = self._comm
        if hook is not None:
            wrapped.register_comm_hook(state, hook if wrapper is None else wrapper(hook))
        return wrapped

    def setup_optimizer(self, optimizer: Optimizer) -> Optimizer:
        """The optimizer itself; with `model_averaging_period`, the weights are averaged after its steps."""
        if self._averaging_period is not None:
            averager = PeriodicModelAverager(period=self._averaging_period, warmup_steps=self._comm[0].start_localSGD_iter)

            def average(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
                averager.average_parameters(optimizer.param_groups)

            optimizer.register_step_post_hook(average)
        return optimizer

    def teardown(self) -> None:
        """Leaves the process group if this strategy made it; a further `setup_environment` joins a new one."""
        try:
            super().teardown()
            if self.cluster_environment is not None:
                self.cluster_environment.teardown()
        finally:
            if self._made_group:
                self._made_group = False
                process_group.leave()

    # -- contexts ------------------------------------------------------------------------------------------------------

    def no_backward_sync(self, module: nn.Module, enabled: bool = True) -> AbstractContextManager[Any]:
        """Within it, `backward` does not average gradients. Raises `TypeError` for a module that `setup_module` has not wrapped."""
        if not enabled or not _is_trained(module):
            return nullcontext()
        no_sync = getattr(module, "no_sync", None)  # a compiled wrapper hands it through
        if no_sync is None:
            raise TypeError(f"no_backward_sync needs the wrapped module, which setup_module returns, and got a {type(module).__name__}.")
        return no_sync()  # type: ignore[no-any-return]

    # -- collectives -----------------------------------------------------------------------------------------------------

    def all_reduce(self, tensor: torch.Tensor, group: Any = None, reduce_op: str = "mean") -> torch.Tensor:
        """The `sum`, `mean`, `min` or `max` over the processes, in place where the result fits the dtype and device.

        A mean of integers has the default float dtype. Raises `ValueError` for another operation.
        """
        if not self._has_peers("all_reduce"):
            return tensor
        return collectives.all_reduce(tensor, reduce_op, self.root_device, group)

    def all_gather(self, tensor: torch.Tensor, group: Any = None, sync_grads: bool = False) -> torch.Tensor:
        """The tensors of all processes, of one shape, as `(world, *shape)`; in one process the tensor itself."""
        if not self._has_peers("all_gather"):
            return tensor
        return collectives.all_gather(tensor, self.root_device, group, sync_grads)

    def broadcast(self, obj: Any, src: int = 0) -> Any:
        """An object of rank `src`, on every rank; it must be picklable. Outside of a run, the object itself."""
        if self.world_size == 1 or not dist.is_initialized():
            return obj
        objects = [obj]
        dist.broadcast_object_list(objects, src, device=None if self.root_device.type == "cpu" else self.root_device)
        return objects[0]

    def barrier(self, name: str | None = None) -> None:
        """Returns when every process has come here; at once outside of a run."""
        if self.world_size > 1 and dist.is_initialized():
            dist.barrier(device_ids=None if self.root_device.type == "cpu" else [self.root_device.index])

    def reduce_boolean_decision(self, decision: bool, all: bool = True) -> bool:  # noqa: A002 -- the name users of Lightning pass
        """Whether all (or, with `all=False`, any) of the processes decided for it."""
        given = torch.tensor(int(decision), device=self.root_device)
        return bool(self.all_reduce(given, reduce_op="min" if all else "max").item())

    def _has_peers(self, collective: str) -> bool:
        if self.world_size > 1 and not dist.is_initialized():
            raise RuntimeError(
                f"{collective} was called outside of a run of {self.world_size} processes; it works between setup_environment and teardown."
            )
        return self.world_size > 1


def _is_trained(module: nn.Module) -> bool:
    return any(parameter.requires_grad for parameter in module.parameters())


def _check_ddp_kwargs(given: dict[str, Any]) -> None:
    taken = [name for name in _SET_BY_STRATEGY if name in given]
    if taken:
        raise MisconfigurationException(f"{taken[0]} is set by the strategy, from the devices of the run; leave it out.")
    check_arguments("the strategy 'ddp', DistributedDataParallel", DistributedDataParallel, (None,), given)


def _check_averaging(state: Any, period: int | None) -> None:
    local_sgd = isinstance(state, PostLocalSGDState)
    if local_sgd and period is None:
        raise ValueError("ddp_comm_state is a PostLocalSGDState: give model_averaging_period, the steps between averages of the weights.")
    if period is not None and not local_sgd:
        raise ValueError(f"model_averaging_period={period}: it belongs to a ddp_comm_state=PostLocalSGDState(...), not to {state!r}.")
    if period is not None and period < 1:
        raise ValueError(f"model_averaging_period={period}: it must be 1 or more.")
