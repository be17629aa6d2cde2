from collections import OrderedDict, UserDict, defaultdict, namedtuple
from dataclasses import InitVar, dataclass, field
from types import MappingProxyType
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_sequence

from lx.batch import map_tensors, move_to

Pair = namedtuple("Pair", ["x", "y"])


@dataclass
class Sample:
    x: Any
    name: str = "sample"


@dataclass(frozen=True, slots=True)
class Frozen:
    x: Tensor
    inner: Sample | None = None


@dataclass
class Derived:
    x: Tensor
    scale: InitVar[float]
    twice: Tensor = field(init=False)

    def __post_init__(self, scale: float) -> None:
        self.twice = self.x * scale


class Tagged(list[Any]):
    pass


def double(tensor: Tensor) -> Tensor:
    return tensor.double() if tensor.is_floating_point() else tensor


@pytest.mark.parametrize(
    "wrap",
    [
        lambda x: [x],
        lambda x: (x, "a"),
        lambda x: Pair(x, 1),
        lambda x: {"x": x, "n": None},
        lambda x: OrderedDict(b=1, a=x),
        lambda x: UserDict({"x": x}),
        lambda x: MappingProxyType({"x": x}),
        lambda x: Tagged([x]),
        lambda x: Sample(x),
        lambda x: Frozen(x),
        lambda x: Frozen(torch.arange(2), Sample([x])),
        lambda x: {"deep": [(Pair({"x": x}, [x]),)]},
    ],
)
def test_map_keeps_the_structure(wrap: Any) -> None:
    x = torch.ones(2)
    data = wrap(x)
    mapped = map_tensors(double, data)
    assert type(mapped) is type(data)
    seen: list[Tensor] = []
    map_tensors(lambda tensor: seen.append(tensor) or tensor, mapped)  # type: ignore[func-returns-value]
    assert torch.float64 in {tensor.dtype for tensor in seen}
    assert torch.float32 not in {tensor.dtype for tensor in seen}
    assert str(mapped) == str(data).replace("tensor([1., 1.])", "tensor([1., 1.], dtype=torch.float64)")
    before: list[Tensor] = []
    map_tensors(lambda tensor: before.append(tensor) or tensor, data)  # type: ignore[func-returns-value]
    assert any(tensor is x for tensor in before), "the input was changed"


@pytest.mark.parametrize(
    "data",
    [
        None, 3, "text", b"bytes", {1, 2}, [], {}, torch.Size([2, 3]), Sample, object(), torch.arange(3),
        [torch.arange(3), "a"], {"x": torch.arange(3)}, Pair(torch.arange(2), 1), Sample(torch.arange(2)), Frozen(torch.arange(2)),
    ],
)  # fmt: skip
def test_map_returns_the_same_object_when_nothing_changes(data: Any) -> None:
    assert map_tensors(double, data) is data


def test_map_of_a_default_dict_keeps_its_factory_and_order() -> None:
    data: defaultdict[str, Any] = defaultdict(list, b=torch.ones(1), a=1)
    mapped = map_tensors(double, data)
    assert mapped["new"] == []
    assert list(mapped)[:2] == ["b", "a"]
    assert "new" not in data


def test_map_reaches_fields_that_the_constructor_does_not_take() -> None:
    data = Derived(torch.ones(1), 2.0)
    mapped = map_tensors(double, data)
    assert (mapped.x.dtype, mapped.twice.dtype) == (torch.float64, torch.float64)
    assert mapped.twice.tolist() == [2.0]
    assert data.twice.dtype == torch.float32


def test_map_of_a_packed_sequence() -> None:
    mapped = map_tensors(double, pack_sequence([torch.ones(3), torch.ones(2)]))
    assert isinstance(mapped, PackedSequence)
    assert (mapped.data.dtype, mapped.batch_sizes.dtype) == (torch.float64, torch.int64)


def test_move_walks_and_keeps_types() -> None:
    data = {"pair": Pair(torch.ones(1), "y"), "frozen": Frozen(torch.ones(1)), "list": [torch.ones(1), 2]}
    moved = move_to(data, torch.device("meta"))
    assert {moved["pair"].x.device.type, moved["frozen"].x.device.type, moved["list"][0].device.type} == {"meta"}
    assert (moved["pair"].y, moved["list"][1]) == ("y", 2)
    assert data["pair"].x.device.type == "cpu"


def test_move_returns_the_same_object_when_it_is_there() -> None:
    data = {"x": (torch.ones(1), [torch.ones(1)]), "y": Sample(torch.ones(1))}
    assert move_to(data, "cpu") is data


class Returning:
    def to(self, device: Any) -> "Returning":
        moved = Returning()
        moved.device = device  # type: ignore[attr-defined]
        return moved


class InPlace:
    device: Any = None

    def to(self, device: Any) -> None:
        self.device = device


def test_move_asks_objects_that_can_move_themselves() -> None:
    in_place = InPlace()
    first, second = move_to([Returning(), in_place], "meta")
    assert first.device == "meta"
    assert second is in_place
    assert in_place.device == "meta"


def test_move_leaves_classes_and_attributes_called_to_alone() -> None:
    Edge = namedtuple("Edge", ["start", "to"])
    edge = move_to(Edge(torch.ones(1), torch.ones(1)), "meta")
    assert edge.to.device.type == "meta"
    assert move_to(Returning, "meta") is Returning


def test_move_lets_a_packed_sequence_keep_its_batch_sizes_on_the_cpu() -> None:
    moved = move_to(pack_sequence([torch.ones(3), torch.ones(2)]), "meta")
    assert isinstance(moved, PackedSequence)
    assert (moved.data.device.type, moved.batch_sizes.device.type) == ("meta", "cpu")


def test_move_hands_non_blocking_to_tensors() -> None:
    class Spy(Tensor):
        given: ClassVar[list[bool]] = []

        def to(self, *args: Any, **kwargs: Any) -> Tensor:
            self.given.append(kwargs["non_blocking"])
            return self

    spy = torch.ones(1).as_subclass(Spy)
    move_to([spy], "cpu", non_blocking=True)
    move_to([spy], "cpu")
    assert Spy.given == [True, False]
