"""Every way in which a plugin can be broken: it fails alone, leaves nothing of itself, and is named with the reason."""

import subprocess
import sys
from pathlib import Path

import pytest

from lx.kernel import PluginManager
from lx.kernel.errors import BrokenPluginError, ComponentError, DependencyError, IncompatiblePluginError, UnknownComponentError
from lx.testing.fixtures import Distributions

GOOD = """
    from lx.kernel import hookimpl
    lx_api = 1
    @hookimpl
    def lx_register(registry):
        registry.logger.add("good", "good_plugin_logger:Log")
"""
HEAD = "from lx.kernel import hookimpl\nlx_api = 1\n"
REGISTER = HEAD + "@hookimpl\ndef lx_register(registry):\n    registry.logger.add('part', 'a.b:C')\n    "

BROKEN = {
    "syntax error": ("def broken(:\n", "SyntaxError: "),
    "indentation error": ("if True:\nx = 1\n", "IndentationError: "),
    "bytes that are no text": ("x = '\udcff'\n", "SyntaxError: "),
    "import of what is not there": (HEAD + "import no_such_library\n", "ModuleNotFoundError: No module named 'no_such_library'"),
    "import of a name that is not there": (HEAD + "from os import no_such_name\n", "ImportError: cannot import name 'no_such_name'"),
    "raises at import": (HEAD + "raise RuntimeError('no licence')\n", "RuntimeError: no licence"),
    "raises at import without words": (HEAD + "assert False\n", "AssertionError"),
    "exits at import": ("import sys\nsys.exit('bye')\n", "SystemExit: bye"),
    "exits at import with 0": ("raise SystemExit\n", "SystemExit"),
    "raises what is no Exception": ("raise BaseException('odd')\n", "BaseException: odd"),
    "ends a generator": ("raise GeneratorExit\n", "GeneratorExit"),
    "attributes that raise": (HEAD.replace("lx_api = 1", "") + "def __getattr__(name): raise OSError(name)\n", "OSError: lx_api"),
    "registers and raises": (REGISTER + "1 / 0\n", "ZeroDivisionError: division by zero"),
    "registers and exits": (REGISTER + "raise SystemExit(2)\n", "SystemExit: 2"),
    "registers a bad target": (
        REGISTER + "registry.logger.add('bad', 'no colon')\n",
        "TypeError: logger 'bad': the target must be a class",
    ),
    "registers a bad name": (REGISTER + "registry.logger.add('bad name', 'a.b:C')\n", "ValueError: a logger is registered under a name"),
    "registers a name twice": (
        REGISTER + "registry.logger.add('Part', 'x.y:Z')\n",
        "CollisionError: acme-bad registers the logger 'part' twice",
    ),
    "registers to an unknown kind": (
        REGISTER + "registry.exporter.add('x', 'a.b:C')\n",
        "AttributeError: there is no kind 'exporter'; the kinds are",
    ),
    "takes the wrong arguments": (HEAD + "@hookimpl\ndef lx_register(reg): ...\n", "PluginValidationError: "),
    "implements no hook": (HEAD + "@hookimpl\ndef lx_regster(registry): ...\n", "ValueError: it implements 'lx_regster', which is no hook"),
    "extends and raises": (
        HEAD + "@hookimpl\ndef lx_extend(manager):\n    manager.registry.add_kind('new', interface='a:B')\n    raise OSError('disk')\n",
        "OSError: disk",
    ),
}


@pytest.fixture
def good(make_distribution: Distributions) -> Distributions:
    """A plugin that works, beside which others fail."""
    make_distribution("acme-good", {"good_plugin.py": GOOD, "good_plugin_logger.py": "class Log: ..."}, plugins={"good": "good_plugin"})
    return make_distribution


def assert_the_good_one_works(manager: PluginManager) -> None:
    assert manager.registry.logger.names() == ["good"]
    assert manager.registry.logger.get("good").__name__ == "Log"


@pytest.mark.parametrize("case", BROKEN)
@pytest.mark.parametrize("slug", ["a-first", "z-last"])
def test_a_broken_plugin_fails_alone(good: Distributions, case: str, slug: str) -> None:
    source, reason = BROKEN[case]
    folder = good("acme-bad", {"bad_plugin.py": ""}, plugins={slug: "bad_plugin"})
    (folder / "bad_plugin.py").write_bytes(source.encode("utf-8", "surrogateescape"))
    manager = good.manager()
    assert_the_good_one_works(manager)
    plugin = next(plugin for plugin in manager.survey() if plugin.slug == slug)
    assert plugin.state == "broken"
    assert plugin.reason.startswith(reason)
    assert plugin.entries == []
    assert "new" not in manager.registry.kinds()
    failure = plugin.failure()
    assert isinstance(failure, BrokenPluginError)
    assert failure.__cause__ is plugin.error is not None
    assert all(
        words in str(failure) for words in (slug, "acme-bad 0.1.0", plugin.reason, "pip install --upgrade acme-bad", f"LX_DISABLE={slug}")
    )
    with pytest.raises(UnknownComponentError, match=rf"there is no logger 'part'.*Installed, but not loaded: {slug} \(broken: "):
        manager.registry.logger.find("part")


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("", "it does not state a kernel API (`lx_api = 1`), and this kernel serves 1 and 0"),
        ("lx_api = None\n", "it does not state a kernel API"),
        ("lx_api = 7\n", "it was written for kernel API 7, and this kernel serves 1 and 0; install a release of it that fits"),
        ("lx_api = -1\n", "it was written for kernel API -1"),
        ("lx_api = '1'\n", "it was written for kernel API '1'"),
        ("lx_api = [1]\n", "it was written for kernel API [1]"),
    ],
)
def test_another_kernel_api_is_refused(good: Distributions, source: str, reason: str) -> None:
    good("acme-odd", {"odd_plugin.py": REGISTER.replace("lx_api = 1\n", source) + "pass\n"}, plugins={"odd": "odd_plugin"})
    manager = good.manager()
    assert_the_good_one_works(manager)
    plugin = next(plugin for plugin in manager.survey() if plugin.slug == "odd")
    assert plugin.state == "incompatible"
    assert plugin.reason.startswith(reason)
    assert isinstance(plugin.failure(), IncompatiblePluginError)
    assert str(plugin.failure()).startswith(f"the plugin 'odd' (acme-odd 0.1.0) is refused: {reason}")


def test_the_previous_kernel_api_is_served(good: Distributions) -> None:
    good("acme-old", {"old_plugin.py": REGISTER.replace("lx_api = 1", "lx_api = 0") + "pass\n"}, plugins={"old": "old_plugin"})
    assert good.manager().registry.logger.names() == ["good", "part"]


def test_no_more_is_imported_of_a_refused_plugin(good: Distributions) -> None:
    good("acme-odd", {"odd_pack/__init__.py": "lx_api = 7\n", "odd_pack/more.py": "raise RuntimeError\n"}, plugins={"odd": "odd_pack"})
    manager = good.manager()
    manager.load()
    assert "odd_pack.more" not in sys.modules
    assert manager.plugins[1].state == "incompatible"


def test_an_entry_point_to_a_module_that_is_not_there(good: Distributions) -> None:
    good("acme-gone", {"unrelated.py": ""}, plugins={"gone": "no_such_plugin_module"})
    manager = good.manager()
    assert_the_good_one_works(manager)
    assert [plugin.reason for plugin in manager.survey() if plugin.slug == "gone"] == [
        "ModuleNotFoundError: No module named 'no_such_plugin_module'"
    ]


def test_an_entry_point_to_an_attribute_that_is_not_there(good: Distributions) -> None:
    good("acme-gone", {"attribute_gone.py": HEAD}, plugins={"gone": "attribute_gone:plugin"})
    manager = good.manager()
    assert_the_good_one_works(manager)
    assert next(plugin.reason for plugin in manager.survey() if plugin.slug == "gone").startswith("AttributeError: ")


def test_one_module_from_two_distributions(good: Distributions) -> None:
    good("acme-one", {"shared_plugin.py": REGISTER + "pass\n"}, plugins={"one": "shared_plugin"})
    good("acme-two", {"shared_plugin.py": REGISTER + "pass\n"}, plugins={"two": "shared_plugin"})
    manager = good.manager()
    assert {plugin.slug: plugin.state for plugin in manager.survey()} == {"good": "active", "one": "active", "two": "broken"}
    assert "'shared_plugin' is registered already; two distributions ship the same module" in manager.plugins[2].reason
    assert manager.registry.logger.find("part").provider == "acme-one"


def test_an_import_that_fails_for_a_requirement_names_the_requirement(good: Distributions) -> None:
    source = HEAD + "import no_such_library\n"
    good("acme-needs", {"needs_plugin.py": source}, plugins={"needs": "needs_plugin"}, requires=("no-such-library>=3",))
    manager = good.manager()
    assert_the_good_one_works(manager)
    plugin = next(plugin for plugin in manager.survey() if plugin.slug == "needs")
    assert plugin.state == "unmet"
    assert "it requires no-such-library>=3, which is not installed (ModuleNotFoundError" in plugin.reason
    assert isinstance(plugin.failure(), DependencyError)
    with pytest.raises(UnknownComponentError, match=r"not loaded: needs \(unmet: it requires no-such-library>=3"):
        manager.registry.logger.find("part")


@pytest.mark.parametrize(
    ("requirement", "reason"),
    [
        ("no-such-package", "it requires no-such-package, which is not installed"),
        ("no-such-package>=2,<3", "it requires no-such-package<3,>=2, which is not installed"),
        ("pluggy>=900", "it requires pluggy>=900, and "),
        ("pluggy<1", "it requires pluggy<1, and "),
        ("pluggy==0.*", "it requires pluggy==0.*, and "),
        ("pluggy >=", "its metadata states the requirement 'pluggy >=', which cannot be read"),
    ],
)
def test_requirements_that_are_not_met(good: Distributions, requirement: str, reason: str) -> None:
    good("acme-needs", {"needs_plugin.py": REGISTER + "pass\n"}, plugins={"needs": "needs_plugin"}, requires=(requirement,))
    plugin = next(plugin for plugin in good.manager().survey() if plugin.slug == "needs")
    assert plugin.state == "unmet"
    assert plugin.reason.startswith(reason)


def test_a_requirement_that_was_installed_broken(good: Distributions) -> None:
    folder = good("damaged", {"damaged.py": ""}, plugins={})
    (folder / "damaged-0.1.0.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.4\nName: damaged\nVersion: not.a.version\n\n", "utf-8"
    )
    good("acme-needs", {"needs_plugin.py": REGISTER + "pass\n"}, plugins={"needs": "needs_plugin"}, requires=("damaged>=1",))
    plugin = next(plugin for plugin in good.manager().survey() if plugin.slug == "needs")
    assert plugin.reason == "it requires damaged>=1, and not.a.version is installed"


@pytest.mark.parametrize("damage", ["missing", "empty", "no text"])
def test_an_installation_without_metadata(good: Distributions, damage: str) -> None:
    folder = good("acme-torn", {"torn_plugin.py": REGISTER + "pass\n"}, plugins={"torn": "torn_plugin"})
    metadata = folder / "acme_torn-0.1.0.dist-info" / "METADATA"
    if damage == "missing":
        metadata.unlink()
    else:
        metadata.write_bytes(b"" if damage == "empty" else b"\xff\xfe\xff")
    manager = good.manager()
    assert manager.registry.logger.names() == ["good", "part"]
    torn = next(plugin for plugin in manager.survey() if plugin.slug == "torn")
    assert (torn.state, torn.version) == ("active", "?")


def test_control_c_while_plugins_load_passes_through(good: Distributions) -> None:
    good("acme-slow", {"slow_plugin.py": "raise KeyboardInterrupt\n"}, plugins={"slow": "slow_plugin"})
    with pytest.raises(KeyboardInterrupt):
        good.manager().load()


def test_control_c_in_lx_register_passes_through(good: Distributions) -> None:
    good("acme-slow", {"slow_plugin.py": REGISTER + "raise KeyboardInterrupt\n"}, plugins={"slow": "slow_plugin"})
    manager = good.manager()
    with pytest.raises(KeyboardInterrupt):
        manager.load()
    assert "part" not in manager.registry.logger


def test_all_broken_at_once_in_a_process_of_its_own(good: Distributions) -> None:
    """`import lx` and the registry answer in a program that does nothing special, and every plugin that fails has a reason."""
    for number, (source, _) in enumerate(BROKEN.values()):
        folder = good(f"acme-bad-{number}", {f"bad_plugin_{number}.py": ""}, plugins={f"bad-{number}": f"bad_plugin_{number}"})
        Path(folder / f"bad_plugin_{number}.py").write_bytes(source.encode("utf-8", "surrogateescape"))
    code = (
        "import sys, lx\n"
        "assert lx.registry.logger.get('good').__name__ == 'Log'\n"
        "broken = [plugin for plugin in lx.registry.diagnosis.survey() if plugin.state == 'broken']\n"
        "assert all(plugin.reason for plugin in broken)\n"
        "assert 'torch' not in sys.modules\n"
        "print(len(broken))\n"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], env=child(good), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, str(len(BROKEN))), done.stderr


def child(made: Distributions) -> dict[str, str]:
    import os

    slugs = ",".join(point.name for point in made.entry_points())
    return {**os.environ, "PYTHONPATH": made.path, "LX_PLUGINS": slugs, "PYTHONDONTWRITEBYTECODE": "1"}


def test_every_failure_is_one_of_lx_and_of_the_builtin_that_fits() -> None:
    for failure, builtin in ((BrokenPluginError, ImportError), (IncompatiblePluginError, ImportError), (DependencyError, ImportError)):
        assert issubclass(failure, ComponentError)
        assert issubclass(failure, builtin)
