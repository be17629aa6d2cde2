"""What lies in this checkout, read off the pyproject files. Standard library only: it runs before anything is installed."""

import re
import tomllib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent

FLOOR = ("cpu", "single-device", "torch-io")
"""The plugins without which no Trainer runs; the tests of a plugin may count on them."""

EXTRA = "lx-extra"
"""The keyword in a plugin's pyproject that keeps it out of the standard set."""


@dataclass(frozen=True, slots=True)
class Distribution:
    """One distribution of this checkout: the folder, and what its pyproject says."""

    folder: Path
    project: dict[str, Any]
    test: tuple[str, ...]

    @property
    def name(self) -> str:
        """The name on the package index."""
        return str(self.project["name"])

    @property
    def slug(self) -> str:
        """The name of the folder, which for a plugin is the name of everything else too."""
        return self.folder.name

    @property
    def module(self) -> str:
        """The import name of a plugin."""
        return "lx_plugin_" + self.slug.replace("-", "_")

    @property
    def source(self) -> Path:
        """The folder on the import path."""
        return self.folder / "src"

    @property
    def requires(self) -> tuple[str, ...]:
        """What it requires, of this checkout and beyond."""
        return tuple(self.project.get("dependencies", ()))

    @property
    def standard(self) -> bool:
        """Whether the metapackage pulls it in."""
        return EXTRA not in self.project.get("keywords", ())


def read(folder: Path) -> Distribution:
    """The distribution of a folder."""
    content = tomllib.loads((folder / "pyproject.toml").read_text("utf-8"))
    return Distribution(folder, content["project"], tuple(content.get("dependency-groups", {}).get("test", ())))


def core() -> Distribution:
    """lx-core."""
    return read(ROOT / "core")


def standard() -> Distribution:
    """The metapackage; the dependency groups beside it are those of the repository, not its own."""
    return replace(read(ROOT), test=())


def plugins(root: Path = ROOT) -> dict[str, Distribution]:
    """The plugins by slug, sorted."""
    return {path.parent.name: read(path.parent) for path in sorted(root.glob("plugins/*/pyproject.toml"))}


def needs(plugin: Distribution) -> list[str]:
    """The slugs that the tests of a plugin run with: itself, the floor, and what its `test` group and its requirements name."""
    found = dict.fromkeys([plugin.slug, *FLOOR])
    queue = [*plugin.test, *plugin.requires]
    known = plugins()
    while queue:
        slug = requirement_name(queue.pop()).removeprefix("lx-plugin-")
        if slug in known and slug not in found:
            found[slug] = None
            queue.extend(known[slug].requires)
    return list(found)


def requirement_name(requirement: str) -> str:
    """The distribution that a requirement names.

    >>> requirement_name("Torch_IO>=2.9; python_version > '3'")
    'torch-io'
    """
    matched = re.match(r"[A-Za-z0-9._-]+", requirement)
    if matched is None:
        raise ValueError(f"{requirement!r} is no requirement.")
    return re.sub(r"[-_.]+", "-", matched[0]).lower()


def group(name: str) -> list[str]:
    """The requirements of a dependency group of the root, with the groups that it includes."""
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["dependency-groups"]
    found: list[str] = []
    for entry in groups[name]:
        found.extend(group(entry["include-group"]) if isinstance(entry, dict) else [entry])
    return found
