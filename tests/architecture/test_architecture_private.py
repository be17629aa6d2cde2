"""No private name crosses a border: none is imported from another package, none is touched on another object."""

import ast

import exemptions
from source_tree import FunctionNode

NAMEDTUPLE = {"_asdict", "_field_defaults", "_fields", "_make", "_replace"}
"""The public interface of named tuples, which begins with `_` so that it does not collide with fields."""

DOCUMENTED = {"os._exit", "sys._current_frames", "sys._getframe"}
"""Names of the standard library that begin with `_` and are public all the same."""

OWN = {"self", "cls", "mcs", "mcls"}


def private(name):
    """Whether a name says that it is not for others."""
    return name.startswith("_") and not (name.startswith("__") and name.endswith("__")) and name not in NAMEDTUPLE and name != "_"


def crossings(sources, exempt=()):
    """One line for each private name of another package that is imported, or that is touched on an object of another class.

    Within a class, what the class itself defines may be touched on any object: `__eq__` and alternative constructors need it.
    """
    found = []
    for source in sources:
        for node in ast.walk(source.tree):
            for what in _crossed(source, node):
                if f"{source.module} {what}" not in exempt:
                    found.append(f"{source.at(node)} {source.module} {what}")
    return found


def _crossed(source, node):
    if isinstance(node, ast.ImportFrom):
        yield from _imported(source, node)
    elif isinstance(node, ast.Import):
        yield from (name.name for name in node.names if any(map(private, name.name.split("."))) and _foreign(source, name.name))
    elif isinstance(node, ast.Attribute) and private(node.attr) and not _is_own(node.value, node.attr):
        if ast.unparse(node) not in DOCUMENTED:
            yield ast.unparse(node)
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("getattr", "setattr", "delattr", "hasattr"):
        name = node.args[1].value if len(node.args) > 1 and isinstance(node.args[1], ast.Constant) else ""
        if isinstance(name, str) and private(name) and not _is_own(node.args[0], name):
            yield ast.unparse(node)


def _imported(source, node):
    module = node.module or ""
    if node.level or not _foreign(source, module):
        return
    for name in node.names:
        if private(name.name) or any(map(private, module.split("."))):
            yield f"{module}.{name.name}"


def _foreign(source, module):
    """Whether a module belongs to another package than the source: private files are shared within one folder only."""
    return module != source.package and module.rpartition(".")[0] != source.package


def _is_own(node, name):
    """Whether the object is the one that the code belongs to, or the name one that the class around the code defines."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        return node.func.id == "super" or (node.func.id == "type" and len(node.args) == 1 and _is_own(node.args[0], name))
    return (isinstance(node, ast.Name) and node.id in OWN) or name in _defined(node)


def _defined(node):
    """The methods of the class around a node, its class variables, and what its `__init__` sets on `self`."""
    while not isinstance(node, ast.Module | ast.ClassDef):
        node = node.parent
    if isinstance(node, ast.Module):
        return set()
    names = {item.name for item in node.body if isinstance(item, FunctionNode)}
    stored = [part for part in ast.walk(node) if isinstance(part, ast.Name | ast.Attribute) and isinstance(part.ctx, ast.Store)]
    names |= {part.id for part in stored if isinstance(part, ast.Name) and isinstance(part.parent.parent, ast.ClassDef)}
    return names | {part.attr for part in stored if isinstance(part, ast.Attribute) and ast.unparse(part.value) == "self"}


def test_nothing_private_crosses(sources):
    found = crossings(sources, exemptions.PRIVATE)
    assert not found, "\n".join(found)


def test_every_exemption_is_needed(sources):
    found = "\n".join(crossings(sources))
    assert [name for name in exemptions.PRIVATE if name not in found] == []


def test_the_check_sees_private_names(sample):
    bad = sample(
        {
            "core/src/lx/loops/__init__.py": "",
            "core/src/lx/loops/fit.py": (
                "import torch._dynamo\n"
                "from lx.kernel.registry import _place\n"
                "from lx.loops._state import _fine\n"
                "class A:\n"
                "    def f(self, other, row):\n"
                "        self._mine = other._mine = super()._theirs = type(self)._ours\n"
                "        row._replace(x=1).__class__\n"
                "        self.trainer._loop = 1\n"
                "        os._exit(0 if other._mine else self.f._mine)\n"
                "        return other._value, getattr(other, '_hidden'), getattr(self, '_mine')\n"
            ),
        }
    )
    found = [line.partition(" lx.loops.fit ")[2] for line in crossings(bad)]
    assert sorted(found) == [
        "getattr(other, '_hidden')",
        "lx.kernel.registry._place",
        "other._value",
        "self.trainer._loop",
        "torch._dynamo",
    ]
