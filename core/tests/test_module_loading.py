"""`load_from_checkpoint`: which arguments the new object is made with, and how its weights are loaded."""

import io
from argparse import Namespace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import lx.module_loading
from lx import LightningDataModule, LightningModule
from lx.kernel.errors import (
    ArgumentTypeError,
    CheckpointCorruptError,
    CheckpointError,
    CheckpointMismatchError,
    CheckpointNotFoundError,
    NotInstalledError,
)
from lx.module_loading import read_hparams
from lx.testing import FakeCheckpointIO, fake_plugin_manager


class Net(LightningModule):
    def __init__(self, width: int = 2, rate: float = 0.1) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.width, self.rate = width, rate
        self.layer = nn.Linear(width, 1)


class Open(Net):
    """Takes whatever it is given."""

    def __init__(self, width: int = 2, **rest: Any) -> None:
        super().__init__(width)
        self.rest = rest


class Contained(LightningModule):
    """Takes its hyperparameters as one container."""

    def __init__(self, conf: Any, other: int = 5) -> None:
        super().__init__()
        self.save_hyperparameters(conf)
        self.conf, self.other = conf, other
        self.layer = nn.Linear(conf["width"], 1)


def checkpoint(module: Any, **more: Any) -> dict[str, Any]:
    """What a trainer writes of a module."""
    return {"state_dict": module.state_dict(), "hparams_name": module.hparams_name, "hyper_parameters": dict(module.hparams), **more}


def file_of(content: Any) -> io.BytesIO:
    file = io.BytesIO()
    torch.save(content, file)
    file.seek(0)
    return file


# -- arguments ---------------------------------------------------------------------------------------------------------------


def test_a_module_is_made_again_with_its_arguments_and_weights() -> None:
    saved = Net(3, rate=0.5)
    loaded = Net.load_from_checkpoint(file_of(checkpoint(saved)))
    assert (type(loaded), loaded.width, loaded.rate) == (Net, 3, 0.5)
    assert torch.equal(loaded.layer.weight, saved.layer.weight)
    assert dict(loaded.hparams) == dict(saved.hparams)


def test_arguments_of_the_call_rank_over_those_in_the_file_and_are_kept() -> None:
    loaded = Net.load_from_checkpoint(file_of(checkpoint(Net(3, rate=0.5))), rate=0.9)
    assert (loaded.width, loaded.rate, loaded.hparams.rate) == (3, 0.9, 0.9)


def test_only_what_init_takes_is_passed_and_what_the_call_gave_in_vain_is_said() -> None:
    content = file_of(checkpoint(Net(3), hyper_parameters={"width": 3, "gone": 1, "_class_path": "x.Y"}))
    assert Net.load_from_checkpoint(content).width == 3
    content.seek(0)
    with pytest.warns(UserWarning, match="Net.load_from_checkpoint: __init__ takes no widht, which is left out; it takes width, rate"):
        Net.load_from_checkpoint(content, widht=4)


def test_an_init_that_takes_anything_is_given_everything_but_what_the_command_line_notes() -> None:
    content = file_of(checkpoint(Net(3), hyper_parameters={"width": 3, "old": 1, "_class_path": "x.Y"}))
    assert Open.load_from_checkpoint(content, new=2).rest == {"old": 1, "new": 2}


class Wide(Net):
    """A subclass that is made from its base."""


class Noted:
    """Makes the file of a module that the command line made."""

    def __new__(cls, path: str | None, maker: str = "lightning.pytorch.cli.instantiate_module") -> Any:
        return file_of(checkpoint(Net(3), hyper_parameters={"width": 3, "_class_path": path, "_instantiator": maker}))


def test_the_class_that_the_command_line_noted_is_made_from_its_base() -> None:
    made = Net.load_from_checkpoint(Noted(f"{Wide.__module__}.{Wide.__qualname__}"))
    assert (type(made), made.width) == (Wide, 3)
    assert type(Net.load_from_checkpoint(Noted(f"{Net.__module__}.{Net.__qualname__}"))) is Net


def test_a_file_cannot_say_which_code_is_run() -> None:
    for path in ("os.system", f"{LightningModule.__module__}.LightningModule", "x.Y"):
        with pytest.raises(ValueError, match="is no subclass of Net that has been imported; import its module first"):
            Net.load_from_checkpoint(Noted(path))
    with pytest.raises(ValueError, match=r"wants 'os.system' to make the object.*add it to lx.module_loading.INSTANTIATORS"):
        Net.load_from_checkpoint(Noted("x.Y", "os.system"))


def test_another_maker_may_be_made_known(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []

    def make(cls: type[Any], arguments: dict[str, Any]) -> Any:
        made.append(cls)
        return cls(**arguments)

    monkeypatch.setitem(lx.module_loading.INSTANTIATORS, "mine.make", make)
    assert Net.load_from_checkpoint(Noted(None, "mine.make")).width == 3
    assert made == [Net]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"checkpoint_path": 3}, "checkpoint_path=3: it must be a path, or a file that was opened with mode 'rb'"),
        ({"checkpoint_path": None}, "checkpoint_path=None: it must be a path"),
        ({"checkpoint_path": "a.ckpt", "weights_only": "yes"}, "weights_only='yes': it must be True, False or None"),
        ({"checkpoint_path": "a.ckpt", "strict": "yes"}, "strict='yes': it must be True, False or None"),
    ],
)
def test_what_cannot_be_is_refused_first(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(ArgumentTypeError, match=said):
        Net.load_from_checkpoint(**arguments)
    with pytest.raises(TypeError):
        Net.load_from_checkpoint(**arguments)


def test_an_empty_path_and_an_open_file_of_something_else() -> None:
    with pytest.raises(ValueError, match="the path is empty, as best_model_path of a callback is while nothing has been saved"):
        Net.load_from_checkpoint("")
    for other in (io.BytesIO(b"nothing of this kind"), io.BytesIO(), io.StringIO("text")):
        with pytest.raises(CheckpointCorruptError, match="holds no checkpoint"):
            Net.load_from_checkpoint(other)


def test_a_checkpoint_without_hyperparameters_needs_them_in_the_call() -> None:
    class Needs(Net):
        def __init__(self, width: int) -> None:
            super().__init__(width)

    content = {"state_dict": Needs(3).state_dict()}
    with pytest.raises(TypeError, match="width"):
        Needs.load_from_checkpoint(file_of(content))
    assert Needs.load_from_checkpoint(file_of(content), width=3).width == 3


@pytest.mark.parametrize("container", [{"width": 3, "act": "relu"}, Namespace(width=3, act="relu")])
def test_hyperparameters_that_were_one_container_come_as_one(container: Any) -> None:
    plain = container if isinstance(container, dict) else vars(container)
    content = checkpoint(Net(3), hparams_name="conf", hyper_parameters=plain)
    loaded = Contained.load_from_checkpoint(file_of(content))
    assert (loaded.conf["width"], loaded.conf.act, loaded.other) == (3, "relu", 5)
    assert (dict(loaded.hparams), loaded.hparams_name) == (plain, "conf")


def test_arguments_of_the_call_go_into_the_container_or_beside_it() -> None:
    content = file_of(checkpoint(Contained({"width": 3, "act": "relu"})))
    loaded = Contained.load_from_checkpoint(content, act="tanh", new=1, other=7)
    assert (dict(loaded.conf), loaded.other) == ({"width": 3, "act": "tanh", "new": 1}, 7)
    content.seek(0)
    assert dict(Contained.load_from_checkpoint(content, conf={"width": 3}).conf) == {"width": 3}


def test_a_container_beside_gathered_arguments() -> None:
    class Both(Contained):
        def __init__(self, conf: Any, **rest: Any) -> None:
            super().__init__(conf)
            self.rest = rest

    loaded = Both.load_from_checkpoint(file_of(checkpoint(Contained({"width": 3, "act": "relu"}))), act="tanh", new=1)
    assert (dict(loaded.conf), loaded.rest) == ({"width": 3, "act": "tanh"}, {"new": 1})


# -- files of hyperparameters ------------------------------------------------------------------------------------------------


def test_a_file_replaces_the_hyperparameters_in_the_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "hparams.csv").write_text("key,value\nwidth,3\nrate,0.25\n", "utf-8")
    content = file_of({**checkpoint(Net(3)), "hyper_parameters": {"width": 7}})
    loaded = Net.load_from_checkpoint(content, hparams_file=tmp_path / "hparams.csv")
    assert (loaded.width, loaded.rate) == (3, 0.25)
    content.seek(0)
    assert Net.load_from_checkpoint(content, hparams_file=str(tmp_path / "hparams.csv"), rate=1.0).rate == 1.0


def test_values_of_a_csv_file_are_read_as_what_they_look_like(tmp_path: Path) -> None:
    file = tmp_path / "hparams.CSV"
    file.write_text('key,value\na,3\nb,-1e-3\nc,True\nd,False\ne,None\nf,"relu, then tanh"\ng,\n', "utf-8")
    assert read_hparams(file) == {"a": 3, "b": -1e-3, "c": True, "d": False, "e": None, "f": "relu, then tanh", "g": ""}


@pytest.mark.parametrize("suffix", [".yaml", ".yml"])
def test_a_yaml_file_needs_a_yaml_library(tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / f"hparams{suffix}"
    file.write_text("width: 3\n", "utf-8")
    monkeypatch.setitem(__import__("sys").modules, "yaml", None)
    with pytest.raises(ModuleNotFoundError, match="pip install pyyaml"):
        read_hparams(file)
    fake = type("yaml", (), {"safe_load": staticmethod(lambda text: {"read": text} if text else None)})
    monkeypatch.setitem(__import__("sys").modules, "yaml", fake)
    assert read_hparams(file) == {"read": "width: 3\n"}
    file.write_text("", "utf-8")
    assert read_hparams(file) == {}


def test_another_file_is_refused_and_a_missing_one_not_found(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"hparams_file='x.json': it must end in .csv, .yml or .yaml"):
        Net.load_from_checkpoint(file_of(checkpoint(Net())), hparams_file="x.json")
    with pytest.raises(FileNotFoundError):
        read_hparams(tmp_path / "none.csv")


# -- weights -----------------------------------------------------------------------------------------------------------------


class Wider(Net):
    """Has a weight more than `Net`."""

    def __init__(self, width: int = 2, rate: float = 0.1) -> None:
        super().__init__(width, rate)
        self.extra = nn.Parameter(torch.zeros(1))


class Lenient(Wider):
    def __init__(self, width: int = 2, rate: float = 0.1) -> None:
        super().__init__(width, rate)
        self.strict_loading = False


def test_weights_must_fit_unless_told_otherwise() -> None:
    with pytest.raises(CheckpointMismatchError, match=r"(?s)do not fit Wider: .*extra"):
        Wider.load_from_checkpoint(file_of(checkpoint(Net())))
    with pytest.warns(UserWarning, match="the checkpoint lacks extra"):
        assert Wider.load_from_checkpoint(file_of(checkpoint(Net())), strict=False).extra == 0
    with pytest.warns(UserWarning, match="the checkpoint holds, beside what the model has, extra"):
        Net.load_from_checkpoint(file_of(checkpoint(Wider())), strict=False)


def test_a_module_may_say_itself_that_its_weights_need_not_fit() -> None:
    with pytest.warns(UserWarning, match="lacks extra"):
        Lenient.load_from_checkpoint(file_of(checkpoint(Net())))
    with pytest.raises(ValueError, match="strict=True contradicts strict_loading=False of Lenient"):
        Lenient.load_from_checkpoint(file_of(checkpoint(Net())), strict=True)


def test_weights_of_another_shape_never_fit() -> None:
    with pytest.raises(CheckpointMismatchError, match="do not fit Net"):
        Net.load_from_checkpoint(file_of(checkpoint(Net(3))), width=4, strict=False)


def test_the_modules_hooks_are_called_in_order() -> None:
    order: list[str] = []

    class Late(Net):
        def configure_model(self) -> None:
            order.append("configure_model")
            self.head = nn.Linear(1, 1)

        def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
            order.append("on_load_checkpoint")
            checkpoint["state_dict"]["head.bias"] = torch.tensor([4.0])

        def load_state_dict(self, state: Any, strict: bool = True) -> Any:
            order.append("load_state_dict")
            return super().load_state_dict(state, strict=strict)

    saved = Late()
    saved.configure_model()
    order.clear()
    assert Late.load_from_checkpoint(file_of(checkpoint(saved))).head.bias.item() == 4.0
    assert order == ["configure_model", "on_load_checkpoint", "load_state_dict"]


def test_the_module_ends_where_its_weights_are() -> None:
    class Copies(Net):
        """Puts weights in place instead of copying them, since the meta device has none to copy."""

        def load_state_dict(self, state: Any, strict: bool = True) -> Any:
            return nn.Module.load_state_dict(self, state, strict=strict, assign=True)

    loaded = Copies.load_from_checkpoint(file_of(checkpoint(Net())), map_location="meta")
    assert {weight.device.type for weight in loaded.parameters()} == {"meta"}


def test_it_is_called_on_the_class() -> None:
    with pytest.raises(TypeError, match=r"call load_from_checkpoint on the class, Net.load_from_checkpoint\(...\)"):
        Net().load_from_checkpoint(file_of(checkpoint(Net())))


@pytest.mark.parametrize("content", [{"weights": 1}, [1, 2]])
def test_what_is_no_checkpoint_is_refused(content: Any) -> None:
    with pytest.raises(CheckpointError, match="is no checkpoint of a Trainer"):
        Net.load_from_checkpoint(file_of(content))


# -- data modules ------------------------------------------------------------------------------------------------------------


class Data(LightningDataModule):
    def __init__(self, batch_size: int = 4) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.batch_size, self.position = batch_size, 0

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.position = state_dict["position"]


def test_a_data_module_needs_no_weights_in_the_file() -> None:
    class Rows(LightningDataModule):
        def __init__(self, size: int = 1) -> None:
            super().__init__()
            self.size = size

    assert Rows.load_from_checkpoint(file_of({"datamodule_hyper_parameters": {"size": 3}})).size == 3


def test_a_data_module_finds_its_own_hyperparameters_and_state() -> None:
    content = checkpoint(Net(), datamodule_hparams_name="kwargs", datamodule_hyper_parameters={"batch_size": 16})
    assert (Data.load_from_checkpoint(file_of(content)).batch_size, Data.load_from_checkpoint(file_of(content)).position) == (16, 0)
    loaded = Data.load_from_checkpoint(file_of({**content, "Data": {"position": 7}}), batch_size=8)
    assert (loaded.batch_size, loaded.position) == (8, 7)


# -- where checkpoints come from ---------------------------------------------------------------------------------------------


class Shared(FakeCheckpointIO):
    """One memory for all its instances; it notes how it was asked."""

    memory: dict[str, Any] = {}  # noqa: RUF012
    asked: list[tuple[Any, Any]] = []  # noqa: RUF012

    def __init__(self) -> None:
        self.stored = self.memory

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        self.asked.append((map_location, weights_only))
        return super().load_checkpoint(path, map_location, weights_only)


def test_a_path_is_read_by_the_best_checkpoint_io_that_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    manager = fake_plugin_manager()
    manager.registry.checkpoint_io.add("shared", Shared, roles={"default": 9})
    monkeypatch.setattr(lx.module_loading, "default_manager", lambda: manager)
    Shared.memory["mine.ckpt"] = checkpoint(Net(3))
    assert Net.load_from_checkpoint("mine.ckpt", weights_only=False).width == 3
    assert Net.load_from_checkpoint(Path("mine.ckpt"), map_location="cpu").width == 3
    (default, first), (given, second) = Shared.asked
    assert (callable(default), first, given, second) == (True, False, "cpu", None)
    with pytest.raises(CheckpointNotFoundError, match=r"none\.ckpt"):
        Net.load_from_checkpoint("none.ckpt")


def test_without_a_checkpoint_io_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    manager = fake_plugin_manager()
    manager.registry.checkpoint_io.remove("fake")
    monkeypatch.setattr(lx.module_loading, "default_manager", lambda: manager)
    with pytest.raises(NotInstalledError, match="pip install lx-standard"):
        Net.load_from_checkpoint("mine.ckpt")


def test_an_open_file_is_read_safely_unless_told_otherwise() -> None:
    content = checkpoint(Net(), extra=Fraction(1, 2))
    with pytest.raises(Exception, match="Weights only load failed"):
        Net.load_from_checkpoint(file_of(content))
    assert Net.load_from_checkpoint(file_of(content), weights_only=False).width == 2
