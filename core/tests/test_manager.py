"""The plugin manager: what it finds, in which order, what the switches keep out, and how plugins build on each other."""

import sys
from typing import Any

import pytest
from importlib_metadata import EntryPoint

from lx.kernel import KINDS, PluginManager, default_manager, hookimpl, hookspec
from lx.kernel.errors import BlockedError, CollisionError, DependencyError, NotInstalledError, UnknownComponentError
from lx.testing.fixtures import Distributions

LOGGER = """
    from lx.kernel import hookimpl
    lx_api = 1
    @hookimpl
    def lx_register(registry):
        registry.logger.add({name!r}, {module!r} + ".logger:Log", summary="logs", roles={{"default": 3}})
"""


def add_logger(
    make_distribution: Distributions, name: str, *, distribution: str | None = None, slug: str | None = None, **more: Any
) -> None:
    """Makes a distribution `acme-<name>` whose plugin registers the logger `name`; its target exists, and imports nothing."""
    module = f"plugin_{(distribution or name).replace('-', '_')}"
    files = {f"{module}/__init__.py": LOGGER.format(name=name, module=module), f"{module}/logger.py": "class Log: ..."}
    make_distribution(distribution or f"acme-{name}", files, plugins={slug or name: module}, **more)


def states(manager: PluginManager) -> dict[str, str]:
    return {plugin.slug: plugin.state for plugin in manager.survey()}


def test_an_installed_plugin_is_found_and_described(make_distribution: Distributions) -> None:
    add_logger(make_distribution, "clay", version="2.1", requires=("pluggy>=1.0",))
    manager = make_distribution.manager()
    (plugin,) = manager.survey()
    assert (plugin.slug, plugin.distribution, plugin.version, plugin.module) == ("clay", "acme-clay", "2.1", "plugin_clay")
    assert (plugin.state, plugin.reason, plugin.requires, plugin.error) == ("active", "", ("pluggy>=1.0",), None)
    assert [entry.name for entry in plugin.entries] == ["clay"]
    assert plugin.failure() is None
    assert manager.registry.logger.find("clay").provider == "acme-clay"
    assert manager.registry.logger.get("clay").__name__ == "Log"


def test_nothing_is_imported_before_it_is_asked_for(make_distribution: Distributions) -> None:
    add_logger(make_distribution, "clay")
    manager = make_distribution.manager()
    assert manager.plugins == []
    assert "plugin_clay" not in sys.modules
    assert manager.registry.logger.names() == ["clay"]
    assert "plugin_clay" in sys.modules
    assert "plugin_clay.logger" not in sys.modules


def test_load_happens_once(make_distribution: Distributions) -> None:
    add_logger(make_distribution, "clay")
    manager = make_distribution.manager()
    manager.load()
    manager.load()
    assert len(manager.survey()) == 1
    assert len(manager.survey()) == 1
    assert len(manager.registry.logger.entries()) == 1


def test_managers_share_nothing(make_distribution: Distributions) -> None:
    add_logger(make_distribution, "clay")
    first, second = make_distribution.manager(), make_distribution.manager()
    first.registry.logger.add("mine", object)
    first.registry.logger.remove("clay")
    assert first.registry.logger.names() == ["mine"]
    assert second.registry.logger.names() == ["clay"]


def test_plugins_are_listed_by_slug(make_distribution: Distributions) -> None:
    for name in ("zinc", "Alum", "clay"):
        add_logger(make_distribution, name)
    assert [plugin.slug for plugin in make_distribution.manager().survey()] == ["Alum", "clay", "zinc"]


def test_the_kinds_of_the_kernel_are_there_and_their_interfaces_exist() -> None:
    registry = PluginManager(entry_points=[]).registry
    assert registry.kinds() == list(KINDS)
    for kind in registry.kinds():
        assert isinstance(registry.kind(kind).interface, type)


def test_what_is_really_installed_is_found() -> None:
    assert "32-true" in PluginManager().registry.precision


# -- several plugins ---------------------------------------------------------------------------------------------------------


def test_two_distributions_of_one_slug_are_both_known(make_distribution: Distributions) -> None:
    add_logger(make_distribution, "clay", distribution="acme-clay", slug="clay")
    add_logger(make_distribution, "loam", distribution="zen-clay", slug="clay")
    manager = make_distribution.manager()
    assert [(plugin.slug, plugin.distribution, plugin.state) for plugin in manager.survey()] == [
        ("clay", "acme-clay", "active"),
        ("clay", "zen-clay", "active"),
    ]
    assert manager.registry.logger.names() == ["clay", "loam"]


def test_two_distributions_of_one_component_collide_when_it_is_wanted(make_distribution: Distributions) -> None:
    add_logger(make_distribution, "clay", distribution="acme-clay")
    add_logger(make_distribution, "clay", distribution="zen-clay")
    add_logger(make_distribution, "loam")
    manager = make_distribution.manager()
    assert {plugin.state for plugin in manager.survey()} == {"active"}
    assert manager.registry.logger.get("loam").__name__ == "Log"
    with pytest.raises(CollisionError, match=r"the logger 'clay' is offered by 'acme-clay' and 'zen-clay'\. Say which one you mean"):
        manager.registry.logger.get("clay")
    assert manager.registry.logger.get("clay@zen-clay").__module__ == "plugin_zen_clay.logger"


def test_one_distribution_may_hold_several_plugins(make_distribution: Distributions) -> None:
    files = {
        "good_part.py": LOGGER.format(name="good", module="good_part"),
        "bad_part.py": "raise RuntimeError('bad part')",
    }
    make_distribution("acme-both", files, plugins={"good": "good_part", "bad": "bad_part"})
    manager = make_distribution.manager()
    assert states(manager) == {"bad": "broken", "good": "active"}
    assert manager.check(manager.registry.logger.find("good")) is None


def test_an_entry_point_may_name_an_object(make_distribution: Distributions) -> None:
    source = """
        from lx.kernel import hookimpl
        class Plugin:
            lx_api = 1
            @hookimpl
            def lx_register(self, registry):
                registry.logger.add("attribute", "a.b:C")
        plugin = Plugin()
    """
    make_distribution("acme-object", {"plugin_object.py": source}, plugins={"object": "plugin_object:plugin"})
    manager = make_distribution.manager()
    assert states(manager) == {"object": "active"}
    assert manager.registry.logger.names() == ["attribute"]


def test_an_entry_point_without_distribution_is_called_by_its_module(make_distribution: Distributions) -> None:
    add_logger(make_distribution, "clay")
    manager = PluginManager(entry_points=[EntryPoint("clay", "plugin_clay", "lx.plugins")])
    (plugin,) = manager.survey()
    assert (plugin.distribution, plugin.version, plugin.state) == ("plugin_clay", "?", "active")


# -- plugins that extend ---------------------------------------------------------------------------------------------------


EXTENDER = """
    from lx.kernel import hookimpl, hookspec
    lx_api = 1
    class Specs:
        @hookspec
        def zoo_feed(self, animal): "Feeds an animal."
    @hookimpl
    def lx_extend(manager):
        manager.registry.add_kind("animal", interface="builtins:object")
        manager.add_hookspecs(Specs)
    @hookimpl
    def lx_register(registry):
        registry.animal.add("zebra", "builtins:object")
"""
USER = """
    from lx.kernel import hookimpl
    lx_api = 1
    @hookimpl
    def lx_register(registry):
        registry.animal.add("ant", "builtins:object")
    @hookimpl
    def zoo_feed(animal):
        return "fed " + animal
"""


def test_a_plugin_adds_a_kind_and_a_hook_that_another_uses(make_distribution: Distributions) -> None:
    make_distribution("acme-user", {"a_user.py": USER})  # sorts before the one that it builds on
    make_distribution("zen-zoo", {"z_zoo.py": EXTENDER})
    manager = make_distribution.manager()
    assert states(manager) == {"a_user": "active", "z_zoo": "active"}
    assert manager.registry.animal.names() == ["ant", "zebra"]
    assert "animal" in manager.registry.kinds()
    assert manager.hook.zoo_feed(animal="the ant") == ["fed the ant"]
    assert manager.gather("zoo_feed", animal="it")[0][1] == "fed it"


def test_two_plugins_that_extend_use_each_others_kinds(make_distribution: Distributions) -> None:
    both = """
        from lx.kernel import hookimpl
        lx_api = 1
        @hookimpl
        def lx_extend(manager):
            manager.registry.add_kind({own!r}, interface="builtins:object")
        @hookimpl
        def lx_register(registry):
            registry.kind({other!r}).add("x", "builtins:object")
    """
    make_distribution("a", {"ext_a.py": both.format(own="red", other="blue")})
    make_distribution("b", {"ext_b.py": both.format(own="blue", other="red")})
    manager = make_distribution.manager()
    assert states(manager) == {"ext_a": "active", "ext_b": "active"}
    assert (manager.registry.red.find("x").provider, manager.registry.blue.find("x").provider) == ("b", "a")


def test_a_kind_of_another_interface_fails_alone(make_distribution: Distributions) -> None:
    source = """
        from lx.kernel import hookimpl
        lx_api = 1
        @hookimpl
        def lx_extend(manager):
            manager.registry.add_kind("extra", interface="builtins:object")
            manager.registry.add_kind("logger", interface="builtins:object")
    """
    make_distribution("acme", {"ext_wrong.py": source})
    manager = make_distribution.manager()
    assert states(manager) == {"ext_wrong": "broken"}
    assert "the kind 'logger' exists already" in manager.plugins[0].reason
    assert "extra" not in manager.registry.kinds()


def test_a_plugin_that_is_registered_by_hand() -> None:
    class Hand:
        @hookimpl
        def lx_register(self, registry: Any) -> None:
            registry.logger.add("hand", object)

    manager = PluginManager(entry_points=[])
    manager.register(Hand(), "by-hand")
    assert manager.registry.logger.find("hand").provider == "by-hand"
    assert manager.registry.logger.get("hand") is object


def test_a_plugin_registered_by_hand_before_the_installed_ones_load(make_distribution: Distributions) -> None:
    class Hand:
        @hookimpl
        def lx_register(self, registry: Any) -> None:
            registry.logger.add("clay", object)

    add_logger(make_distribution, "clay")
    manager = make_distribution.manager()
    manager.register(Hand(), "by-hand")
    with pytest.raises(CollisionError, match="'acme-clay' and 'by-hand'"):
        manager.registry.logger.get("clay")


def test_what_is_registered_by_hand_and_raises_leaves_nothing() -> None:
    class Half:
        @hookimpl
        def lx_register(self, registry: Any) -> None:
            registry.logger.add("half", object)
            raise RuntimeError("midway")

        @hookimpl
        def lx_doctor(self) -> list[tuple[str, str]]:
            return [("half", "here")]

    manager = PluginManager(entry_points=[])
    manager.registry.logger.add("mine", object)
    with pytest.raises(RuntimeError, match="midway"):
        manager.register(Half(), "half")
    assert manager.registry.logger.names() == ["mine"]
    assert manager.hook.lx_doctor() == []


def test_hook_specifications_of_the_program() -> None:
    class Specs:
        @hookspec
        def greet(self, name: str) -> str:
            """Greets."""
            return ""

    class Polite:
        @hookimpl
        def greet(self, name: str) -> str:
            return f"good day, {name}"

    manager = PluginManager(entry_points=[])
    manager.add_hookspecs(Specs)
    manager.register(Polite(), "polite")
    assert manager.hook.greet(name="you") == ["good day, you"]


# -- gathering -------------------------------------------------------------------------------------------------------------


def test_gather_keeps_a_hook_that_raises_to_its_plugin(make_distribution: Distributions) -> None:
    source = """
        from lx.kernel import hookimpl
        lx_api = 1
        @hookimpl
        def lx_doctor():
            {body}
    """
    make_distribution("acme-well", {"well.py": source.format(body="return [('driver', '5')]")})
    make_distribution("acme-ill", {"ill.py": source.format(body="raise OSError('no driver')")})
    make_distribution("acme-quits", {"quits.py": source.format(body="raise SystemExit(4)")})
    manager = make_distribution.manager()
    assert [(plugin.slug, result) for plugin, result in manager.gather("lx_doctor")] == [("well", [("driver", "5")])]
    assert {plugin.slug: plugin.reason for plugin in manager.plugins if plugin.state == "broken"} == {
        "ill": "OSError: no driver",
        "quits": "SystemExit: 4",
    }


# -- switches ----------------------------------------------------------------------------------------------------------------


def test_only_and_disabled(make_distribution: Distributions) -> None:
    for name in ("clay", "loam", "sand-stone"):
        add_logger(make_distribution, name)
    assert states(make_distribution.manager(only=["Clay", "sand_stone"])) == {"clay": "active", "loam": "blocked", "sand-stone": "active"}
    assert states(make_distribution.manager(disabled=["Sand_Stone"])) == {"clay": "active", "loam": "active", "sand-stone": "blocked"}
    assert set(states(make_distribution.manager(only=[])).values()) == {"blocked"}
    both = make_distribution.manager(only=["clay", "loam"], disabled=["loam"])
    assert states(both) == {"clay": "active", "loam": "blocked", "sand-stone": "blocked"}


def test_a_blocked_plugin_is_not_imported_and_is_named(make_distribution: Distributions) -> None:
    add_logger(make_distribution, "clay")
    manager = make_distribution.manager(disabled=["clay"])
    with pytest.raises(UnknownComponentError, match=r"Installed, but kept out by LX_PLUGINS or LX_DISABLE: clay\."):
        manager.registry.logger.find("clay")
    assert "plugin_clay" not in sys.modules
    failure = manager.plugins[0].failure()
    assert isinstance(failure, BlockedError)
    assert "Change that environment variable" in str(failure)


def test_a_broken_plugin_that_is_kept_out_does_no_harm(make_distribution: Distributions) -> None:
    make_distribution("acme-bad", {"bad_plugin.py": "raise RuntimeError"}, plugins={"bad": "bad_plugin"})
    assert states(make_distribution.manager(disabled=["bad"])) == {"bad": "blocked"}


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, {"clay": "active", "loam": "active"}),
        ({"LX_PLUGINS": "clay"}, {"clay": "active", "loam": "blocked"}),
        ({"LX_PLUGINS": " clay , loam "}, {"clay": "active", "loam": "active"}),
        ({"LX_PLUGINS": ""}, {"clay": "blocked", "loam": "blocked"}),
        ({"LX_DISABLE": "clay,,"}, {"clay": "blocked", "loam": "active"}),
        ({"LX_DISABLE": ""}, {"clay": "active", "loam": "active"}),
        ({"LX_PLUGINS": "clay", "LX_DISABLE": "clay"}, {"clay": "blocked", "loam": "blocked"}),
    ],
)
def test_environment_variables(
    make_distribution: Distributions, monkeypatch: pytest.MonkeyPatch, environ: dict[str, str], expected: dict[str, str]
) -> None:
    add_logger(make_distribution, "clay")
    add_logger(make_distribution, "loam")
    manager = PluginManager.from_environment(environ)
    found = states(manager)
    assert {slug: state for slug, state in found.items() if slug in expected} == expected
    assert found["core"] == "active"  # lx-core itself cannot be kept out


def test_slugs_in_the_switches_that_nobody_has_are_told(make_distribution: Distributions) -> None:
    add_logger(make_distribution, "clay")
    manager = make_distribution.manager(only=["clay", "laom"], disabled=["sand"])
    assert manager.idle_switches() == ["LX_PLUGINS or LX_DISABLE name what is not installed: laom, sand."]
    with pytest.raises(UnknownComponentError, match=r"name what is not installed: laom, sand\."):
        manager.registry.logger.find("loam")
    assert make_distribution.manager(only=["clay"]).idle_switches() == []


def test_trace(make_distribution: Distributions, capsys: pytest.CaptureFixture[str]) -> None:
    lines: list[str] = []
    add_logger(make_distribution, "clay")
    add_logger(make_distribution, "loam")
    manager = make_distribution.manager(trace=lines.append, disabled=["loam"])
    manager.load()
    manager.hook.lx_doctor()
    assert "plugin clay (acme-clay 0.1.0): active" in lines
    assert "plugin loam (acme-loam 0.1.0): blocked LX_DISABLE names 'loam'" in lines
    assert "hook lx_register -> 1 plugins" in lines
    assert "hook lx_doctor -> 0 plugins" in lines
    assert not any("lx_extend" in line for line in lines)

    for value, expected in (("1", True), ("0", False), ("", False)):
        PluginManager.from_environment({"LX_TRACE": value, "LX_PLUGINS": ""}).load()
        captured = capsys.readouterr()
        assert captured.out == ""
        assert ("lx: plugin core" in captured.err) is expected


def test_the_default_manager_is_one_until_it_is_forgotten() -> None:
    first = default_manager()
    assert default_manager() is first
    default_manager.cache_clear()
    assert default_manager() is not first


# -- what is known and not there -------------------------------------------------------------------------------------------


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    """The page `known.py`, as if it listed the plugins `clay` and `loam`."""
    monkeypatch.setattr("lx.kernel.manager.COMPONENTS", {"logger": {"clay": ("clay",), "both": ("clay", "loam")}})
    monkeypatch.setattr("lx.kernel.manager.CLASSES", {"logger": {"ClayLogger": ("clay",)}})
    monkeypatch.setattr("lx.kernel.manager.ROLES", {"logger": {"default": ("clay",)}})


@pytest.mark.usefixtures("known")
def test_known_and_not_installed() -> None:
    logger = PluginManager(entry_points=[]).registry.logger
    with pytest.raises(
        NotInstalledError, match="the logger 'Clay' comes with a plugin that is not installed: `pip install lx-plugin-clay`"
    ):
        logger.get("Clay(name='x')")
    with pytest.raises(NotInstalledError, match="`pip install lx-plugin-clay` or `pip install lx-plugin-loam`"):
        logger.get("both")
    with pytest.raises(NotInstalledError, match=r"'ClayLogger' comes with .* `pip install lx-plugin-clay`") as caught:
        logger.by_class("ClayLogger")
    assert isinstance(caught.value, ImportError)
    assert isinstance(PluginManager(entry_points=[]).missing("logger", "default"), NotInstalledError)
    assert PluginManager(entry_points=[]).missing("logger", "never_heard_of") is None


@pytest.mark.usefixtures("known")
def test_a_misspelt_name_of_what_is_not_installed_comes_with_its_command(make_distribution: Distributions) -> None:
    with pytest.raises(UnknownComponentError) as caught:
        PluginManager(entry_points=[]).registry.logger.get("caly(name='x')")
    assert str(caught.value) == (
        "there is no logger \"caly(name='x')\". Did you mean 'clay'? Installed: none."
        " The logger 'clay' comes with a plugin that is not installed: `pip install lx-plugin-clay`."
    )
    add_logger(make_distribution, "clax")
    with pytest.raises(UnknownComponentError, match=r"Did you mean 'clay' or 'clax'\? Installed: clax\. The logger 'clay' comes with"):
        make_distribution.manager().registry.logger.get("cla")
    with pytest.raises(UnknownComponentError, match=r"no logger 'sand'\. Installed: none\.$"):
        PluginManager(entry_points=[]).registry.logger.get("sand")


@pytest.mark.usefixtures("known")
def test_known_and_blocked(make_distribution: Distributions) -> None:
    add_logger(make_distribution, "clay")
    with pytest.raises(BlockedError, match=r"the plugin 'clay' \(acme-clay 0\.1\.0\) is kept out: LX_PLUGINS does not name 'clay'"):
        make_distribution.manager(only=[]).registry.logger.get("clay")


@pytest.mark.usefixtures("known")
def test_known_installed_and_too_old_to_have_it(make_distribution: Distributions) -> None:
    add_logger(make_distribution, "other", slug="clay", distribution="lx-plugin-clay")
    with pytest.raises(
        NotInstalledError, match=r"not among what lx-plugin-clay 0\.1\.0 registered here: `pip install --upgrade lx-plugin-clay`"
    ):
        make_distribution.manager().registry.logger.get("clay")


def test_an_unmet_plugin_is_registered_and_refused_when_wanted(make_distribution: Distributions) -> None:
    add_logger(make_distribution, "clay", requires=("no-such-package>=2", "pluggy>=1.0"))
    add_logger(make_distribution, "loam", requires=("pluggy>=900",))
    add_logger(make_distribution, "sand", requires=("no-such-package>=2; python_version < '3'", "extra-package; extra == 'all'"))
    manager = make_distribution.manager()
    assert manager.registry.logger.names() == ["clay", "loam", "sand"]
    assert {plugin.state for plugin in manager.plugins} == {"active"}  # nothing is compared before it is wanted
    missing = (
        r"the plugin 'clay' .* cannot be used: it requires no-such-package>=2, which is not installed\. `pip install --upgrade acme-clay`"
    )
    with pytest.raises(DependencyError, match=missing):
        manager.registry.logger.get("clay")
    with pytest.raises(DependencyError, match="it requires pluggy>=900, and 1"):
        manager.registry.logger.get("loam")
    assert manager.registry.logger.get("sand").__name__ == "Log"
    assert states(manager) == {"clay": "unmet", "loam": "unmet", "sand": "active"}
    assert "plugin_clay.logger" not in sys.modules
