"""Fixtures for tests of plugins and of applications: `pytest_plugins = ["lx.testing.fixtures"]` in the root conftest."""

import importlib
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from textwrap import dedent
from typing import TYPE_CHECKING, Any

import pytest
from importlib_metadata import EntryPoint, distributions

from lx.kernel import PluginManager
from lx.kernel.manager import GROUP

if TYPE_CHECKING:
    from lx.testing.models import TinyDataModule, TinyModule


class Distributions:
    """What the fixture `make_distribution` gives: distributions as pip would have put them, each in a folder of its own.

    The folders are on `sys.path` until the test ends, and `path` hands them to a child process as `PYTHONPATH`.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.folders: list[Path] = []

    def __call__(
        self,
        name: str,
        files: Mapping[str, str],
        *,
        version: str = "0.1.0",
        plugins: Mapping[str, str] | None = None,
        requires: tuple[str, ...] = (),
    ) -> Path:
        """Writes a distribution, and returns the folder that it lies in.

        `files` are the sources by path (`{"acme/__init__.py": "lx_api = 1"}`), which are dedented. `plugins` are the entry points in
        the group `lx.plugins`, module by slug; without it the first package is one, under its own name. `requires` are requirements.
        """
        folder = self.root / f"site-{len(self.folders)}"
        for path, source in files.items():
            file = folder / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(dedent(source), "utf-8")
        if plugins is None:
            package = next(iter(files)).split("/")[0].removesuffix(".py")
            plugins = {package: package}
        info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir(parents=True)
        needs = "".join(f"Requires-Dist: {requirement}\n" for requirement in requires)
        (info / "METADATA").write_text(f"Metadata-Version: 2.4\nName: {name}\nVersion: {version}\n{needs}\nA fake.\n", "utf-8")
        points = "".join(f"{slug} = {module}\n" for slug, module in plugins.items())
        (info / "entry_points.txt").write_text(f"[{GROUP}]\n{points}", "utf-8")
        self.folders.append(folder)
        sys.path.insert(0, str(folder))
        importlib.invalidate_caches()
        return folder

    @property
    def path(self) -> str:
        """The folders as the value of `PYTHONPATH`."""
        return os.pathsep.join(map(str, self.folders))

    def entry_points(self) -> list[EntryPoint]:
        """The entry points of the distributions made so far, and of no other."""
        found = distributions(path=[str(folder) for folder in self.folders])
        return [point for distribution in found for point in distribution.entry_points if point.group == GROUP]

    def manager(self, **options: Any) -> PluginManager:
        """A plugin manager that finds these distributions alone; `options` go to `PluginManager`."""
        return PluginManager(entry_points=self.entry_points(), **options)


@pytest.fixture
def make_distribution(tmp_path: Path) -> Iterator[Distributions]:
    """Makes distributions with plugins, as broken as a test needs them; see `Distributions`."""
    path, modules = list(sys.path), set(sys.modules)
    made = Distributions(tmp_path)
    yield made
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        file = getattr(sys.modules[name], "__file__", None) or ""
        if file.startswith(str(tmp_path)):
            del sys.modules[name]
    importlib.invalidate_caches()


@pytest.fixture
def plugin_manager() -> PluginManager:
    """A plugin manager with the fakes of `lx.testing.fakes` and nothing that is installed, for this test alone."""
    from lx.testing.fakes import fake_plugin_manager  # noqa: PLC0415 -- a pytest plugin is imported by every run, and this imports torch

    return fake_plugin_manager()


@pytest.fixture
def tiny_module() -> "TinyModule":
    """A model that trains in milliseconds."""
    from lx.testing.models import TinyModule  # noqa: PLC0415 -- see above

    return TinyModule()


@pytest.fixture
def tiny_data() -> "TinyDataModule":
    """Data for `tiny_module`."""
    from lx.testing.models import TinyDataModule  # noqa: PLC0415 -- see above

    return TinyDataModule()
