"""What is written is the state of the moment, in memory that is used again."""

import copy
import io
import threading
from collections import OrderedDict, namedtuple
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lx_plugin_async_io import staging
from lx_plugin_async_io.snapshot import snapshot
from lx_plugin_async_io.staging import Staging

Pair = namedtuple("Pair", "left right")


@dataclass
class Holder:
    """Such as a callback may put into a checkpoint."""

    weight: Tensor
    steps: list[int]


class Marked(Tensor):
    """A subclass."""


def copied(value: Any) -> Any:
    return snapshot({"value": value}, Staging())[0]["value"]


def saved(content: Any) -> bytes:
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


def test_nothing_that_changes_afterwards_is_seen() -> None:
    weight, steps, history = torch.zeros(3), [1], [[0.5]]
    holder, pair = Holder(torch.zeros(2), [1]), Pair(torch.zeros(1), {"a": [1]})
    content = snapshot({"state": {"weight": weight}, "steps": steps, "history": history, "holder": holder, "pair": pair}, Staging())[0]
    with torch.no_grad():
        for tensor in (weight, holder.weight, pair.left):
            tensor += 1
    steps.append(2)
    history[0].append(0.25)
    holder.steps.append(2)
    pair.right["a"].append(2)
    assert content["state"]["weight"].tolist() == [0, 0, 0]
    assert (content["steps"], content["history"]) == ([1], [[0.5]])
    assert (content["holder"].weight.tolist(), content["holder"].steps) == ([0, 0], [1])
    assert type(content["pair"]) is Pair
    assert (content["pair"].left.tolist(), content["pair"].right) == ([0], {"a": [1]})


def test_the_file_is_the_one_that_would_have_been_written_at_once() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 4))
    model[2].weight = model[0].weight
    optimizer = torch.optim.AdamW(model.parameters(), foreach=False)
    model(torch.randn(8, 4)).sum().backward()
    optimizer.step()
    base = torch.arange(100.0)
    content: dict[str, Any] = {
        "state_dict": model.state_dict(),
        "optimizer_states": [optimizer.state_dict()],
        "parameter": model[1].bias,
        "wanted": torch.zeros(2, requires_grad=True),
        "views": [base, base[3:7], base.view(10, 10).T, base.as_strided((2, 2), (1, 1))],
        "kinds": [torch.empty(0, 3), torch.tensor(True), torch.tensor(1j), torch.tensor(2.0).bfloat16(), torch.tensor(3)],
        "same": (once := torch.ones(2), once),
    }
    taken = snapshot(content, Staging())[0]
    assert saved(taken) == saved(content)
    assert type(taken["state_dict"]) is OrderedDict
    ours, theirs = vars(taken["state_dict"])["_metadata"], vars(content["state_dict"])["_metadata"]
    assert ours == theirs
    assert ours is not theirs
    assert isinstance(taken["parameter"], nn.Parameter)
    assert taken["same"][0] is taken["same"][1]
    views = taken["views"]
    views[0][3] = -1.0
    assert views[1][0] == -1


def test_tensors_that_are_more_than_their_bytes() -> None:
    marked, noted = torch.ones(2).as_subclass(Marked), torch.ones(2)
    noted.note = [1]  # type: ignore[attr-defined]
    grown = torch.ones(2, requires_grad=True) * 3
    for tensor in (torch.eye(2).to_sparse(), torch.tensor([1 + 2j]).conj(), torch.imag(torch.tensor([1 + 2j]).conj()), marked, noted):
        found = copied(tensor)
        assert type(found) is type(tensor)
        assert found.layout == tensor.layout
        assert torch.equal(found.to_dense(), tensor.to_dense())
        assert found is not tensor
    assert copied(noted).note == [1]
    assert copied(noted).note is not noted.note  # type: ignore[attr-defined]
    assert copied(torch.ones(2, device="meta")).is_meta
    assert copied(grown).tolist() == [3, 3]


def test_within_inference_mode() -> None:
    with torch.inference_mode():
        inside = torch.ones(2)
        found = copied([inside, torch.zeros(2)])
    assert [tensor.is_inference() for tensor in found] == [False, False]
    assert found[0].tolist() == [1, 1]


def test_long_lists_are_copied_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    indices, order = list(range(1000)), tuple(range(1000))
    monkeypatch.setattr(copy, "_deepcopy_dispatch", {**copy._deepcopy_dispatch, int: None})  # type: ignore[attr-defined]  # fails for each
    found = copied([indices, order])
    indices.append(-1)
    assert found == [list(range(1000)), order]


def test_memory_is_used_again() -> None:
    kept, weight = Staging(), torch.ones(1000)
    first, memory = snapshot({"weight": weight}, kept)
    second, other = snapshot({"weight": weight}, kept)
    places = {content["weight"].data_ptr() for content in (first, second)}
    assert len(places) == 2
    for taken in (memory, other):
        kept.give_back(taken)
    third = snapshot({"weight": weight[:10].clone()}, kept)[0]
    assert third["weight"].data_ptr() in places
    larger, _ = snapshot({"weight": torch.ones(2000)}, kept)
    assert larger["weight"].sum() == 2000
    assert first["weight"].sum() == 1000, "memory was unmapped under a tensor"


def test_memory_may_be_reserved_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    kept, mapped, map_memory = Staging(), list[int](), staging._map
    monkeypatch.setattr(staging, "_map", lambda size: mapped.append(size) or map_memory(size))  # type: ignore[func-returns-value]
    kept.reserve(5000)
    snapshot({"weight": torch.ones(1000)}, kept)
    assert mapped == [5000]
    kept.reserve(5000)  # too late: it is dropped
    snapshot({"weight": torch.ones(1000)}, kept)
    assert mapped == [5000, 5000, 4032]
    kept.release()
    kept.reserve(5000)
    snapshot({"weight": torch.ones(1000)}, kept)
    assert mapped == [5000, 5000, 4032, 5000]


def test_large_states_are_copied_in_pieces_by_several_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(staging, "PIECE", 1000)
    monkeypatch.setattr(staging, "WORTH_THREADS", 10_000)
    weights = [torch.arange(length, dtype=torch.float32) for length in (1, 249, 250, 251, 5000)]
    before = threading.active_count()
    assert all(torch.equal(found, weight) for found, weight in zip(copied(weights), weights, strict=True))
    assert threading.active_count() == before


def test_a_copy_that_fails_in_a_thread_is_told() -> None:
    with pytest.raises(RuntimeError, match="size"):
        staging.copy_all([(torch.zeros(4, dtype=torch.uint8), torch.zeros(5, dtype=torch.uint8))])


def test_what_cannot_be_copied_is_told() -> None:
    with pytest.raises(TypeError, match="lock"):
        copied([threading.Lock()])
