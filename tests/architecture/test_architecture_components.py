"""lx-core knows interfaces, never a concrete component; and a plugin's entry module is light."""

import ast
import re
import subprocess
import sys

import exemptions
from checkout import plugins
from source_tree import classes as class_nodes
from source_tree import docstring_nodes

GENERATED = "lx.kernel.known"
PLUGIN = re.compile(r"lx[-_]plugin[-_]([a-z0-9]+(?:[-_][a-z0-9]+)*)")


def concrete(sources, components, words=(), slugs=()):
    """One line for each place in lx-core that names a component: its class, a plugin's package, or its name in a string.

    Docstrings may name components; what a program runs may not. A role may be spelt like a component, and a class of lx-core too.
    """
    modules = {slug.replace("-", "_") for slug in slugs}
    core = [source for source in sources if source.module.partition(".")[0] == "lx" and source.module != GENERATED]
    roles = {role for entry in components for role in entry.roles}
    classes = {entry.class_name for entry in components} - {node.name for source in core for node in class_nodes(source)}
    names = {spelling for entry in components for spelling in entry.spellings}
    found = []
    for source in core:
        docstrings = docstring_nodes(source)
        for node in ast.walk(source.tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in docstrings:
                text = node.value
                says = text in classes or (text.replace("-", "_") in names and text not in {*roles, *words})
                says = says or any(name.replace("-", "_") in modules for name in PLUGIN.findall(text))
            elif isinstance(node, ast.Import | ast.ImportFrom):
                says = PLUGIN.search(ast.unparse(node)) is not None
            else:
                says = (node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else "") in classes
            if says:
                found.append(f"{source.at(node)} says {repr(node.value) if isinstance(node, ast.Constant) else ast.unparse(node)}")
    return found


def test_lx_core_names_no_component(sources, components):
    found = concrete(sources, components, exemptions.WORDS, plugins())
    assert not found, "\n".join(found)


def test_every_exempt_word_is_used(sources, components):
    found = "\n".join(concrete(sources, components))
    assert [word for word in exemptions.WORDS if f" says '{word}'" not in found] == []


def test_the_check_sees_a_component(sample, components):
    entry = next(entry for entry in components if not entry.roles)
    bad = sample(
        {
            "core/src/lx/resolve.py": (
                f'"""Docstrings may say {entry.name}."""\n'
                f"DEFAULT = {entry.name!r}\n"
                f"def f(part):\n    return isinstance(part, parts.{entry.class_name})\n"
                "from lx_plugin_anything import callback\n"
                "HINT = f'pip install lx-plugin-anything{1}'\n"
            ),
            "core/src/lx/kernel/known.py": f"X = {entry.name!r}\n",
        }
    )
    assert sorted(line.partition(" ")[0].rpartition(":")[2] for line in concrete(bad, components, slugs=["anything"])) == [
        "2",
        "4",
        "5",
        "6",
    ]


LIGHT = """
import importlib, sys
import lx.kernel
for name in sys.argv[1:]:
    before = set(sys.modules)
    importlib.import_module(name)
    print(name, *sorted({module.partition(".")[0] for module in set(sys.modules) - before} - {name}))
print("all", *sorted(module for module in ("torch", "numpy", "lx.interfaces") if module in sys.modules))
"""


def heavy(modules, path=()):
    """What a fresh interpreter imports for each entry module beyond the kernel and the standard library."""
    code = f"import sys; sys.path[:0] = {list(map(str, path))!r}\n{LIGHT}"
    done = subprocess.run([sys.executable, "-c", code, *modules], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    rows = [line.split() for line in done.stdout.splitlines()]
    return {
        name: beyond for name, *also in rows if (beyond := [one for one in also if one.partition(".")[0] not in sys.stdlib_module_names])
    }


def test_entry_modules_import_nothing_but_the_kernel():
    modules = [plugin.module for plugin in plugins().values()]
    assert modules
    assert heavy(modules, [plugin.source for plugin in plugins().values()]) == {}


def test_the_check_sees_a_heavy_entry_module(tmp_path):
    (tmp_path / "lx_plugin_heavy").mkdir()
    (tmp_path / "lx_plugin_heavy" / "__init__.py").write_text("import pytest, json\n", "utf-8")
    assert "pytest" in heavy(["lx_plugin_heavy"], [tmp_path])["lx_plugin_heavy"]
