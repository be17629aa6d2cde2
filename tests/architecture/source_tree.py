"""The sources as syntax trees, and what several checks ask of them."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from checkout import ROOT

FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Source:
    """One module of a distribution: its name on the import path, and its text."""

    module: str
    path: Path
    text: str

    @cached_property
    def tree(self) -> ast.Module:
        """The syntax tree, each node with its `parent`."""
        tree = ast.parse(self.text, self.path)
        for node in ast.walk(tree):
            for child in ast.iter_child_nodes(node):
                child.parent = node
        return tree

    @property
    def is_package(self) -> bool:
        """Whether this is the `__init__` of a package."""
        return self.path.name == "__init__.py"

    @property
    def package(self) -> str:
        """The package that the module lies in; a package lies in itself."""
        return self.module if self.is_package else self.module.rpartition(".")[0]

    def at(self, node: ast.AST) -> str:
        """Where a node stands, for a message."""
        return f"{self.path}:{node.lineno}"


def read_sources(root: Path) -> list[Source]:
    """The modules below `core/src` and `plugins/*/src` of a tree."""
    return [
        Source(_module_name(path.relative_to(source)), path.relative_to(root), path.read_text("utf-8"))
        for source in sorted([*root.glob("core/src"), *root.glob("plugins/*/src")])
        for path in sorted(source.rglob("*.py"))
    ]


def _module_name(path: Path) -> str:
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def checkout_sources() -> list[Source]:
    """The modules of this checkout."""
    return read_sources(ROOT)


def qualified(node: ast.AST) -> str:
    """The dotted name of a function or class within its module."""
    names = []
    while not isinstance(node, ast.Module):
        if isinstance(node, FunctionNode | ast.ClassDef):
            names.append(node.name)
        node = node.parent
    return ".".join(reversed(names))


def functions(source: Source) -> Iterator[FunctionNode]:
    """All functions and methods, nested ones too."""
    return (node for node in ast.walk(source.tree) if isinstance(node, FunctionNode))


def classes(source: Source) -> Iterator[ast.ClassDef]:
    """All classes, nested ones too."""
    return (node for node in ast.walk(source.tree) if isinstance(node, ast.ClassDef))


def methods(node: ast.ClassDef) -> list[FunctionNode]:
    """The functions in the body of a class."""
    return [item for item in node.body if isinstance(item, FunctionNode)]


def type_checking_only(node: ast.AST) -> bool:
    """Whether a node stands under `if TYPE_CHECKING:`."""
    while not isinstance(node, ast.Module):
        parent = node.parent
        if isinstance(parent, ast.If) and "TYPE_CHECKING" in ast.dump(parent.test) and node in parent.body:
            return True
        node = parent
    return False


def docstring_nodes(source: Source) -> set[ast.AST]:
    """The constants that are docstrings, also the string below an assignment, which documents it."""
    found: set[ast.AST] = set()
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            found.add(node.value)
    return found


def imports(source: Source, modules: set[str]) -> Iterator[tuple[str, ast.AST]]:
    """Every module among `modules` that is imported here, at any depth, also by `importlib.import_module("...")`.

    `from package import name` counts as the module `package.name` where there is one. That a module's packages are imported before
    it does not count: it holds for every import, and says nothing about who needs whom.
    """
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Import):
            yield from ((name.name, node) for name in node.names if name.name in modules)
        elif isinstance(node, ast.ImportFrom):
            base = _absolute(source, node)
            for name in node.names:
                target = f"{base}.{name.name}" if f"{base}.{name.name}" in modules else base
                if target in modules:
                    yield target, node
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module") and node.args:
            argument = node.args[0]
            if isinstance(argument, ast.Constant) and argument.value in modules:
                yield argument.value, node


def _absolute(source: Source, node: ast.ImportFrom) -> str:
    if not node.level:
        return node.module or ""
    parts = source.package.split(".")
    return ".".join([*parts[: len(parts) - node.level + 1], *([node.module] if node.module else [])])
