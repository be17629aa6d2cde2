"""The suite of the strategies: the fakes pass, and each fault is found by the test that is there for it."""

from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import nn
from torch.optim import Optimizer

from lx.interfaces.strategy import StrategyCapabilities
from lx.kernel import PluginManager
from lx.testing import FakeDistributedStrategy, FakeStrategy, fake_plugin_manager
from lx.testing.conformance.strategy import StrategyConformance


class TestFake(StrategyConformance):
    component = "fake"
    test_is_found_without_torch = None  # the fakes are no plugin that is installed

    @pytest.fixture
    def manager(self) -> PluginManager:
        return fake_plugin_manager()

    def build(self, **extra: Any) -> Any:
        return FakeStrategy()


class TestFakeDistributed(TestFake):
    component = "fake_distributed"

    def build(self, **extra: Any) -> Any:
        return FakeDistributedStrategy()


class TestFakeThatSetsUpJointly(TestFake):
    def build(self, **extra: Any) -> Any:
        class Joint(FakeStrategy):
            capabilities = StrategyCapabilities(joint_setup=True, handles_accumulation=True)

        return Joint()


class Undeclared(FakeStrategy):
    capabilities: ClassVar[Any] = None


class LaunchesAlone(FakeStrategy):
    capabilities = StrategyCapabilities(launcher="fake")


class LaunchesByNobody(FakeStrategy):
    capabilities = StrategyCapabilities(launcher="nobody", distributed=True)


class OneOfTwo(FakeStrategy):
    @property
    def world_size(self) -> int:
        return 2


class Elsewhere(FakeStrategy):
    def tensor_init_context(self) -> Any:
        return torch.device("meta")


class SumsTwice(FakeStrategy):
    def all_reduce(self, tensor: torch.Tensor, group: Any = None, reduce_op: str = "mean") -> torch.Tensor:
        return tensor * 2 if reduce_op == "sum" else tensor


class Detaches(FakeStrategy):
    def all_gather(self, tensor: torch.Tensor, group: Any = None, sync_grads: bool = False) -> torch.Tensor:
        return tensor.detach().requires_grad_()


class AddsADimension(FakeStrategy):
    def all_gather(self, tensor: torch.Tensor, group: Any = None, sync_grads: bool = False) -> torch.Tensor:
        return tensor[None]


class BroadcastsNothing(FakeStrategy):
    def broadcast(self, obj: Any, src: int = 0) -> Any:
        return None


class AlwaysAgrees(FakeStrategy):
    def reduce_boolean_decision(self, decision: bool, all: bool = True) -> bool:  # noqa: A002
        return True


class Scaled(nn.Module):
    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.inner = module

    def forward(self, x: torch.Tensor) -> Any:
        return self.inner(x) * 2


class WrapsWrongly(FakeStrategy):
    def setup_module(self, module: nn.Module) -> nn.Module:
        return Scaled(module)


class DropsInnerGradients(FakeStrategy):
    def no_backward_sync(self, module: nn.Module, enabled: bool = True) -> Any:
        return torch.inference_mode() if enabled else nullcontext()


class ClipsTooMuch(FakeStrategy):
    def clip_gradients_norm(
        self, module: nn.Module, optimizer: Optimizer, max_norm: float, norm_type: float = 2.0, error_if_nonfinite: bool = False
    ) -> torch.Tensor:
        return super().clip_gradients_norm(module, optimizer, max_norm / 2, norm_type)


class ClipsNoValue(FakeStrategy):
    def clip_gradients_value(self, module: nn.Module, optimizer: Optimizer, clip_val: float) -> None:
        pass


class PrefixesNames(FakeStrategy):
    def module_state_dict(self, module: nn.Module) -> dict[str, Any]:
        return {f"module.{name}": value for name, value in module.state_dict().items()}

    def load_module_state_dict(self, module: nn.Module, state: Mapping[str, Any], strict: bool = True) -> Any:
        return super().load_module_state_dict(module, {name.removeprefix("module."): value for name, value in state.items()}, strict)


class LoadsNothing(FakeStrategy):
    def load_module_state_dict(self, module: nn.Module, state: Mapping[str, Any], strict: bool = True) -> Any:
        return None


class FitsAnything(FakeStrategy):
    def load_module_state_dict(self, module: nn.Module, state: Mapping[str, Any], strict: bool = True) -> Any:
        return module.load_state_dict(state, strict=False)


class ForgetsMomentum(FakeStrategy):
    def optimizer_state_dict(self, optimizer: Optimizer, module: nn.Module) -> dict[str, Any]:
        return {**optimizer.state_dict(), "state": {}}


class SavesNothing(FakeStrategy):
    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        pass


class RemovesNothing(FakeStrategy):
    def remove_checkpoint(self, path: str | Path) -> None:
        pass


class NeverReady(FakeStrategy):
    def setup_environment(self) -> None:
        pass


class LeavesParts(FakeStrategy):
    def teardown(self) -> None:
        pass


class LeavesItsGroup(FakeDistributedStrategy):
    def setup_environment(self) -> None:
        super().setup_environment()
        if not torch.distributed.is_initialized():
            store = torch.distributed.HashStore()
            torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)


@pytest.mark.parametrize(
    ("faulty", "test"),
    [
        (Undeclared, "test_declares_capabilities"),
        (LaunchesAlone, "test_declares_capabilities"),
        (LaunchesByNobody, "test_declares_capabilities"),
        (OneOfTwo, "test_is_the_only_process"),
        (Elsewhere, "test_is_on_the_device_that_it_was_given"),
        (SumsTwice, "test_all_reduce"),
        (Detaches, "test_all_gather"),
        (AddsADimension, "test_all_gather"),
        (BroadcastsNothing, "test_broadcast"),
        (AlwaysAgrees, "test_barrier_and_decisions"),
        (WrapsWrongly, "test_trains_as_plain_torch_does"),
        (DropsInnerGradients, "test_accumulates_as_plain_torch_does"),
        (ClipsTooMuch, "test_clips_as_torch_does"),
        (ClipsNoValue, "test_clips_as_torch_does"),
        (ClipsTooMuch, "test_clipping_refuses_what_is_not_finite_if_asked"),
        (PrefixesNames, "test_state_of_a_module"),
        (LoadsNothing, "test_state_of_a_module"),
        (FitsAnything, "test_state_that_does_not_fit"),
        (ForgetsMomentum, "test_state_of_an_optimizer"),
        (SavesNothing, "test_checkpoints"),
        (RemovesNothing, "test_checkpoints"),
        (NeverReady, "test_readies_the_device_and_tears_its_parts_down"),
        (LeavesParts, "test_readies_the_device_and_tears_its_parts_down"),
        (LeavesItsGroup, "test_runs_twice_in_one_process"),
    ],
)
def test_a_fault_is_found(faulty: type[FakeStrategy], test: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(StrategyConformance, "build", lambda self: faulty())
    suite = StrategyConformance()
    method = getattr(suite, test)
    fixtures = {"built": faulty(), "manager": fake_plugin_manager(), "tmp_path": tmp_path}
    arguments = {name: value for name, value in fixtures.items() if name in method.__annotations__}
    try:
        with suite.running(faulty()) if "strategy" in method.__annotations__ else nullcontext() as strategy:
            if strategy is not None:
                arguments["strategy"] = strategy
            with pytest.raises((AssertionError, RuntimeError, FileNotFoundError, pytest.fail.Exception)):
                method(**arguments)
    finally:
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()


def test_a_strategy_of_other_devices_is_skipped() -> None:
    class OnGPUs(FakeStrategy):
        capabilities = StrategyCapabilities(device_types=frozenset({"cuda"}))

    suite = TestFake()
    with pytest.raises(pytest.skip.Exception, match="runs on cuda only"), suite.running(OnGPUs()):
        pass
