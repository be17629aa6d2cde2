"""The conformance suite of the strategies, run in one process."""

import copy
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import nn
from torch.optim import Optimizer

from lx.interfaces.accelerator import Accelerator
from lx.interfaces.strategy import Strategy, StrategyCapabilities
from lx.kernel import PluginManager
from lx.kernel.errors import CheckpointMismatchError, CheckpointNotFoundError
from lx.testing.conformance.component import Conformance
from lx.testing.fakes import FakeAccelerator, FakeCheckpointIO, FakeEnvironment, FakePrecision


class OneProcess(FakeEnvironment):
    """A cluster of one process, with a port that was free when it was made."""

    def __init__(self) -> None:
        super().__init__(external=True)
        with socket.socket() as probe:
            probe.bind((self.main_address, 0))
            self._port: int = probe.getsockname()[1]

    @property
    def main_port(self) -> int:
        return self._port


class StrategyConformance(Conformance):
    """The suite of the strategies, as one process on `device`; a subclass sets `component`.

    What several processes do needs several processes, and is for the plugin's own tests.

    >>> class TestSingleDevice(StrategyConformance):
    ...     component = "single_device"
    """

    kind = "strategy"
    device: ClassVar[torch.device] = torch.device("cpu")

    def accelerator(self) -> Accelerator:
        """The accelerator of `device`; a suite on another device than the CPU gives a real one."""
        return FakeAccelerator()

    @contextmanager
    def running(self, strategy: Strategy) -> Iterator[Strategy]:
        """The strategy connected and set up, and torn down at the end."""
        types = strategy.capabilities.device_types
        if types and self.device.type not in types:
            pytest.skip(f"{self.component} runs on {', '.join(sorted(types))} only")
        strategy.connect(
            accelerator=self.accelerator(),
            parallel_devices=[self.device],
            cluster_environment=OneProcess() if strategy.capabilities.distributed else None,
            checkpoint_io=FakeCheckpointIO(),
            precision=FakePrecision(),
        )
        strategy.setup_environment()
        try:
            yield strategy
        finally:
            strategy.teardown()

    @pytest.fixture
    def strategy(self, built: Strategy) -> Iterator[Strategy]:
        """The strategy, running."""
        with self.running(built) as strategy:
            yield strategy

    def model(self) -> nn.Module:
        """A small model, the same each time."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1)).to(self.device)

    def batch(self, seed: int) -> torch.Tensor:
        """8 inputs of 4 features."""
        return torch.randn(8, 4, generator=torch.Generator().manual_seed(seed)).to(self.device)

    def prepared(self, strategy: Strategy) -> tuple[nn.Module, nn.Module, Optimizer]:
        """A model, the model wrapped, and its optimizer, as the engine sets them up."""
        model = self.model()
        strategy.module_to_device(model)
        if strategy.capabilities.joint_setup:
            wrapped, (optimizer,) = strategy.setup_module_and_optimizers(model, [_sgd(model)])
            return model, wrapped, optimizer
        wrapped = strategy.setup_module(model)
        return model, wrapped, strategy.setup_optimizer(_sgd(model))

    def test_declares_capabilities(self, built: Strategy, manager: PluginManager) -> None:
        assert isinstance(built.capabilities, StrategyCapabilities)
        launcher = built.capabilities.launcher
        assert launcher is None or launcher in manager.registry.launcher, f"its launcher {launcher!r} is not registered"
        assert launcher is None or built.capabilities.distributed, "it starts processes, and declares that they do not work as one"

    def test_is_the_only_process(self, strategy: Strategy) -> None:
        assert strategy.world_size == 1
        assert (strategy.global_rank, strategy.local_rank, strategy.node_rank) == (0, 0, 0)
        assert strategy.is_global_zero
        assert strategy.distributed_sampler_kwargs == {"num_replicas": 1, "rank": 0}

    def test_is_on_the_device_that_it_was_given(self, strategy: Strategy) -> None:
        assert strategy.root_device == self.device
        model = nn.Linear(2, 2, device="cpu")
        strategy.module_to_device(model)
        assert {parameter.device.type for parameter in model.parameters()} == {self.device.type}
        with strategy.tensor_init_context():
            assert torch.ones(1).device.type == self.device.type

    def test_all_reduce(self, strategy: Strategy) -> None:
        for operation in ("sum", "mean", "min", "max"):
            reduced = strategy.all_reduce(torch.tensor([1.0, -2.0], device=self.device), reduce_op=operation)
            assert reduced.tolist() == [1.0, -2.0], f"{operation} over one process must change nothing"
        assert strategy.all_reduce(torch.tensor([3, 4], device=self.device), reduce_op="sum").tolist() == [3, 4]

    def test_all_gather(self, strategy: Strategy) -> None:
        given = torch.tensor([[1.0, 2.0]], device=self.device, requires_grad=True)
        gathered = strategy.all_gather(given, sync_grads=True)
        assert gathered.shape in ((1, 2), (1, 1, 2))
        assert gathered.flatten().tolist() == [1.0, 2.0]
        gathered.sum().backward()
        assert given.grad is not None, "sync_grads=True gives no gradient"
        assert given.grad.tolist() == [[1.0, 1.0]]
        if not strategy.capabilities.distributed:
            assert gathered.shape == given.shape, "in one process there is no new dimension"

    def test_broadcast(self, strategy: Strategy) -> None:
        for given in ("text", {"a": [1, (2, None)]}, None, 3.5):
            assert strategy.broadcast(given) == given
        assert strategy.broadcast({"x": torch.ones(2)})["x"].tolist() == [1.0, 1.0]

    def test_barrier_and_decisions(self, strategy: Strategy) -> None:
        strategy.barrier("here")
        for decision in (True, False):
            assert strategy.reduce_boolean_decision(decision) is decision
            assert strategy.reduce_boolean_decision(decision, all=False) is decision

    def test_trains_as_plain_torch_does(self, strategy: Strategy) -> None:
        plain = self.model()
        plain_optimizer = _sgd(plain)
        model, wrapped, optimizer = self.prepared(strategy)
        for seed in range(3):
            for module, stepped in ((plain, plain_optimizer), (wrapped, optimizer)):
                stepped.zero_grad()
                module(self.batch(seed)).pow(2).mean().backward()
                stepped.step()
        assert _close(strategy.module_state_dict(model), plain.state_dict())

    def test_accumulates_as_plain_torch_does(self, strategy: Strategy) -> None:
        if strategy.capabilities.handles_accumulation:
            return
        plain = self.model()
        plain_optimizer = _sgd(plain)
        (plain(self.batch(0)).pow(2).mean() + plain(self.batch(1)).pow(2).mean()).backward()
        plain_optimizer.step()
        model, wrapped, optimizer = self.prepared(strategy)
        with strategy.no_backward_sync(wrapped):
            wrapped(self.batch(0)).pow(2).mean().backward()
        with strategy.no_backward_sync(wrapped, enabled=False):
            wrapped(self.batch(1)).pow(2).mean().backward()
        optimizer.step()
        assert _close(strategy.module_state_dict(model), plain.state_dict())

    def test_clips_as_torch_does(self, strategy: Strategy) -> None:
        for norm_type in (2.0, 1.0, float("inf")):
            plain, model, optimizer = self.with_gradients(strategy)
            wanted = nn.utils.clip_grad_norm_(plain.parameters(), 0.1, norm_type)
            norm = strategy.clip_gradients_norm(model, optimizer, 0.1, norm_type)
            torch.testing.assert_close(norm, wanted)
            _assert_same_gradients(model, plain)
        plain, model, optimizer = self.with_gradients(strategy)
        nn.utils.clip_grad_value_(plain.parameters(), 0.01)
        strategy.clip_gradients_value(model, optimizer, 0.01)
        _assert_same_gradients(model, plain)

    def test_clipping_refuses_what_is_not_finite_if_asked(self, strategy: Strategy) -> None:
        _, model, optimizer = self.with_gradients(strategy)
        next(model.parameters()).grad.fill_(float("inf"))  # type: ignore[union-attr]
        with pytest.raises(RuntimeError):
            strategy.clip_gradients_norm(model, optimizer, 0.1, error_if_nonfinite=True)

    def with_gradients(self, strategy: Strategy) -> tuple[nn.Module, nn.Module, Optimizer]:
        """A plain model and one of the strategy, with the same gradients."""
        plain = self.model()
        plain(self.batch(0)).pow(2).sum().backward()
        model, wrapped, optimizer = self.prepared(strategy)
        wrapped(self.batch(0)).pow(2).sum().backward()
        return plain, model, optimizer

    def test_state_of_a_module(self, strategy: Strategy) -> None:
        model, wrapped, optimizer = self.prepared(strategy)
        wrapped(self.batch(0)).sum().backward()
        optimizer.step()
        state = copy.deepcopy(strategy.module_state_dict(model))
        assert list(state) == list(self.model().state_dict()), "the names are not those of the unwrapped module"
        other, _, _ = self.prepared(strategy)
        assert not _close(strategy.module_state_dict(other), state)
        strategy.load_module_state_dict(other, state)
        assert _close(strategy.module_state_dict(other), state)

    def test_state_that_does_not_fit(self, strategy: Strategy) -> None:
        model, _, _ = self.prepared(strategy)
        state = dict(copy.deepcopy(strategy.module_state_dict(model)))
        name, value = state.popitem()
        with pytest.raises(CheckpointMismatchError, match=name):
            strategy.load_module_state_dict(model, state)
        strategy.load_module_state_dict(model, state, strict=False)
        with pytest.raises(CheckpointMismatchError, match=name):
            strategy.load_module_state_dict(model, {**state, name: torch.zeros(*value.shape, 2)})

    def test_state_of_an_optimizer(self, strategy: Strategy) -> None:
        first, second = self.prepared(strategy), self.prepared(strategy)
        _step(first, self.batch(0))
        state = copy.deepcopy(strategy.optimizer_state_dict(first[2], first[0]))
        assert {"state", "param_groups"} <= set(state)
        strategy.load_optimizer_state_dict(second[2], second[0], state)
        strategy.load_module_state_dict(second[0], copy.deepcopy(strategy.module_state_dict(first[0])))
        for each in (first, second):
            _step(each, self.batch(1))
        same = _close(strategy.module_state_dict(first[0]), strategy.module_state_dict(second[0]))
        assert same, "with its state restored, the optimizer does not go on as it would have"

    def test_checkpoints(self, strategy: Strategy, tmp_path: Path) -> None:
        model, _, _ = self.prepared(strategy)
        path = tmp_path / "model.ckpt"
        strategy.save_checkpoint({"state_dict": strategy.module_state_dict(model), "epoch": 3}, path)
        loaded = strategy.load_checkpoint(path, map_location="cpu")
        assert loaded["epoch"] == 3
        strategy.load_module_state_dict(model, loaded["state_dict"])
        strategy.remove_checkpoint(path)
        strategy.remove_checkpoint(path)
        with pytest.raises(CheckpointNotFoundError):
            strategy.load_checkpoint(path)

    def test_readies_the_device_and_tears_its_parts_down(self, built: Strategy) -> None:
        with self.running(built):
            accelerator: Any = built.accelerator
            if isinstance(accelerator, FakeAccelerator):
                assert [call.args for call in accelerator.called("setup_device")] == [(self.device,)]
        parts: list[Any] = [built.accelerator, built.precision, built.checkpoint_io]
        for part in parts:
            if hasattr(part, "called"):
                assert part.called("teardown"), f"{type(part).__name__} was not torn down"

    def test_runs_twice_in_one_process(self, built: Strategy) -> None:
        before = _has_process_group()
        for strategy in (built, self.build()):
            with self.running(strategy):
                strategy.barrier()
            assert _has_process_group() == before, "it leaves a process group behind"


def _sgd(model: nn.Module) -> Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)


def _step(prepared: tuple[nn.Module, nn.Module, Optimizer], batch: torch.Tensor) -> None:
    _, wrapped, optimizer = prepared
    optimizer.zero_grad()
    wrapped(batch).pow(2).mean().backward()
    optimizer.step()


def _close(state: Any, other: Any) -> bool:
    return list(state) == list(other) and all(torch.allclose(state[name], other[name], atol=1e-6) for name in other)


def _assert_same_gradients(model: nn.Module, plain: nn.Module) -> None:
    for ours, theirs in zip(model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad)


def _has_process_group() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()
