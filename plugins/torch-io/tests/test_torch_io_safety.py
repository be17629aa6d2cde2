"""What could not be read back safely is refused when it is saved, with its place and what to do."""

import argparse
import collections
import enum
import fractions
import functools
import math
import pathlib
import time
from collections import Counter, OrderedDict, defaultdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

from lx import Fabric, Trainer
from lx.hparams.mixin import AttributeDict
from lx.interfaces import Checkpoint
from lx.kernel.errors import CheckpointError
from lx.testing import TinyDataModule, TinyModule
from lx_plugin_torch_io import safety
from lx_plugin_torch_io.checkpoint_io import TorchCheckpointIO
from lx_plugin_torch_io.safety import check_safe


class Color(enum.Enum):
    RED = "red"


class Pair(NamedTuple):
    left: int
    right: int


class Thing:
    pass


def holding_itself() -> dict[str, Any]:
    content: dict[str, Any] = {"list": []}
    content["list"].append(content)
    return content


def with_attribute(value: Any) -> torch.Tensor:
    tensor = torch.ones(2)
    tensor.note = value  # type: ignore[attr-defined]
    return tensor


SAFE = [
    *(1, 2**70, True, None, 1.5, math.inf, 1j, "text", b"bytes", bytearray(b"x"), bytearray(), [], (), {}, set(), {1, 2}),
    [1, [2, (3, {"a": {4}})]],
    {1: "a", (1, "b"): 2, None: 3, 1.5: 4},
    OrderedDict(a=1),
    Counter("abc"),
    holding_itself(),
    torch.ones(2),
    torch.nn.Parameter(torch.ones(2)),
    torch.ones(2).to_sparse(),
    with_attribute("text"),
    torch.Size([1, 2]),
    torch.bfloat16,
    torch.strided,
    torch.device("cpu"),
    torch.nn.Linear(2, 2).state_dict(),
    torch.optim.Adam([torch.nn.Parameter(torch.ones(2))]).state_dict(),
]
READ_BY_LX = [argparse.Namespace(lr=0.1, deeper=argparse.Namespace(a=[1])), Path("a"), AttributeDict(a=1)]
UNSAFE = [
    (Color.RED, "Color", "store its name or its value"),
    (Pair(1, 2), "Pair", r"store tuple\(it\)"),
    (Thing(), "Thing", "store tensors, numbers"),
    (Thing, "type", "store its name"),
    (math.sqrt, "builtin_function", "store its name"),
    (functools.partial(print), "partial", "store tensors"),
    (fractions.Fraction(1, 2), "Fraction", "store tensors"),
    (np.float64(0.5), r"numpy\.float64", r"store it\.item\(\)"),
    (np.ones(2), r"numpy\.ndarray", r"store torch\.from_numpy\(it\)"),
    (defaultdict(list), "defaultdict", r"store dict\(it\)"),
    (b"", "bytes", r"store bytearray\(it\)"),
    (frozenset({1}), "frozenset", "store"),
    (range(3), "range", "store"),
    (slice(1), "slice", "store"),
    (pathlib.PureWindowsPath("a"), "PureWindowsPath", r"store str\(it\)"),
    (torch.nn.Linear(2, 2), "Linear", r"store its state_dict\(\)"),
]


@pytest.mark.parametrize("value", SAFE, ids=lambda value: type(value).__name__)
def test_what_is_safe_is_written_and_read(value: Any, tmp_path: Path) -> None:
    TorchCheckpointIO().save_checkpoint({"value": value}, tmp_path / "a.ckpt")
    assert type(TorchCheckpointIO().load_checkpoint(tmp_path / "a.ckpt")["value"]) is type(value)


@pytest.mark.parametrize("value", READ_BY_LX, ids=lambda value: type(value).__name__)
def test_what_lx_reads_all_the_same_is_written(value: Any, tmp_path: Path) -> None:
    TorchCheckpointIO().save_checkpoint({"hyper_parameters": value}, tmp_path / "a.ckpt")
    found = TorchCheckpointIO().load_checkpoint(tmp_path / "a.ckpt")["hyper_parameters"]
    assert (type(found), found) == (type(value), value)
    fabric = Fabric(accelerator="cpu")
    fabric.save(tmp_path / "b.ckpt", {"value": value})
    assert fabric.load(tmp_path / "b.ckpt")["value"] == value
    if isinstance(value, argparse.Namespace):
        with pytest.raises(CheckpointError, match=r"checkpoint\['value'\]\.deeper\.a\[0\] is a .*Thing"):
            check_safe({"value": argparse.Namespace(deeper=argparse.Namespace(a=[Thing()]))})


@pytest.mark.parametrize(("value", "kind", "cure"), UNSAFE, ids=lambda value: str(value)[:20])
def test_what_is_not_is_refused_before_anything_is_written(value: Any, kind: str, cure: str, tmp_path: Path) -> None:
    path = tmp_path / "a.ckpt"
    TorchCheckpointIO().save_checkpoint({"epoch": 1}, path)
    hyperparameter = rf"{cure}.*, or leave it out, save_hyperparameters\(ignore=\['thing'\]\)\.$"
    for content, place, what in (
        ({"callbacks": {"Mine": {"thing": value}}}, r"^checkpoint\['callbacks'\]\['Mine'\]\['thing'\] is a ", rf"(?i:{cure})"),
        ({"list": [1, ("a", value)]}, r"^checkpoint\['list'\]\[1\]\[1\] is a ", "add_safe_globals.*allow_objects=True"),
        ({"tensor": with_attribute(value)}, r"^checkpoint\['tensor'\]\.note is a ", "nothing was written"),
        ({"hyper_parameters": {"thing": value}}, r"^checkpoint\['hyper_parameters'\]\['thing'\] is a ", f"of the model: {hyperparameter}"),
        (
            {"datamodule_hyper_parameters": AttributeDict(thing=value)},
            "^checkpoint.*'thing'.* is a ",
            f"of the data module: {hyperparameter}",
        ),
    ):
        with pytest.raises(CheckpointError, match=rf"{place}.*{kind}.*{what}"):
            TorchCheckpointIO().save_checkpoint({"epoch": 2, **content}, path)
    assert TorchCheckpointIO().load_checkpoint(path) == {"epoch": 1}
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.ckpt"]


def test_keys_and_members_of_sets_are_looked_at() -> None:
    with pytest.raises(CheckpointError, match=r"<Color\.RED: 'red'> in checkpoint\['a'\] is a .*Color"):
        check_safe({"a": {Color.RED: 1}})
    with pytest.raises(CheckpointError, match=r"<Color\.RED: 'red'> in checkpoint\['a'\] is a .*Color"):
        check_safe({"a": {1, Color.RED}})


def test_the_error_of_what_cannot_be_pickled_says_where_it_is() -> None:
    with pytest.raises(Exception, match="pickle") as caught:
        check_safe({"a": [1, lambda: 0]})
    assert "checkpoint['a'][1]" in caught.value.__notes__[0]


def test_what_torch_was_told_to_allow_is_written_and_read(tmp_path: Path) -> None:
    path = tmp_path / "a.ckpt"
    with torch.serialization.safe_globals([Thing]):
        TorchCheckpointIO().save_checkpoint({"thing": Thing()}, path)
        assert type(TorchCheckpointIO().load_checkpoint(path)["thing"]) is Thing
    with pytest.raises(CheckpointError, match=r"Thing.*weights_only=False"):
        TorchCheckpointIO().load_checkpoint(path)


def test_any_object_can_be_allowed_and_is_read_only_when_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint_io, path = TorchCheckpointIO(allow_objects=True), tmp_path / "a.ckpt"
    checkpoint_io.save_checkpoint({"thing": Thing()}, path)
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    for weights_only in (None, True):
        with pytest.raises(CheckpointError, match=r"Thing.*weights_only=False"):
            checkpoint_io.load_checkpoint(path, weights_only=weights_only)
    assert type(checkpoint_io.load_checkpoint(path, weights_only=False)["thing"]) is Thing


class RunsCode:
    def __reduce__(self) -> Any:
        return print, ("code of the file runs",)


def test_nothing_in_a_file_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for extra in ({}, {"_use_new_zipfile_serialization": False}):
        torch.save({"thing": RunsCode(), "more": collections.deque()}, tmp_path / "a.ckpt", **extra)
        for verify in (True, False):
            for read in (TorchCheckpointIO(verify).load_checkpoint, TorchCheckpointIO(verify).outline):
                with pytest.raises(CheckpointError, match="print"):
                    read(tmp_path / "a.ckpt")
    assert "code of the file" not in capsys.readouterr().out
    torch.load(tmp_path / "a.ckpt", weights_only=False)
    assert "code of the file" in capsys.readouterr().out


def test_a_look_inside_costs_a_few_percent_of_a_save(tmp_path: Path) -> None:
    weights = {f"layer.{layer}.weight": torch.ones(100, 100) for layer in range(1000)}
    state = {index: {"step": torch.tensor(1.0), "exp_avg": weight, "exp_avg_sq": weight} for index, weight in enumerate(weights.values())}
    checkpoint = {"state_dict": weights, "optimizer_states": [{"state": state}], "numbers": list(range(100_000))}

    def seconds(call: Any) -> float:
        start = time.process_time()
        call()
        return time.process_time() - start

    checkpoint_io = TorchCheckpointIO(allow_objects=True)
    looking = min(seconds(lambda: check_safe(checkpoint)) for _ in range(5))
    assert looking < 0.1 * min(seconds(lambda: checkpoint_io.save_checkpoint(checkpoint, tmp_path / "a.ckpt")) for _ in range(2))


def quiet_trainer(**arguments: Any) -> Trainer:
    return Trainer(accelerator="cpu", max_epochs=1, logger=False, enable_progress_bar=False, enable_model_summary=False, **arguments)


@pytest.mark.parametrize("of_data", [False, True])
def test_a_run_that_saves_refuses_a_hyperparameter_before_it_trains(of_data: bool, tmp_path: Path) -> None:
    class Checkpoints(Checkpoint):
        pass

    class Model(TinyModule):
        def __init__(self, **hyperparameters: Any) -> None:
            super().__init__()
            self.save_hyperparameters()

        def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
            raise AssertionError("it trains")

    class Data(TinyDataModule):
        def __init__(self, **hyperparameters: Any) -> None:
            super().__init__()
            self.save_hyperparameters()

    unsafe = {"width": 3, "color": Color.RED}
    owner = "data module" if of_data else "model"
    trainer = quiet_trainer(callbacks=[Checkpoints()], default_root_dir=tmp_path)
    with pytest.raises(CheckpointError, match=rf"hyperparameter of the {owner}: store its name.*ignore=\['color'\]"):
        trainer.fit(Model(**({} if of_data else unsafe)), Data(**(unsafe if of_data else {})))


def test_a_run_refuses_its_hyperparameters_by_name(tmp_path: Path) -> None:
    class Model(TinyModule):
        def __init__(self, color: Color) -> None:
            super().__init__()
            self.save_hyperparameters()

    trainer = quiet_trainer(enable_checkpointing=False)
    trainer.fit(Model(Color.RED), TinyDataModule())
    with pytest.raises(CheckpointError, match=r"Color.*hyperparameter of the model.*save_hyperparameters\(ignore=\['color'\]\)"):
        trainer.save_checkpoint(tmp_path / "a.ckpt")


def test_what_is_common_is_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trying means writing and reading: nothing that each checkpoint holds."""
    monkeypatch.setattr(safety, "_tried", None)
    check_safe({"state_dict": torch.nn.Linear(2, 2).state_dict(), "epoch": 1, "lists": [[1], ("a", {2})], "callbacks": {"a": None}})
