"""One slug, five places; files are named by what they are for; the form of a plugin's pyproject."""

import re
from collections import Counter

from checkout import EXTRA, ROOT, plugins, read, requirement_name

VAGUE = {"utils", "util", "helpers", "helper", "common", "misc", "connector", "impl", "base_utils", "tools"}

LIGHT_ENOUGH = {"lx-core", "tqdm"}
"""What a plugin of the standard set may require, so that one install stays small."""


def malformed(plugin):
    """What is wrong with the folder of a plugin."""
    text = (plugin.folder / "pyproject.toml").read_text("utf-8")
    lines = [line for line in text.splitlines() if line.strip()]
    package = plugin.source / plugin.module
    wrong = {
        f"the distribution is {plugin.name}, not lx-plugin-{plugin.slug}": plugin.name != f"lx-plugin-{plugin.slug}",
        f"the slug {plugin.slug!r} is not lower case words joined by '-'": not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", plugin.slug),
        "the only entry point must be SLUG = MODULE": plugin.project.get("entry-points") != {"lx.plugins": {plugin.slug: plugin.module}},
        f"{plugin.module}/__init__.py is missing": not (package / "__init__.py").is_file(),
        f"{plugin.module}/py.typed is missing": not (package / "py.typed").is_file(),
        "there is more than one package in src/": {path.name for path in plugin.source.glob("[!_.]*")} - {plugin.module} != set(),
        "README.md is missing or longer than 30 lines": not 0 < _lines(plugin.folder / "README.md") <= 30,
        "there is no test": not list(plugin.folder.glob("tests/**/test_*.py")),
        "a file of its tests is not named test_SLUG_WHAT.py": any(
            not path.name.startswith(f"test_{plugin.slug.replace('-', '_')}_") for path in plugin.folder.glob("tests/**/test_*.py")
        ),
        f"pyproject.toml has {len(lines)} lines that are not blank, and not 12 to 16": not 12 <= len(lines) <= 16,
        "pyproject.toml has a table for a tool": "[tool." in text,
        "pyproject.toml is not built by hatchling, static, Apache-2.0, for Python 3.11 and up, on lx-core": not _in_form(text, plugin),
        "the docs have no page for it; run `tox -e generate`": not (ROOT / "docs/reference/plugins" / f"{plugin.slug}.md").is_file(),
    }
    return [reason for reason, holds in wrong.items() if holds]


def _in_form(text, plugin):
    project = plugin.project
    return (
        'build-backend = "hatchling.build"' in text
        and "dynamic" not in project
        and project.get("license") == "Apache-2.0"
        and project.get("readme") == "README.md"
        and project.get("requires-python") == ">=3.11"
        and any(requirement_name(need) == "lx-core" for need in plugin.requires)
    )


def _lines(path):
    return path.read_text("utf-8").count("\n") if path.is_file() else 0


def test_each_slug_stands_in_its_five_places():
    found = [f"plugins/{slug}: {reason}" for slug, plugin in plugins().items() for reason in malformed(plugin)]
    assert not found, "\n".join(found)


def test_every_folder_of_plugins_is_a_plugin():
    folders = {path.name for path in (ROOT / "plugins").iterdir() if path.is_dir() and any(path.rglob("*.py"))}
    assert folders == set(plugins())


def test_the_check_sees_a_malformed_plugin(tmp_path):
    folder = tmp_path / "plugins" / "Some_thing"
    folder.mkdir(parents=True)
    (folder / "pyproject.toml").write_text('[project]\nname = "lx-plugin-other"\n[tool.ruff]\n', "utf-8")
    assert len(malformed(read(folder))) >= 9


def test_the_standard_set_stays_light():
    heavy = {
        slug: beyond
        for slug, plugin in plugins().items()
        if plugin.standard
        and (beyond := {requirement_name(need) for need in plugin.requires} - LIGHT_ENOUGH - {one.name for one in plugins().values()})
    }
    assert heavy == {}, f'mark them with keywords = ["{EXTRA}"] in their pyproject.toml, or argue here'


def vague(paths):
    """The files whose names do not say what they are for."""
    return [str(path) for path in paths if path.stem in VAGUE]


def test_no_file_has_a_vague_name(sources):
    assert vague(source.path for source in sources) == []
    assert vague([ROOT / "core/src/lx/utils.py", ROOT / "core/src/lx/batch.py"]) == [str(ROOT / "core/src/lx/utils.py")]


def repeated(paths):
    """The names that more than one of these files has."""
    return sorted(name for name, count in Counter(path.name for path in paths).items() if count > 1)


def test_names_of_test_files_are_unique(tmp_path):
    tests = [path for folder in ("core", "plugins", "tests", "examples") for path in (ROOT / folder).rglob("test_*.py")]
    assert len(tests) > 5
    assert repeated(tests) == []
    assert repeated([tmp_path / "a/test_one.py", tmp_path / "b/test_one.py", tmp_path / "b/test_two.py"]) == ["test_one.py"]
