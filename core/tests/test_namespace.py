"""Modules of classes whose kind comes with a plugin."""

import pytest

import lx.kernel.namespace
from lx.kernel import PluginManager
from lx.kernel.errors import NotInstalledError, UnknownComponentError


@pytest.fixture
def empty(monkeypatch):
    """A namespace of a kind that no installed plugin brings."""
    manager = PluginManager(entry_points=[])
    monkeypatch.setattr(lx.kernel.namespace, "default_manager", lambda: manager)
    return lx.kernel.namespace.namespace("lx.tuner", "tuner")


def test_a_class_that_a_known_plugin_brings_with_its_kind_says_what_to_install(empty):
    find, names = empty
    with pytest.raises(NotInstalledError, match="pip install lx-plugin-tuner"):
        find("Tuner")
    assert names() == []


def test_a_class_that_nobody_knows_says_that_the_kind_is_absent(empty):
    find, _ = empty
    with pytest.raises(UnknownComponentError, match="no plugin that brings this kind of component is installed"):
        find("Turner")
