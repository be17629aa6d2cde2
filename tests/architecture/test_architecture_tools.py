"""The scripts around the code: what is installed where, and what is generated."""

import re
import subprocess
import sys

import pytest

from checkout import FLOOR, ROOT, Distribution, core, group, needs, plugins, read, requirement_name
from generate import known_module, metapackage
from install import choose
from lx.kernel import Entry
from reference import markdown


def distribution(slug: str, requires: tuple[str, ...] = (), keywords: tuple[str, ...] = (), test: tuple[str, ...] = ()) -> Distribution:
    project = {"name": f"lx-plugin-{slug}", "dependencies": list(requires), "keywords": list(keywords)}
    return Distribution(ROOT / "plugins" / slug, project, test)


def test_the_tests_of_a_plugin_see_it_the_floor_and_what_it_names():
    assert needs(distribution("new")) == ["new", *FLOOR]
    assert needs(distribution("new", requires=("lx-core>=0.1", "lx-plugin-csv>=0.1"), test=("lx-plugin-ddp", "numpy"))) == [
        "new",
        *FLOOR,
        "csv",
        "ddp",
    ]


def test_what_is_installed():
    everything = [one.name for one in choose(all_plugins=True, slugs=None)]
    standard = [one.name for one in choose(all_plugins=False, slugs=None)]
    alone = [one.name for one in choose(all_plugins=False, slugs=["csv"])]
    assert everything == ["lx-core", *(one.name for one in plugins().values()), "lx-standard"]
    assert set(everything) - set(standard) == {one.name for one in plugins().values() if not one.standard} != set()
    assert sorted(alone) == sorted(["lx-core", "lx-plugin-csv", *(f"lx-plugin-{slug}" for slug in FLOOR)])
    with pytest.raises(SystemExit, match=r"plugins/ has no nothing; it has .*csv"):
        choose(all_plugins=False, slugs=["nothing"])


def test_installing_outside_of_a_virtual_environment_is_refused():
    code = "import sys, runpy; sys.prefix = sys.base_prefix; sys.argv[1:] = []; runpy.run_path('tools/install.py', run_name='__main__')"
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, 'tools'); {code}"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "virtual environment" in done.stderr


def test_torch_is_pinned_where_it_is_installed_and_nowhere_else():
    (pin,) = group("torch")
    assert re.fullmatch(r"torch==\d+\.\d+\.\d+", pin)
    assert [need for need in core().requires if requirement_name(need) == "torch"] == ["torch>=2.9"]
    assert not [
        slug for slug, plugin in plugins().items() for need in plugin.requires if requirement_name(need) == "torch" and "==" in need
    ]


def test_tox_has_an_environment_for_each_plugin():
    listed = subprocess.run([sys.executable, "-m", "tox", "list", "--no-desc"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert listed.returncode == 0, listed.stdout + listed.stderr
    assert {f"plugin-{slug}" for slug in plugins()} <= set(listed.stdout.split())


def test_known_names_every_spelling_class_and_role():
    registered = [Entry("logger", "a-b", "x", "m:ABLogger", aliases=("c",), roles={"default": 1})]
    text = known_module({"one": registered, "two": [Entry("logger", "c", "y", "m:ABLogger")]})
    known = {}
    exec(compile(text, "known.py", "exec"), known)
    assert known["COMPONENTS"] == {"logger": {"a_b": ("one",), "c": ("one", "two")}}
    assert known["CLASSES"] == {"logger": {"ABLogger": ("one", "two")}}
    assert known["ROLES"] == {"logger": {"default": ("one",)}}


def test_the_metapackage_requires_what_is_standard(tmp_path):
    text = 'name = "lx-standard"\ndependencies = [\n    "gone>=1",\n]\n\n[other]\nlist = [\n]\n'
    filled = metapackage(text, [distribution("a"), distribution("b", keywords=("lx-extra",))])
    assert filled == 'name = "lx-standard"\ndependencies = [\n    "lx-core>=0.1",\n    "lx-plugin-a>=0.1",\n]\n\n[other]\nlist = [\n]\n'
    with pytest.raises(SystemExit, match="dependencies"):
        metapackage("", [])
    (tmp_path / "pyproject.toml").write_text(f'[project]\nname = "x"\n{filled.partition("[other]")[0].partition(chr(10))[2]}', "utf-8")
    assert read(tmp_path).requires == ("lx-core>=0.1", "lx-plugin-a>=0.1")


def test_examples_in_docstrings_become_code_on_the_page():
    assert markdown("Adds.\n\n>>> 1 + 1\n2\n\nThen.") == "Adds.\n\n```python\n>>> 1 + 1\n2\n```\n\nThen."
