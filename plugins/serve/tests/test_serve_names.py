"""Where the names are found."""

import pytest

import lx.serve
import lx_plugin_serve
from lx.kernel import default_manager
from lx.kernel.errors import BlockedError, UnknownComponentError


def test_the_package_brings_its_names_when_they_are_used() -> None:
    assert all(getattr(lx_plugin_serve, name).__name__ == name for name in lx_plugin_serve.__all__)
    with pytest.raises(AttributeError, match=r"no attribute 'Servable'; it offers ServableModule"):
        lx_plugin_serve.Servable


def test_lx_serve_has_the_classes() -> None:
    assert lx.serve.ServableModule is lx_plugin_serve.ServableModule
    assert lx.serve.ServableModuleValidator is lx_plugin_serve.ServableModuleValidator


def test_lx_serve_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LX_PLUGINS", "cpu")
    default_manager.cache_clear()
    for name in ("ServableModule", "ServableModuleValidator"):
        with pytest.raises(BlockedError, match=r"the plugin 'serve' .* is kept out"):
            getattr(lx.serve, name)
    with pytest.raises(UnknownComponentError, match="Servant"):
        lx.serve.Servant
