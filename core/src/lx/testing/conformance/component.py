"""What every conformance suite stands on: the component under test, built from what is installed, as a Trainer would."""

import functools
import subprocess
import sys
from collections.abc import Mapping
from typing import Any, ClassVar

import pytest

from lx.kernel import ComponentSpec, Entry, PluginManager


@functools.cache
def installed() -> PluginManager:
    """The plugin manager of the suites, over the installed entry points, obeying no environment variable; tests must not change it."""
    return PluginManager()


def build(component: "str | Mapping[str, Any] | ComponentSpec", kind: str, **extra: Any) -> Any:
    """An instance of an installed component, made through the plugin manager of the suites.

    `extra` are arguments that a component string cannot hold, such as `save_dir=tmp_path`; they rank under those in `component`.
    Raises like `KindRegistry.build`.

    >>> build("32-true", "precision").precision
    '32-true'
    """
    return installed().registry.kind(kind).build(component, **extra)


class Conformance:
    """The base of the suites. A suite sets `kind` and adds tests on `built`; a plugin's test class sets `component`.

    `component` is a component string, with arguments where the suite or the constructor needs some. A suite whose components need
    more than a string can hold overrides the fixture `built` and calls `self.build(save_dir=tmp_path)`.
    """

    component: ClassVar[str]
    kind: ClassVar[str]

    @pytest.fixture
    def manager(self) -> PluginManager:
        """The plugin manager of the suites."""
        return installed()

    @pytest.fixture
    def entry(self, manager: PluginManager) -> Entry:
        """The registration of the component; nothing is imported for it."""
        return manager.registry.kind(self.kind).find(self.component)

    @pytest.fixture
    def component_class(self, manager: PluginManager) -> Any:
        """The class of the component."""
        return manager.registry.kind(self.kind).get(self.component)

    @pytest.fixture
    def built(self) -> Any:
        """A new instance of the component for each test."""
        return self.build()

    def build(self, **extra: Any) -> Any:
        """A new instance, with arguments that a component string cannot hold."""
        return build(self.component, self.kind, **extra)

    def test_is_a_class_of_its_kind(self, manager: PluginManager, component_class: Any) -> None:
        assert issubclass(component_class, manager.registry.kind(self.kind).interface)
        assert component_class.__doc__, f"{component_class.__qualname__} has no docstring, which `lx plugins show` prints"

    def test_is_registered_with_a_summary(self, entry: Entry) -> None:
        assert entry.summary, f"the {entry.kind} {entry.name!r} is registered without summary="

    def test_is_found_without_torch(self, entry: Entry) -> None:
        code = (
            "import sys; from lx.kernel import PluginManager\n"
            f"entry = PluginManager().registry.kind({self.kind!r}).find({entry.name + '@' + entry.provider!r})\n"
            "module = entry.target.partition(':')[0] if isinstance(entry.target, str) else entry.target.__module__\n"
            "heavy = [name for name in (module, 'torch') if name in sys.modules]\n"
            "sys.exit(f'looking it up imported {heavy}' if heavy else 0)"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
