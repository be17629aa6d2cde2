import pytest
import torch

from lx.interfaces.precision import Precision
from lx.testing.conformance.component import build
from lx.testing.conformance.strategy import StrategyConformance
from lx.testing.fakes import FakeAccelerator
from lx_plugin_single_device.strategy import SingleDeviceStrategy


class TestSingleDevice(StrategyConformance):
    component = "single_device"


def connect(strategy: SingleDeviceStrategy, *devices: str) -> None:
    strategy.connect(
        accelerator=FakeAccelerator(),
        parallel_devices=[torch.device(device) for device in devices],
        cluster_environment=None,
        checkpoint_io=None,
        precision=Precision(),
    )


def test_the_device_of_the_run_is_taken() -> None:
    strategy = SingleDeviceStrategy()
    assert strategy.root_device == torch.device("cpu")
    assert strategy.parallel_devices is None
    connect(strategy, "meta")
    assert strategy.root_device == torch.device("meta")


@pytest.mark.parametrize("device", ["cuda:1", torch.device("cuda", 1)])
def test_a_device_of_its_own_is_told_to_the_resolver(device: str | torch.device) -> None:
    strategy = SingleDeviceStrategy(device)
    assert strategy.root_device == torch.device("cuda", 1)
    assert strategy.parallel_devices == [torch.device("cuda", 1)]


def test_what_is_no_device() -> None:
    with pytest.raises(RuntimeError, match="nowhere"):
        SingleDeviceStrategy("nowhere")


def test_parts_of_its_own() -> None:
    accelerator, precision = FakeAccelerator(), Precision()
    strategy = SingleDeviceStrategy(accelerator=accelerator, precision_plugin=precision)
    assert (strategy.accelerator, strategy.precision) == (accelerator, precision)


def test_tensors_are_given_back_themselves() -> None:
    strategy = build("single_device", "strategy")
    tensor = torch.ones(2, requires_grad=True)
    assert strategy.all_reduce(tensor) is tensor
    assert strategy.all_gather(tensor) is tensor
    assert strategy.broadcast(tensor) is tensor
