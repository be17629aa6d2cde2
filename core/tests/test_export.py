"""Exports: what the module is like meanwhile and afterwards, which sample is traced, what is written, what is refused."""

import io
import sys
import warnings
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lx import Fabric, LightningDataModule, LightningModule
from lx.kernel.errors import MisconfigurationException

EXPORTS = ("to_onnx", "to_exported", "to_torchscript")


class Net(LightningModule):
    """Logs in `forward`, has a layer that is to stay in eval mode, and another LightningModule in it."""

    def __init__(self, example: Any = None) -> None:
        super().__init__()
        self.save_hyperparameters(ignore="example")
        self.layer = nn.Linear(4, 2)
        self.frozen = nn.BatchNorm1d(2).eval()
        self.drop = nn.Dropout(0.5)
        self.example_input_array = example

    def forward(self, x: Tensor) -> Tensor:
        y = self.drop(self.frozen(self.layer(x)))
        self.log("mean", y.mean(), prog_bar=True, on_step=True)
        self.log_dict({"least": y.min(), "most": y.max()})
        return y


class Outer(LightningModule):
    """Computes what its part does, and twice that."""

    def __init__(self) -> None:
        super().__init__()
        self.net = Net()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = self.net(x)
        return y, 2 * y


class Keyed(LightningModule):
    """Takes its inputs by name, and has no parameters."""

    def forward(self, left: Tensor, right: Tensor) -> dict[str, Tensor]:
        return {"sum": left + right, "difference": left - right}


class Failing(LightningModule):
    def forward(self, x: Tensor) -> Tensor:
        raise ArithmeticError("no such number")


def computed(model: LightningModule, *inputs: Any, **named: Any) -> Any:
    """What the model itself computes where its exports compute it: in eval mode, without logging."""
    copy = LightningModule.__new__(type(model))
    copy.__setstate__(model.__getstate__())
    modes = [(part, part.training) for part in model.modules()]
    with torch.no_grad(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "self.log")
        result = copy.eval()(*inputs, **named)
    for part, training in modes:
        part.training = training
    return result


def loaded_script(file: Any) -> Any:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".torch.jit.load. is deprecated")
        return torch.jit.load(file)


def state(model: nn.Module) -> Any:
    """All that an export might leave changed. torch.jit notes on each module which methods it overloads: none."""
    kept = [{name: value for name, value in vars(part).items() if name not in ("_hparams", "__overloads__")} for part in model.modules()]
    return kept, [parameter.grad for parameter in model.parameters()], [parameter.requires_grad for parameter in model.parameters()]


@pytest.mark.parametrize("method", EXPORTS)
@pytest.mark.parametrize("attached", [False, True])
def test_a_module_is_afterwards_as_it_was(method: str, attached: bool) -> None:
    model = Outer()
    log = SimpleNamespace(log=lambda *arguments: pytest.fail("logged"))
    model.net.layer(torch.randn(3, 4)).sum().backward()
    if attached:
        model.trainer = SimpleNamespace(log=log, datamodule=None, strategy=SimpleNamespace(root_device=torch.device("meta")), logger=None)
        model.trainer.loggers = []
        model.trainer.current_epoch = model.trainer.global_step = model.trainer.global_rank = model.trainer.local_rank = 0
    before = state(model)
    getattr(model, method)(**{} if method == "to_torchscript" else {"input_sample": torch.randn(3, 4)})
    assert state(model) == before
    assert model.training
    assert not model.net.frozen.training


@pytest.mark.parametrize("method", EXPORTS)
def test_a_module_is_as_it_was_when_its_export_fails(method: str, tmp_path: Path) -> None:
    model = Failing()
    before = state(model)
    trace = {"method": "trace", "example_inputs": torch.ones(1)} if method == "to_torchscript" else {"input_sample": torch.ones(1)}
    with pytest.raises(Exception, match="no such number"):
        getattr(model, method)(tmp_path / "deep" / "model.pt2", **trace)
    assert state(model) == before
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("method", ["script", "trace"])
def test_torchscript_computes_the_same(method: str, tmp_path: Path) -> None:
    model, x = Outer(), torch.randn(5, 4)
    script = model.to_torchscript(tmp_path / "new" / "model.pt", method=method, example_inputs=torch.randn(3, 4))
    for one in (script, loaded_script(tmp_path / "new" / "model.pt")):
        assert isinstance(one, torch.jit.ScriptModule)
        torch.testing.assert_close(one(x), computed(model, x))
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["model.pt"]


def test_torchscript_traces_the_example_and_takes_inputs_by_name() -> None:
    x = torch.randn(2, 4)
    model = Net(example=x)
    torch.testing.assert_close(model.to_torchscript(method="trace")(x), computed(model, x))
    keyed = Keyed().to_torchscript(method="trace", example_inputs={"left": x, "right": 3 * x}, strict=False)
    torch.testing.assert_close(keyed(right=x, left=x)["sum"], 2 * x)


def test_torchscript_keeps_extra_files() -> None:
    buffer = io.BytesIO()
    Net().to_torchscript(buffer, _extra_files={"labels.txt": "cat dog"})
    buffer.seek(0)
    files = {"labels.txt": ""}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.load(buffer, _extra_files=files)
    assert files["labels.txt"] in (b"cat dog", "cat dog")


def test_torchscript_knows_its_methods() -> None:
    with pytest.raises(ValueError, match=r"method='onnx'\): it must be 'script' or 'trace'"):
        Net().to_torchscript(method="onnx")


def test_a_property_of_the_users_is_compiled_and_those_of_lx_are_not() -> None:
    class Scaled(Net):
        @property
        def scale(self) -> int:
            return 3

        def forward(self, x: Tensor) -> Tensor:
            return self.scale * x

    assert Scaled().to_torchscript()(torch.ones(1)).item() == 3


def test_an_exported_program_is_written_and_read(tmp_path: Path) -> None:
    model, x = Outer(), torch.randn(7, 4)
    path = tmp_path / "new" / "model.pt2"
    program = model.to_exported(path, torch.randn(3, 4), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},))
    for one in (program, torch.export.load(path)):
        torch.testing.assert_close(one.module()(x), computed(model, x))
    assert [found.name for found in path.parent.iterdir()] == ["model.pt2"]
    with path.open("r+b") as file:
        model.to_exported(file, torch.randn(3, 4))


@pytest.mark.parametrize("strict", [False, True])
def test_a_mapping_is_keyword_arguments(strict: bool) -> None:
    x = torch.randn(2, 4)
    program = Keyed().to_exported(input_sample={"left": x, "right": x.clone()}, strict=strict)
    torch.testing.assert_close(program.module()(left=x, right=-x)["difference"], 2 * x)


def test_the_sample_goes_through_the_hooks_of_batch_transfer() -> None:
    class Hooked(Net):
        def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
            seen.append(("before", dataloader_idx, self.training))
            return batch["x"]

        def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
            seen.append(("move", device, batch.shape))
            return super().transfer_batch_to_device(batch, device, dataloader_idx)

        def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
            seen.append(("after", torch.is_grad_enabled()))
            return batch

    class Data(LightningDataModule):
        def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
            seen.append(("data",))
            return batch

    seen: list[Any] = []
    model, sample = Hooked(), {"x": torch.randn(2, 4)}
    model.to_exported(input_sample=sample)
    assert seen == [("before", 0, False), ("move", torch.device("cpu"), (2, 4)), ("after", False)]
    seen.clear()
    model.trainer = SimpleNamespace(log=None, datamodule=Data())
    model.to_exported(input_sample=sample)
    assert [what for what, *_ in seen] == ["before", "move", "data"]


def test_the_sample_goes_to_where_the_parameters_are() -> None:
    devices: list[torch.device] = []

    class Seen(Net):
        def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
            devices.append(device)
            return super().transfer_batch_to_device(batch, device, dataloader_idx)

    model = Seen().to("meta")
    model.to_exported(input_sample=torch.randn(2, 4))
    assert devices == [torch.device("meta")]


def test_a_module_of_a_fabric_is_exported(fabric: Fabric) -> None:
    model = Net()
    fabric.setup(model)
    x = torch.randn(2, 4)
    torch.testing.assert_close(model.to_exported(input_sample=x).module()(x), model.to_torchscript()(x))
    assert model.fabric is fabric


@pytest.mark.parametrize("method", ["to_onnx", "to_exported", "to_torchscript"])
def test_an_export_needs_a_sample(method: str) -> None:
    arguments = {"method": "trace"} if method == "to_torchscript" else {}
    with pytest.raises(ValueError, match=rf"{method}.* runs Net once to see what it computes: pass .* or set self.example_input_array"):
        getattr(Net(), method)(**arguments)


@pytest.mark.parametrize("method", EXPORTS)
def test_a_folder_is_no_file(method: str, tmp_path: Path) -> None:
    folder = tmp_path / "model.pt2"
    folder.mkdir()
    with pytest.raises(IsADirectoryError, match=r"is a folder; pass the path of a file"):
        getattr(Net(example=torch.ones(1, 4)), method)(folder)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"package": True}, r"a compiled package is a file; pass file_path="),
        ({"file_path": "model.onnx"}, r"file_path='model.onnx'\): the file must end in .pt2"),
        ({"file_path": "model.pt2", "inductor_configs": {"max_autotune": True}}, r"pass package=True, too"),
    ],
)
def test_what_a_program_cannot_be_written_to_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Failing().to_exported(input_sample=torch.ones(1), **arguments)


def test_a_file_is_replaced_when_its_successor_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(program: Any, place: Path, **options: Any) -> None:
        place.write_bytes(b"half")
        raise OSError("disk full")

    path = tmp_path / "model.pt2"
    path.write_bytes(b"the one before")
    monkeypatch.setattr(torch.export, "save", interrupted)
    with pytest.raises(OSError, match="disk full"):
        Net().to_exported(path, torch.ones(1, 4))
    assert path.read_bytes() == b"the one before"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("missing", ["onnx", "onnxscript"])
def test_onnx_says_what_to_install(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ModuleNotFoundError, match=rf"to_onnx needs {missing}, which is not installed: `pip install onnx onnxscript`"):
        Net(example=torch.ones(1, 4)).to_onnx()


def test_tensorrt_says_what_to_install() -> None:
    with pytest.raises(ModuleNotFoundError, match=r"to_tensorrt needs torch_tensorrt, .*`pip install torch-tensorrt`"):
        Net(example=torch.ones(1, 4)).to_tensorrt()


class FakeTensorRT(ModuleType):
    """Compiles to what it was called with."""

    def compile(self, module: Any, **options: Any) -> Any:
        return module.training, options

    def save(self, compiled: Any, place: Path, **options: Any) -> None:
        place.write_text(options["output_format"])


def test_tensorrt_needs_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch_tensorrt", FakeTensorRT("torch_tensorrt"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.raises(
        MisconfigurationException, match=r"runs on CUDA; the module is on 'cpu', default_device is 'cpu', and CUDA is avail"
    ):
        Net(example=torch.ones(1, 4)).to_tensorrt(default_device="cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(MisconfigurationException, match=r"default_device is 'cuda', and CUDA is not available here"):
        Net(example=torch.ones(1, 4)).to_tensorrt()
    with pytest.raises(ValueError, match=r"ir='ts', output_format='exported_program'"):
        Net().to_tensorrt(ir="ts")


def test_tensorrt_compiles_on_the_default_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    moves: list[str] = []

    class Moving(Net):
        def to(self, device: torch.device) -> Any:  # type: ignore[override]
            moves.append(device.type)
            return self

    monkeypatch.setitem(sys.modules, "torch_tensorrt", FakeTensorRT("torch_tensorrt"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    x = torch.ones(1, 4)
    model = Moving(example=x)
    training, options = model.to_tensorrt(tmp_path / "model.ep", ir="dynamo", min_block_size=1)
    assert (training, model.training, moves) == (False, True, ["cuda", "cpu"])
    assert options == {"ir": "dynamo", "inputs": [x], "min_block_size": 1}
    assert (tmp_path / "model.ep").read_text() == "exported_program"
