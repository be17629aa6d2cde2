"""Parameters that several layers share: which they are, and sharing them again after each got one of its own."""

from collections.abc import Sequence

from torch import nn


def find_shared_parameters(module: nn.Module) -> list[list[str]]:
    """The names of parameters that are one tensor, in groups of two or more; the first name of a group is that of `parameters()`.

    >>> model = nn.ModuleDict({"embed": nn.Embedding(5, 3), "head": nn.Linear(3, 5, bias=False)})
    >>> model["head"].weight = model["embed"].weight
    >>> find_shared_parameters(model)
    [['embed.weight', 'head.weight']]
    """
    groups: dict[int, list[str]] = {}
    for name, parameter in module.named_parameters(remove_duplicate=False):
        groups.setdefault(id(parameter), []).append(name)
    return [names for names in groups.values() if len(names) > 1]


def set_shared_parameters(module: nn.Module, shared_params: Sequence[Sequence[str]]) -> nn.Module:
    """Gives all names of a group the parameter of its first name, in place; returns the module.

    For modules that were moved or copied by something that does not keep the sharing. Raises `AttributeError` for a name that the module
    does not have, before anything is changed.

    >>> model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    >>> set_shared_parameters(model, [["0.weight", "1.weight"]])[0].weight is model[1].weight
    True
    """
    pairs = [(module.get_parameter(names[0]), name) for names in shared_params for name in names[1:]]
    for _, name in pairs:
        module.get_parameter(name)
    for parameter, name in pairs:
        owner, _, attribute = name.rpartition(".")
        setattr(module.get_submodule(owner), attribute, parameter)
    return module
