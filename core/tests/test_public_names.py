"""`import lx`: what it offers, what it costs, and the modules whose names are the classes of plugins."""

import importlib
import subprocess
import sys

import pytest

import lx
from lx.kernel import default_manager
from lx.kernel.errors import BrokenPluginError, CollisionError, NotInstalledError, UnknownComponentError
from lx.testing.fixtures import Distributions

NAMESPACES = ["accelerators", "callbacks", "loggers", "plugins", "profilers", "strategies"]


def in_a_new_process(code: str) -> str:
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("module", ["lx", "lx.kernel", "lx.cli", "lx.testing", *(f"lx.{name}" for name in NAMESPACES)])
def test_importing_it_imports_neither_torch_nor_plugins(module: str) -> None:
    code = f"import sys, {module}; print([name for name in ('torch', 'packaging', 'pytest', 'lx.neutral') if name in sys.modules])"
    assert in_a_new_process(code) == "[]"


def test_import_lx_imports_nothing_that_costs() -> None:
    """The kernel, pluggy, dataclasses, argparse and metadata wait until they are used."""
    heavy = ["lx.kernel", "pluggy", "dataclasses", "inspect", "argparse", "email", "importlib.metadata", "importlib_metadata", "json"]
    code = f"import sys; before = set(sys.modules); import lx; print([name for name in {heavy} if name in set(sys.modules) - before])"
    assert in_a_new_process(code) == "[]"


def test_the_public_names_are_sorted_and_resolve() -> None:
    assert sorted(lx.__all__) == lx.__all__
    for name in lx.__all__:
        assert getattr(lx, name) is not None
    assert set(lx.__all__) <= set(dir(lx))
    assert all(isinstance(getattr(lx, name), type(sys)) for name in ("kernel", "interfaces", *NAMESPACES))


def test_the_version_is_that_of_the_distribution() -> None:
    from importlib.metadata import version

    assert lx.__version__ == version("lx-core")


def test_an_unknown_name_lists_the_others() -> None:
    with pytest.raises(AttributeError, match=r"module 'lx' has no attribute 'Trainr'; it offers .*Trainer"):
        lx.Trainr
    with pytest.raises(ImportError, match="cannot import name 'Trainr' from 'lx'"):
        from lx import Trainr  # noqa: F401
    assert not hasattr(lx, "__wrapped__")


def test_the_registry_is_that_of_the_default_manager() -> None:
    assert lx.registry is default_manager().registry
    default_manager.cache_clear()
    assert lx.registry is default_manager().registry


@pytest.fixture
def potters(make_distribution: Distributions, monkeypatch: pytest.MonkeyPatch) -> Distributions:
    """A plugin with a callback, a precision and a class that cannot be imported, in the default registry."""
    source = """
        from lx.kernel import hookimpl
        lx_api = 1
        @hookimpl
        def lx_register(registry):
            registry.callback.add("glaze", "pottery.parts:Glaze")
            registry.callback.add("crack", "pottery.cracked:Crack")
            registry.precision.add("fine", "pottery.parts:FinePrecision")
            registry.checkpoint_io.add("shelf", "pottery.parts:Shelf")
    """
    parts = "class Glaze: ...\nclass FinePrecision: ...\nclass Shelf: ...\n"
    files = {"pottery/__init__.py": source, "pottery/parts.py": parts, "pottery/cracked.py": "import no_such_library\n"}
    make_distribution("acme-pottery", files, plugins={"pottery": "pottery"})
    monkeypatch.setenv("LX_PLUGINS", "pottery")
    default_manager.cache_clear()
    return make_distribution


@pytest.mark.usefixtures("potters")
def test_classes_come_from_the_registry() -> None:
    from lx.callbacks import Glaze
    from lx.plugins import FinePrecision, Shelf

    assert (Glaze.__module__, FinePrecision.__name__, Shelf.__name__) == ("pottery.parts", "FinePrecision", "Shelf")
    assert {"Glaze", "Crack", "Checkpoint", "ProgressBar"} <= set(dir(lx.callbacks))
    assert {"FinePrecision", "Shelf", "Precision"} <= set(dir(lx.plugins))
    assert "Glaze" not in dir(lx.loggers)


def test_interfaces_are_there_beside_the_plugins() -> None:
    from lx.callbacks import Callback, Checkpoint, ProgressBar
    from lx.loggers import Logger
    from lx.plugins import ClusterEnvironment, Precision
    from lx.strategies import Strategy

    assert Checkpoint.__mro__[1] is Callback
    assert issubclass(ProgressBar, Callback)
    assert {cls.__name__ for cls in (Logger, ClusterEnvironment, Precision, Strategy)} == {
        "Logger",
        "ClusterEnvironment",
        "Precision",
        "Strategy",
    }


@pytest.mark.usefixtures("potters")
def test_a_misspelt_class_gets_the_nearest_name() -> None:
    with pytest.raises(UnknownComponentError, match=r"there is no callback class 'Glase'\. Did you mean 'Glaze'\?"):
        from lx.callbacks import Glase  # noqa: F401
    with pytest.raises(UnknownComponentError, match=r"there is no checkpoint_io class 'Shelv'\. Did you mean 'Shelf'\?"):
        from lx.plugins import Shelv  # noqa: F401


def test_a_known_class_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lx.kernel.manager.CLASSES", {"checkpoint_io": {"Kiln": ("kiln",)}})
    with pytest.raises(NotInstalledError, match="`pip install lx-plugin-kiln`"):
        from lx.plugins import Kiln  # noqa: F401


@pytest.mark.usefixtures("potters")
def test_a_broken_class_says_why() -> None:
    with pytest.raises(
        BrokenPluginError, match=r"'crack' of acme-pottery cannot be imported .*No module named 'no_such_library'"
    ) as caught:
        from lx.callbacks import Crack  # noqa: F401
    assert isinstance(caught.value, ImportError)


def test_two_classes_of_one_name_say_where_they_are(potters: Distributions, monkeypatch: pytest.MonkeyPatch) -> None:
    source = """
        from lx.kernel import hookimpl
        lx_api = 1
        @hookimpl
        def lx_register(registry):
            registry.callback.add("other_glaze", "glazier:Glaze")
    """
    potters("zen-glaze", {"glazier.py": source}, plugins={"glazier": "glazier"})
    monkeypatch.setenv("LX_PLUGINS", "pottery,glazier")
    default_manager.cache_clear()
    with pytest.raises(CollisionError, match=r"'zen-glaze' \(glazier:Glaze\).*import it from where it is defined"):
        from lx.callbacks import Glaze  # noqa: F401


@pytest.mark.parametrize("name", NAMESPACES)
@pytest.mark.parametrize("probe", ["__path__", "__wrapped__", "_private", "lower_case", ""])
def test_what_tools_probe_for_is_an_attribute_error(name: str, probe: str) -> None:
    assert not hasattr(importlib.import_module(f"lx.{name}"), probe)
