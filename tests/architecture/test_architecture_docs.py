"""What is written: docstrings, generated files, the events, the README's commands, and links."""

import ast
import re
import subprocess
import sys
import tomllib

from checkout import ROOT
from lx.interfaces.callback import EVENTS
from reference import events
from source_tree import FunctionNode, classes

OWN_BASES = {"object", "ABC", "Generic", "Protocol", "Enum", "StrEnum", "IntEnum", "Exception", "NamedTuple", "TypedDict"}


def undocumented(sources):
    """Public modules, classes, functions and methods without a docstring; a method may inherit the one of what it overrides."""
    inherited = {node.name: node for source in sources for node in classes(source)}
    found = []
    for source in sources:
        if source.text.strip() and not ast.get_docstring(source.tree):
            found.append(f"{source.path}:1 the module has no docstring")
        for node in source.tree.body:
            found.extend(f"{source.at(one)} {name} has no docstring" for name, one in _lacking(node, inherited))
    return found


def _lacking(node, inherited, prefix=""):
    if not isinstance(node, FunctionNode | ast.ClassDef) or node.name.startswith("_") or _exempt(node):
        return
    if not ast.get_docstring(node):
        yield f"{prefix}{node.name}", node
    if isinstance(node, ast.ClassDef):
        for item in node.body:
            if not (isinstance(item, FunctionNode) and _inherits(node, item.name, inherited, set())):
                yield from _lacking(item, inherited, f"{prefix}{node.name}.")


def _exempt(node):
    marks = [ast.unparse(mark) for mark in node.decorator_list]
    return node.name.startswith(("test_", "Test")) or any(mark.endswith((".setter", ".deleter", "overload", "hookimpl")) for mark in marks)


def _inherits(node, method, inherited, seen):
    """Whether a base documents the method. What a base outside of lx documents is not known here, and taken for granted."""
    for base in node.bases:
        name = ast.unparse(base).partition("[")[0].rpartition(".")[2]
        parent = inherited.get(name)
        if parent is None or name in seen:
            if name not in OWN_BASES and name not in seen:
                return True
            continue
        own = next((item for item in parent.body if isinstance(item, FunctionNode) and item.name == method), None)
        if (own is not None and ast.get_docstring(own)) or _inherits(parent, method, inherited, {*seen, name}):
            return True
    return False


def test_every_public_name_has_a_docstring(sources):
    found = undocumented(sources)
    assert not found, "\n".join(found)


def test_the_check_sees_a_missing_docstring(sample):
    bad = sample(
        {
            "core/src/lx/a.py": (
                "class Base:\n    '''B.'''\n    def hook(self):\n        '''H.'''\n    def bare(self): ...\n"
                "class Child(Base):\n    '''C.'''\n    def hook(self): ...\n    def new(self): ...\n    def _own(self): ...\n"
                "def function(): ...\n"
                "class Layer(Module):\n    '''L.'''\n    def forward(self): ...\n"
            )
        }
    )
    found = [line.split()[1] for line in undocumented(bad)]
    assert found == ["the", "Base.bare", "Child.new", "function"]


def test_generated_files_are_fresh():
    done = subprocess.run([sys.executable, ROOT / "tools/generate.py", "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"run `tox -e generate`:\n{done.stdout}{done.stderr}"


def test_the_callback_its_events_and_the_docs_are_one_set():
    methods = [name for name, _, _ in events(ROOT / "core/src/lx/interfaces/callback.py")]
    page = re.findall(r"^\| `(\w+)` \|", (ROOT / "docs/reference/events.md").read_text("utf-8"), re.MULTILINE)
    assert methods == list(EVENTS) == page


AN_ID = r"[A-Z]\d+[a-z]?"


def listed_in_parity(folder):
    """The ids under which the tests that run both libraries list what lx does otherwise."""
    text = "".join((folder / f"{name}_differences.py").read_text("utf-8") for name in ("trace", "logging", "checkpoint", "random"))
    patterns = (rf'Difference\(\s*"({AN_ID})",', rf'"({AN_ID}): ', rf'^    "({AN_ID})(?: \w+)?": Difference\(')
    return {found for pattern in patterns for found in re.findall(pattern, text, re.MULTILINE)}


def test_every_difference_from_lightning_has_one_line():
    rows = re.findall(rf"^\| ({AN_ID}) \| (.+) \| (.*) ?\|$", (ROOT / "docs/explain/differences.md").read_text("utf-8"), re.MULTILINE)
    ids = [found for found, _, _ in rows]
    assert len(ids) == len(set(ids))
    missing = listed_in_parity(ROOT / "tests/parity") - set(ids)
    assert not missing, f"docs/explain/differences.md has no line for {', '.join(sorted(missing))}"


def commands(text):
    """The lines of shell in a page that set everything up by themselves."""
    return re.findall(r"^(?:    )?(python3 -m venv .*)$", text, re.MULTILINE)


def test_ci_runs_the_command_of_the_readme():
    demo, tests = commands((ROOT / "README.md").read_text("utf-8"))
    assert "examples/01_digits.py" in demo
    assert commands((ROOT / ".ci/run").read_text("utf-8")) == [tests]


def broken_links(folder, page):
    """The relative links of a page that lead nowhere."""
    targets = re.findall(r"\]\(([^)#\s]+)", page.read_text("utf-8"))
    return [f"{page.relative_to(folder)}: {target}" for target in targets if "://" not in target and not (page.parent / target).exists()]


def test_links_lead_somewhere(tmp_path):
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *ROOT.glob("plugins/*/README.md"), *ROOT.glob("core/*.md")]
    assert len(pages) > 10
    found = [link for page in pages for link in broken_links(ROOT, page)]
    assert not found, "\n".join(found)
    (tmp_path / "page.md").write_text("[a](page.md) [b](gone.md#part) [c](https://example.org/x)", "utf-8")
    assert broken_links(tmp_path, tmp_path / "page.md") == ["page.md: gone.md"]


def test_the_readme_is_that_of_the_metapackage():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert project["name"] == "lx-standard"
    assert project["readme"] == "README.md"
    assert (ROOT / "LICENSE").read_text("utf-8").lstrip().startswith("Apache License")
