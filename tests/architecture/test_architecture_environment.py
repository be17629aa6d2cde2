"""The environment variables that lx looks at or sets are all documented."""

import ast
import re

from checkout import ROOT, plugins
from source_tree import docstring_nodes

PAGE = ROOT / "docs/reference/environment.md"
NAME = re.compile(r"RANK|[A-Z][A-Z0-9]*(_[A-Z0-9]+)+_?")


def variables(source):
    """What looks like the name of a variable, or the beginning of one, in a module that uses the environment."""
    if not re.search(r"\benviron|\bgetenv\b", source.text):
        return set()
    docstrings = docstring_nodes(source)
    nodes = list(ast.walk(source.tree))
    strings = {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in docstrings}
    keywords = {node.arg for node in nodes if isinstance(node, ast.keyword) and node.arg}
    return {name for name in strings | keywords if NAME.fullmatch(name)}


def undocumented(sources, page, pages_of_plugins):
    """One line for each variable that neither the page names, nor the README of the plugin that uses it."""
    found = []
    for source in sources:
        text = page + pages_of_plugins.get(source.module.partition(".")[0], "")
        found += [f"{source.module} {name}" for name in sorted(variables(source)) if not re.search(rf"\b{name}", text)]
    return found


def test_every_variable_is_documented(sources):
    readmes = {plugin.module: (plugin.folder / "README.md").read_text("utf-8") for plugin in plugins().values()}
    found = undocumented(sources, PAGE.read_text("utf-8"), readmes)
    assert not found, f"name them in {PAGE.relative_to(ROOT)}, or in the README of the plugin:\n" + "\n".join(found)


def test_every_variable_on_the_page_is_used(sources):
    used = set().union(*map(variables, sources))
    page = re.findall(r"`((?:RANK|[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+_?))(?:<ARGUMENT>)?`(?=[^|\n]*\|)", PAGE.read_text("utf-8"))
    assert len(page) > 20
    assert sorted({name for name in page if name not in used} - {"LX_TRAINER_MAX_EPOCHS"}) == []


def test_the_check_sees_a_variable(sample):
    bad = sample(
        {
            "core/src/lx/a.py": "import os\n'''NOT_ONE'''\nNAME = 'LX_ONE'\nos.environ.update(LX_TWO='1')\nx = os.environ['RANK']\n",
            "core/src/lx/b.py": "COLOUR = 'DARK_RED'\n",
            "plugins/p/src/lx_plugin_p/c.py": "import os\nos.getenv('P_HOME')\nos.getenv('P_AWAY')\n",
        }
    )
    assert undocumented(bad, "`LX_ONE`", {"lx_plugin_p": "P_AWAY"}) == ["lx.a LX_TWO", "lx.a RANK", "lx_plugin_p.c P_HOME"]
