"""The strategy in one process: its arguments, its names, and what it refuses."""

import inspect
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import nn

from lx import Trainer
from lx.interfaces import Precision
from lx.kernel import PluginManager
from lx.kernel.errors import ComponentArgumentError, MisconfigurationException
from lx.testing.conformance.strategy import StrategyConformance
from lx.testing.fakes import FakeAccelerator
from lx.testing.models import TinyDataModule, TinyModule
from lx_plugin_ddp.environment import LightningEnvironment
from lx_plugin_ddp.strategy import DDPStrategy


class TestDDP(StrategyConformance):
    component = "ddp"


class TestDDPThatFindsUnusedParameters(StrategyConformance):
    component = "ddp_find_unused_parameters_true"


@pytest.fixture
def connected(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    for name in ("LOCAL_RANK", "NODE_RANK", "GROUP_RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    made: list[DDPStrategy] = []

    def connect(strategy: DDPStrategy | None = None, devices: int = 1, num_nodes: int = 1) -> DDPStrategy:
        made.append(strategy or DDPStrategy())
        made[-1].connect(
            accelerator=FakeAccelerator(),
            parallel_devices=[torch.device("cpu")] * devices,
            cluster_environment=LightningEnvironment(),
            checkpoint_io=None,
            precision=Precision(),
            num_nodes=num_nodes,
        )
        return made[-1]

    yield connect
    for strategy in made:
        strategy.teardown()


def test_names_and_roles() -> None:
    registry = PluginManager().registry
    assert registry.strategy.standing_for("many-devices")[0].name == "ddp"
    for name in ("ddp", "ddp_find_unused_parameters_true", "ddp_find_unused_parameters_false"):
        assert type(registry.strategy.build(name)) is DDPStrategy
    assert registry.strategy.by_class("DDPStrategy") is DDPStrategy
    assert registry.launcher.find(DDPStrategy.capabilities.launcher).name == "script"


def test_the_constructor_is_the_known_one() -> None:
    parameters = inspect.signature(DDPStrategy).parameters
    assert list(parameters) == [
        "accelerator", "parallel_devices", "cluster_environment", "checkpoint_io", "precision_plugin", "ddp_comm_state", "ddp_comm_hook",
        "ddp_comm_wrapper", "model_averaging_period", "process_group_backend", "timeout", "start_method", "ddp_kwargs",
    ]  # fmt: skip
    assert DDPStrategy().timeout == timedelta(minutes=30)
    assert DDPStrategy(timeout=90).timeout == timedelta(seconds=90)
    assert parameters["start_method"].default == "popen"


def test_arguments_that_are_refused() -> None:
    build = PluginManager().registry.strategy.build
    with pytest.raises(MisconfigurationException, match=r"start_method='spawn'.*'popen'"):
        build("ddp(start_method='spawn')")
    with pytest.raises(ComponentArgumentError, match=r"find_unused_paramters.*Did you mean 'find_unused_parameters'"):
        build("ddp(find_unused_paramters=True)")
    with pytest.raises(MisconfigurationException, match="device_ids is set by the strategy"):
        build("ddp(device_ids=[0])")
    with pytest.raises(ValueError, match="model_averaging_period=3: it belongs to"):
        build("ddp(model_averaging_period=3)")
    from torch.distributed.algorithms.ddp_comm_hooks.post_localSGD_hook import PostLocalSGDState

    state = PostLocalSGDState(None, None, 1)
    with pytest.raises(ValueError, match="give model_averaging_period"):
        DDPStrategy(ddp_comm_state=state)
    with pytest.raises(ValueError, match="must be 1 or more"):
        DDPStrategy(ddp_comm_state=state, model_averaging_period=0)


def test_one_process_is_a_run_too(connected: Any) -> None:
    strategy = connected()
    assert (strategy.world_size, strategy.global_rank, strategy.local_rank, strategy.is_global_zero) == (1, 0, 0, True)
    strategy.setup_environment()
    assert dist.is_initialized()
    assert dist.get_backend() == "gloo"
    tensor = torch.tensor([1, 2])
    assert strategy.all_reduce(tensor) is tensor
    assert strategy.all_gather(tensor) is tensor
    assert strategy.broadcast("it") == "it"
    assert strategy.reduce_boolean_decision(True)
    assert not strategy.reduce_boolean_decision(False, all=False)
    strategy.barrier()
    wrapped = strategy.setup_module(nn.Linear(2, 1))
    wrapped(torch.ones(3, 2)).sum().backward()
    assert wrapped.module.weight.grad.tolist() == [[3.0, 3.0]]
    strategy.teardown()
    assert not dist.is_initialized()
    strategy.setup_environment()
    assert dist.is_initialized()


def test_find_unused_parameters_reaches_torch(connected: Any) -> None:
    for value in (True, False):
        strategy = connected(PluginManager().registry.strategy.build(f"ddp_find_unused_parameters_{str(value).lower()}"))
        strategy.setup_environment()
        assert strategy.setup_module(nn.Linear(1, 1)).find_unused_parameters is value
        strategy.teardown()


def test_ranks_are_known_before_the_process_group(connected: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    strategy = connected(devices=4, num_nodes=2)
    assert (strategy.world_size, strategy.global_rank) == (8, 0)
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setenv("NODE_RANK", "1")
    strategy = connected(devices=4, num_nodes=2)
    assert (strategy.global_rank, strategy.local_rank, strategy.node_rank, strategy.is_global_zero) == (5, 1, 1, False)
    assert strategy.distributed_sampler_kwargs == {"num_replicas": 8, "rank": 5}


def test_a_rank_without_a_device(connected: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(RuntimeError, match=r"local rank 2 \(LOCAL_RANK\), and devices asks for 2"):
        connected(devices=2).setup_environment()


def test_another_number_of_processes_was_started(connected: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "4")
    with pytest.raises(RuntimeError, match="4 processes were started, and devices and num_nodes ask for 2"):
        connected(devices=2).setup_environment()


def test_it_needs_an_environment() -> None:
    strategy = DDPStrategy(parallel_devices=[torch.device("cpu")])
    assert strategy.process_group_backend == "gloo"
    with pytest.raises(RuntimeError, match="cluster environment"):
        strategy.setup_environment()


def test_inference_mode_is_safe_unless_the_backend_is_gloo(connected: Any) -> None:
    assert not DDPStrategy.capabilities.inference_mode
    assert not connected().capabilities.inference_mode
    assert connected(DDPStrategy(process_group_backend="nccl")).capabilities.inference_mode
    assert not connected(DDPStrategy(process_group_backend="cpu:gloo,cuda:nccl")).capabilities.inference_mode
    assert not DDPStrategy.capabilities.inference_mode


def test_only_trained_modules_are_wrapped(connected: Any) -> None:
    strategy = connected()
    strategy.setup_environment()
    frozen = nn.Linear(1, 1).requires_grad_(False)
    assert strategy.setup_module(frozen) is frozen
    with strategy.no_backward_sync(frozen):
        pass
    with pytest.raises(TypeError, match="which setup_module returns, and got a Linear"):
        strategy.no_backward_sync(nn.Linear(1, 1))


def test_sync_batchnorm_is_refused_on_the_cpu(connected: Any) -> None:
    with pytest.raises(MisconfigurationException, match="cannot train on the CPU"):
        connected(devices=2).setup_module(nn.SyncBatchNorm(2))


def test_a_trainer_of_one_process_ends_with_the_same_weights() -> None:
    weights = []
    for strategy in ("ddp", "single_device"):
        model = TinyModule()
        trainer = Trainer(
            accelerator="cpu",
            strategy=strategy,
            devices=1,
            max_epochs=1,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
        )
        trainer.fit(model, TinyDataModule())
        trainer.strategy.teardown()
        weights.append(model.state_dict())
    torch.testing.assert_close(weights[0], weights[1])


def test_a_trainer_refuses_what_ddp_cannot_do() -> None:
    with pytest.raises(MisconfigurationException, match="start_method='fork'"):
        Trainer(accelerator="cpu", strategy="ddp(start_method='fork')", devices=2)
    with pytest.raises(ComponentArgumentError, match="static_grph"):
        Trainer(accelerator="cpu", strategy="ddp(static_grph=True)", devices=2)
