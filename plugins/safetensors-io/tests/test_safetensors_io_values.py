"""What comes back of what was saved."""

import argparse
import collections
import dataclasses
import enum
import math
import pathlib
import random
import struct
from collections import Counter, OrderedDict
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

from lx.hparams.mixin import AttributeDict
from lx.kernel.errors import CheckpointError
from lx_plugin_safetensors_io.checkpoint_io import SafetensorsCheckpointIO

DTYPES = [
    dtype for name, dtype in vars(torch).items() if isinstance(dtype, torch.dtype) and str(dtype) == f"torch.{name}" and name[0] != "q"
]
WIDE = {torch.float32, torch.float64, torch.int64, torch.bool, torch.complex64, torch.bfloat16}


def there_and_back(value: Any, folder: Path) -> Any:
    path = folder / "a.ckpt"
    SafetensorsCheckpointIO().save_checkpoint({"value": value}, path)
    return SafetensorsCheckpointIO().load_checkpoint(path)["value"]


def bits(tensor: torch.Tensor) -> bytes:
    return bytes(torch.empty(0, dtype=torch.uint8).set_(tensor.detach().clone().contiguous().untyped_storage()).tolist())


def assert_same(got: Any, wanted: Any) -> None:
    assert type(got) is type(wanted)
    if isinstance(wanted, torch.Tensor):
        assert (got.dtype, got.shape, got.device, got.requires_grad) == (wanted.dtype, wanted.shape, wanted.device, wanted.requires_grad)
        assert bits(got) == bits(wanted)
    elif isinstance(wanted, dict):
        assert len(got) == len(wanted)
        for (one, inner), (other, outer) in zip(got.items(), wanted.items(), strict=True):
            assert_same(one, other)
            assert_same(inner, outer)
    elif isinstance(wanted, list | tuple):
        assert len(got) == len(wanted)
        for one, other in zip(got, wanted, strict=True):
            assert_same(one, other)
    elif isinstance(wanted, float):
        assert struct.pack(">d", got) == struct.pack(">d", wanted)
    elif isinstance(wanted, complex):
        assert_same((got.real, got.imag), (wanted.real, wanted.imag))
    elif isinstance(wanted, argparse.Namespace):
        assert_same(vars(got), vars(wanted))
    else:
        assert got == wanted


class Drawn:
    """Draws values of all kinds, nested."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.shared: list[torch.Tensor] = []

    def value(self, depth: int = 4) -> Any:
        nested = [self.dictionary, self.listed, self.several] if depth else []
        return self.random.choice([*nested, self.plain, self.plain, self.tensor])(depth)

    def several(self, depth: int) -> Any:
        values = {f"name_{number}": self.value(depth - 1) for number in range(self.random.randrange(4))}
        made = [tuple(values.values()), OrderedDict(values), AttributeDict(values), argparse.Namespace(**values)]
        return self.random.choice(made)

    def listed(self, depth: int) -> list[Any]:
        return [self.value(depth - 1) for _ in range(self.random.randrange(5))]

    def dictionary(self, depth: int) -> dict[Any, Any]:
        return {self.key(): self.value(depth - 1) for _ in range(self.random.randrange(5))}

    def key(self) -> Any:
        return self.random.choice([self.text(), self.random.randrange(9), (1, self.text()), None, True, 0.5, "$tuple", "", "a.b", b"b"])

    def text(self) -> str:
        return "".join(self.random.choice('aé"\\\n\x00\ud800😀$.{}[]') for _ in range(self.random.randrange(6)))

    def plain(self, depth: int) -> Any:
        return self.random.choice(
            [
                None,
                True,
                self.text(),
                self.random.choice([-1, 1]) * self.random.getrandbits(self.random.choice([1, 62, 63, 64, 300])),
                self.random.choice([-0.0, 5e-324, math.pi, 1e22, math.inf, -math.inf, math.nan, -math.nan, self.random.gauss(0, 1e9)]),
                complex(self.random.random(), -0.0),
                self.random.randbytes(self.random.randrange(5)),
                bytearray(b"\x00\xff"),
                torch.Size([2, 3]),
                torch.bfloat16,
                torch.device("cuda", 1),
                {1, 2, self.text()},
                frozenset([(1, 2), None]),
                Counter("hello"),
                Path("runs/last.ckpt"),
                pathlib.PurePosixPath("/a/b"),
                pathlib.PureWindowsPath("c:/a"),
            ]
        )

    def tensor(self, depth: int) -> torch.Tensor:
        if self.shared and self.random.random() < 0.3:
            return self.random.choice(self.shared)
        shape = [self.random.randrange(4) for _ in range(self.random.randrange(4))]
        raw = torch.tensor(list(self.random.randbytes(16 * math.prod(shape))), dtype=torch.uint8)
        made = raw.view(self.random.choice(list(WIDE - {torch.bool})))[: math.prod(shape)].clone().view(shape)
        made = self.random.choice([made, made > 0 if not made.is_complex() else made, made.mT.contiguous().mT if made.ndim > 1 else made])
        if made.is_floating_point() and self.random.random() < 0.2:
            made = self.random.choice([torch.nn.Parameter(made), torch.nn.Parameter(made, requires_grad=False), made.requires_grad_()])
        self.shared.append(made)
        return made


@pytest.mark.parametrize("seed", range(60))
def test_any_values_come_back(seed: int, tmp_path: Path) -> None:
    drawn = Drawn(seed)
    content = {f"part_{number}": drawn.value() for number in range(6)}
    assert_same(there_and_back(content, tmp_path), content)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.filterwarnings("ignore:ComplexHalf")
def test_every_dtype(dtype: torch.dtype, tmp_path: Path) -> None:
    raw = torch.tensor([*range(256), *range(256)], dtype=torch.uint8)
    every = (raw % 2).bool() if dtype is torch.bool else raw.view(dtype)
    found = there_and_back([every, every[:6].view(2, 3) if every.numel() % 6 else every, every[1], every[:0]], tmp_path)
    for got, wanted in zip(found, [every, every[:6].view(2, 3) if every.numel() % 6 else every, every[1], every[:0]], strict=True):
        assert (got.dtype, got.shape) == (dtype, wanted.shape)
        assert got.view(torch.uint8).tolist() == wanted.view(torch.uint8).tolist() if wanted.ndim else True


def test_the_order_in_memory_is_kept(tmp_path: Path) -> None:
    image = torch.randn(2, 3, 4, 5)
    kinds = [image.contiguous(memory_format=torch.channels_last), image.permute(3, 1, 0, 2), torch.randn(4, 3).t(), torch.zeros(1, 3).t()]
    for got, wanted in zip(there_and_back(kinds, tmp_path), kinds, strict=True):
        assert torch.equal(got, wanted)
        assert got.stride() == wanted.stride()


def test_a_part_of_a_tensor_is_written_without_the_rest(tmp_path: Path) -> None:
    whole = torch.arange(100_000.0)
    parts = [
        whole[:10],
        whole[::10000],
        whole[:3].expand(2, 3),
        torch.complex(whole[:3], whole[:3]).conj(),
        whole[:3].to(torch.cfloat).imag,
    ]
    for got, wanted in zip(there_and_back(parts, tmp_path), parts, strict=True):
        assert torch.equal(got, wanted.resolve_conj())
    assert (tmp_path / "a.ckpt").stat().st_size < 10_000


def test_tied_weights_share_their_memory_again(tmp_path: Path) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(300, 300, bias=False), torch.nn.Linear(300, 300, bias=False))
    model[1].weight = model[0].weight
    state = model.state_dict()
    found = there_and_back({**state, "transposed": state["0.weight"].t(), "as_integers": state["0.weight"].view(torch.int32)}, tmp_path)
    assert (tmp_path / "a.ckpt").stat().st_size < 2 * 4 * 300 * 300
    assert torch.equal(found["transposed"], state["0.weight"].t())
    found["1.weight"].zero_()
    assert not any(tensor.any() for tensor in found.values())


def test_what_overlaps_comes_back_equal_and_apart(tmp_path: Path) -> None:
    whole = torch.arange(6.0)
    found = there_and_back([whole, whole[:4], whole[3:]], tmp_path)
    found[0].zero_()
    assert [tensor.tolist() for tensor in found[1:]] == [[0, 1, 2, 3], [3, 4, 5]]


def test_a_state_dict_keeps_the_versions_of_its_modules(tmp_path: Path) -> None:
    state = torch.nn.Sequential(torch.nn.BatchNorm1d(3)).state_dict()
    found = there_and_back(state, tmp_path)
    assert type(found) is OrderedDict
    assert found._metadata == state._metadata  # type: ignore[attr-defined]


def test_the_gradient_of_a_sparse_embedding(tmp_path: Path) -> None:
    embedding = torch.nn.Embedding(5, 3, sparse=True)
    embedding(torch.tensor([1, 1, 4])).square().sum().backward()
    gradient = embedding.weight.grad
    assert gradient is not None
    found = there_and_back({"sparse": gradient, "empty": torch.zeros(2, 2).to_sparse()}, tmp_path)
    assert found["sparse"].is_sparse
    assert found["sparse"].is_coalesced()
    assert torch.equal(found["sparse"].to_dense(), gradient.to_dense())
    assert torch.equal(found["empty"].to_dense(), torch.zeros(2, 2))
    outline = SafetensorsCheckpointIO().outline(tmp_path / "a.ckpt")["value"]["sparse"]
    assert (outline.is_sparse, outline.is_meta, outline.shape) == (True, True, (5, 3))


def test_names_that_are_alike(tmp_path: Path) -> None:
    names = {
        "a": {"b.c": torch.tensor(1)},
        "a.b": {"c": torch.tensor(2)},
        1: torch.tensor(3),
        "1": torch.tensor(4),
        "\ud800": torch.tensor(5),
    }
    assert_same(there_and_back(names, tmp_path), names)
    path = tmp_path / "a.ckpt"
    SafetensorsCheckpointIO().save_checkpoint({"__metadata__": torch.tensor(6)}, path)
    assert SafetensorsCheckpointIO().load_checkpoint(path) == {"__metadata__": torch.tensor(6)}


def test_states_of_random_generators(tmp_path: Path) -> None:
    states = {"python": random.getstate(), "torch": torch.get_rng_state()}
    assert_same(there_and_back(states, tmp_path), states)


class Pair(NamedTuple):
    first: int


class Color(enum.IntEnum):
    RED = 1


@dataclasses.dataclass
class Settings:
    width: int = 1


class Named(dict[str, int]):
    pass


class Scaled(torch.Tensor):
    pass


REFUSED = {
    "a namedtuple": (Pair(1), r"is a .*Pair, which .* store tuple\(it\)"),
    "an enumeration": (Color.RED, "store its name or its value"),
    "a function": (len, "store its name"),
    "a class": (Path, "is a type, .*store its name"),
    "a module": (torch.nn.Linear(1, 1), r"store its state_dict\(\)"),
    "a dataclass": (Settings(), r"store dataclasses\.asdict\(it\)"),
    "a dictionary of another class": (Named(a=1), r"store dict\(it\)"),
    "text of another class": (type("Text", (str,), {})("a"), r"store str\(it\)"),
    "a defaultdict": (collections.defaultdict(list), r"is a collections\.defaultdict, .*store dict\(it\)"),
    "a range": (range(3), "store tensors, numbers, text"),
    "a sparse tensor": (torch.eye(2).to_sparse().requires_grad_(), r"store it\.to_dense\(\)"),
    "a tensor without values": (torch.empty(2, device="meta"), "meta device"),
    "a tensor of another class": (torch.ones(2).as_subclass(Scaled), "store the plain tensors"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_would_not_come_back_is_refused_with_its_place(kind: str, tmp_path: Path) -> None:
    value, cure = REFUSED[kind]
    for content, place in (
        ({"callbacks": {"EMA": {0: [1, value]}}}, r"^checkpoint\['callbacks'\]\['EMA'\]\[0\]\[1\] "),
        ({"hparams": argparse.Namespace(size=value)}, r"^checkpoint\['hparams'\]\['size'\] "),
    ):
        with pytest.raises(CheckpointError, match=f"{place}.*{cure}"):
            SafetensorsCheckpointIO().save_checkpoint(content, tmp_path / "a.ckpt")
    with pytest.raises(CheckpointError, match=r"or leave it out: save_hyperparameters\(ignore=\['loss'\]\)\."):
        SafetensorsCheckpointIO().save_checkpoint({"hyper_parameters": {"loss": {"of": value}}}, tmp_path / "a.ckpt")
    assert not list(tmp_path.iterdir())


def test_values_of_numpy_are_refused_with_what_to_store(tmp_path: Path) -> None:
    numpy = pytest.importorskip("numpy", reason="needs NumPy")
    for value, cure in (
        (numpy.float64(1), r"it\.item\(\)"),
        (numpy.int32(1), r"it\.item\(\)"),
        (numpy.ones(2), r"torch\.from_numpy\(it\)"),
    ):
        with pytest.raises(CheckpointError, match=rf"checkpoint\['score'\] .* store {cure}"):
            SafetensorsCheckpointIO().save_checkpoint({"score": value}, tmp_path / "a.ckpt")


def test_what_holds_itself_or_goes_too_deep_is_refused(tmp_path: Path) -> None:
    around: dict[str, Any] = {"list": []}
    around["list"].append(around)
    with pytest.raises(CheckpointError, match=r"checkpoint\['value'\]\['list'\]\[0\] is the dict that it lies in"):
        there_and_back(around, tmp_path)
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(CheckpointError, match="nested too deeply"):
        there_and_back(deep, tmp_path)
    twice = [1]
    assert there_and_back([twice, twice], tmp_path) == [[1], [1]]
