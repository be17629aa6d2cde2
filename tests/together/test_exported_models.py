"""Exports of trained modules, run by what they are for: onnxruntime, and code that AOTInductor compiled."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from lx import Trainer
from lx.testing.models import TinyDataModule, TinyModule

BATCH = torch.export.Dim.DYNAMIC


class Net(TinyModule):
    """Has a layer that computes otherwise in train mode, and logs in `forward`."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Sequential(nn.Linear(8, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 1))

    def forward(self, batch: Any) -> Tensor:
        y = super().forward(batch)
        self.log("mean", y.mean())
        return y


class Pair(Net):
    """Takes two inputs and returns a tuple."""

    def forward(self, left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        both = super().forward(left + right)
        return both, left - right


class Keyed(Net):
    """Takes one mapping, and returns another."""

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:  # type: ignore[override]
        return {"y": super().forward(batch["x"]) * batch["scale"]}


class Exporting(Net):
    """Exports itself when an epoch of training ends."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder
        self.example_input_array = torch.randn(3, 8)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return self(batch).square().mean()

    def on_train_epoch_end(self) -> None:
        self.to_onnx(self.folder / f"epoch={self.current_epoch}" / "model.onnx", external_data=False)
        assert self.training


def outputs(model: Any, *inputs: Any, **named: Any) -> Any:
    """What the model computes in eval mode."""
    log, model.log = model.log, lambda *arguments: None
    model.eval()
    try:
        with torch.no_grad():
            return model(*inputs, **named)
    finally:
        del model.log
        model.train()
        assert model.log == log


def run_onnx(file: Path | bytes, **inputs: Tensor) -> list[np.ndarray]:
    """What onnxruntime computes."""
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    return session.run(None, {name: value.numpy() for name, value in inputs.items()})


def same(found: Any, wanted: Any) -> None:
    torch.testing.assert_close([torch.as_tensor(one) for one in found], list(wanted), rtol=1e-4, atol=1e-5)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def test_onnx_computes_the_same_for_any_batch(tmp_path: Path) -> None:
    model, path = Net(), tmp_path / "new" / "model.onnx"
    program = model.to_onnx(path, torch.randn(3, 8), dynamic_shapes=({0: "batch"},), input_names=["x"], output_names=["y"])
    x = torch.randn(5, 8)
    same(run_onnx(path, x=x), [outputs(model, x)])
    same(program(x), [outputs(model, x)])
    assert sorted(found.name for found in path.parent.iterdir()) == ["model.onnx", "model.onnx.data"]
    path.rename(path.with_name("other.onnx"))  # the weights are found by the name that the model was exported to
    same(run_onnx(path.with_name("other.onnx"), x=x), [outputs(model, x)])


def test_onnx_of_several_inputs_and_outputs() -> None:
    model, buffer = Pair(), io.BytesIO()
    model.to_onnx(buffer, (torch.randn(3, 8), torch.randn(3, 8)), dynamic_shapes=({0: BATCH}, {0: BATCH}))
    left, right = torch.randn(2, 6, 8)
    same(run_onnx(buffer.getvalue(), left=left, right=right), outputs(model, left, right))


def test_onnx_of_inputs_by_name() -> None:
    model, buffer = Pair(), io.BytesIO()
    model.to_onnx(buffer, {"right": torch.randn(3, 8), "left": torch.randn(3, 8)})
    left, right = torch.randn(2, 3, 8)
    same(run_onnx(buffer.getvalue(), left=left, right=right), outputs(model, left, right))


def test_onnx_of_a_mapping_as_the_one_input() -> None:
    model = Keyed()
    sample = {"x": torch.randn(3, 8), "scale": torch.tensor([2.0])}
    program = model.to_onnx(input_sample=(sample,), input_names=["x", "scale"])
    same(run_onnx(program.model_proto.SerializeToString(), **sample), outputs(model, sample).values())


@pytest.mark.filterwarnings("ignore:.*__contains__.*:DeprecationWarning")
def test_the_exporter_that_torch_deprecates_still_works(tmp_path: Path) -> None:
    model, x = Net(), torch.randn(3, 8)
    assert model.to_onnx(tmp_path / "model.onnx", x, dynamo=False, input_names=["x"]) is None
    same(run_onnx(tmp_path / "model.onnx", x=x), [outputs(model, x)])


def test_a_module_exports_itself_while_it_is_trained(bare_trainer: Callable[..., Trainer], tmp_path: Path) -> None:
    model = Exporting(tmp_path)
    trainer = bare_trainer(max_epochs=2)
    trainer.fit(model, TinyDataModule())
    assert sorted(path.name for path in tmp_path.glob("epoch=*")) == ["epoch=0", "epoch=1"]
    x = torch.randn(3, 8)
    (last,) = run_onnx(tmp_path / "epoch=1" / "model.onnx", batch=x)
    same([last], [outputs(model, x)])
    assert not np.allclose(last, run_onnx(tmp_path / "epoch=0" / "model.onnx", batch=x)[0])
    assert "mean" in trainer.callback_metrics
    torch.testing.assert_close(model.to_torchscript(method="trace")(x), outputs(model, x))


def test_a_compiled_package_computes_the_same_for_any_batch(tmp_path: Path) -> None:
    """Takes some 20 s, as it compiles C++."""
    model, path = Net(), tmp_path / "new" / "model.pt2"
    model.to_exported(path, torch.randn(3, 8), dynamic_shapes=({0: BATCH},), package=True)
    run = torch._inductor.aoti_load_package(path)
    for size in (2, 7):
        x = torch.randn(size, 8)
        torch.testing.assert_close(run(x), outputs(model, x))
    assert [found.name for found in path.parent.iterdir()] == ["model.pt2"]
