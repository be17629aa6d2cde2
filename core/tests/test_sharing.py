"""Parameters that are shared: found, and shared again."""

import copy

import pytest
import torch
from torch import nn

from lx.measures.sharing import find_shared_parameters, set_shared_parameters


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(2, 2)
        self.b = nn.Linear(2, 2)
        self.b.weight = self.a.weight
        self.again = self.a
        self.inner = nn.ModuleDict({"head": nn.Linear(2, 2)})
        self.inner["head"].bias = self.a.bias


GROUPS = [["a.weight", "b.weight", "again.weight"], ["a.bias", "again.bias", "inner.head.bias"]]


def test_groups_are_found():
    assert find_shared_parameters(Tied()) == GROUPS
    assert find_shared_parameters(nn.Linear(2, 2)) == []


def test_sharing_is_set_again():
    model = Tied()
    for name in ("b.weight", "inner.head.bias"):
        owner, _, attribute = name.rpartition(".")
        setattr(model.get_submodule(owner), attribute, copy.deepcopy(model.get_parameter(name)))
    assert len(find_shared_parameters(model)) < 3
    assert model.b.weight is not model.a.weight
    assert set_shared_parameters(model, GROUPS) is model
    assert find_shared_parameters(model) == GROUPS


def test_an_unknown_name_changes_nothing():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    with pytest.raises(AttributeError, match="nothing"):
        set_shared_parameters(model, [["0.weight", "1.weight"], ["0.bias", "1.nothing"]])
    assert model[0].weight is not model[1].weight
    assert isinstance(model[1].weight, torch.nn.Parameter)
