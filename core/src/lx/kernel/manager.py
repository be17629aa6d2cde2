"""Finds the installed plugins, loads their light entry modules, and knows what is wrong with those that fail."""

import os
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pluggy

from lx.kernel import hookspecs
from lx.kernel.component import normalise
from lx.kernel.errors import BlockedError, BrokenPluginError, ComponentError, DependencyError, IncompatiblePluginError, NotInstalledError
from lx.kernel.known import CLASSES, COMPONENTS, ROLES
from lx.kernel.registry import Diagnosis, Entry, Registry
from lx.kernel.requirements import unmet_requirements

if TYPE_CHECKING:
    from importlib_metadata import EntryPoint

GROUP = "lx.plugins"
CORE = "lx-core"

KINDS = {
    "accelerator": "lx.interfaces.accelerator:Accelerator",
    "strategy": "lx.interfaces.strategy:Strategy",
    "precision": "lx.interfaces.precision:Precision",
    "launcher": "lx.interfaces.launcher:Launcher",
    "environment": "lx.interfaces.environment:ClusterEnvironment",
    "checkpoint_io": "lx.interfaces.checkpoint_io:CheckpointIO",
    "layer_sync": "lx.interfaces.layer_sync:LayerSync",
    "logger": "lx.interfaces.logger:Logger",
    "profiler": "lx.interfaces.profiler:Profiler",
    "callback": "lx.interfaces.callback:Callback",
}

ACTIVE, BLOCKED, UNMET, BROKEN, INCOMPATIBLE = "active", "blocked", "unmet", "broken", "incompatible"
"""The states of a plugin. An unmet plugin is registered, and refused when one of its components is wanted."""


@dataclass(slots=True)
class Plugin:
    """One installed plugin: who ships it, in which state it is, and why."""

    slug: str
    distribution: str
    version: str
    module: str
    state: str = ACTIVE
    reason: str = ""
    requires: tuple[str, ...] = ()
    error: BaseException | None = None

    def failure(self) -> ComponentError | None:
        """The exception for someone who wants a component of this plugin; None while it is active."""
        match self.state:
            case "blocked":
                return BlockedError(f"the plugin {self.slug!r} ({self.distribution} {self.version}) is kept out: {self.reason}.")
            case "unmet":
                return DependencyError(
                    f"the plugin {self.slug!r} ({self.distribution} {self.version}) cannot be used: {self.reason}. "
                    f"`pip install --upgrade {self.distribution}` installs what it requires."
                )
            case "incompatible":
                return IncompatiblePluginError(f"the plugin {self.slug!r} ({self.distribution} {self.version}) is refused: {self.reason}.")
            case "broken":
                error = BrokenPluginError(f"the plugin {self.slug!r} ({self.distribution} {self.version}) is broken: {self.reason}.")
                error.__cause__ = self.error
                return error
        return None


class PluginManager(Diagnosis):
    """A registry, the hooks, and the plugins that fill them; a program has a default one, a test makes its own.

    `entry_points` replaces what is installed. `only` and `disabled` are slugs, as in `LX_PLUGINS` and `LX_DISABLE`.

    >>> manager = PluginManager(entry_points=[])
    >>> manager.registry.strategy.names()
    []
    """

    def __init__(
        self,
        *,
        entry_points: "Iterable[EntryPoint] | None" = None,
        only: Iterable[str] | None = None,
        disabled: Iterable[str] = (),
        trace: Callable[[str], None] | None = None,
    ) -> None:
        self.trace = trace
        self.plugins: list[Plugin] = []
        self.registry = Registry(self)
        self._entry_points = entry_points
        self._only = None if only is None else {normalise(slug) for slug in only}
        self._disabled = {normalise(slug) for slug in disabled}
        self._loaded = False
        self._pluggy = pluggy.PluginManager("lx")
        self._pluggy.add_hookspecs(hookspecs)
        self.hook = self._pluggy.hook
        for kind, interface in KINDS.items():
            self.registry.add_kind(kind, interface=interface)
        if trace is not None:
            self._pluggy.add_hookcall_monitoring(lambda name, impls, kwargs: trace(f"hook {name} -> {len(impls)} plugins"), lambda *_: None)

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> "PluginManager":
        """A manager that obeys `LX_PLUGINS`, `LX_DISABLE` and `LX_TRACE`."""
        def slugs(name: str) -> list[str]:
            return [slug for slug in environ.get(name, "").split(",") if slug.strip()]

        trace = (lambda line: print(f"lx: {line}", file=sys.stderr)) if environ.get("LX_TRACE", "0") not in ("", "0") else None
        return cls(only=slugs("LX_PLUGINS") if "LX_PLUGINS" in environ else None, disabled=slugs("LX_DISABLE"), trace=trace)

    def add_hookspecs(self, module: Any) -> None:
        """Adds hook specifications (marked with `lx.kernel.hookspec`) of a plugin's own."""
        self._pluggy.add_hookspecs(module)

    def register(self, plugin: Any, distribution: str) -> None:
        """Registers a module or object with hook implementations, as if `distribution` had shipped it."""
        with self.registry.provided_by(distribution):
            try:
                self._pluggy.register(plugin)
            except BaseException:
                self._pluggy.unregister(plugin)
                raise

    def load(self) -> None:
        """Imports the entry module of every installed plugin that is not kept out; one that fails fails alone."""
        if self._loaded:
            return
        self._loaded = True
        found = sorted(self._installed(), key=lambda point: (normalise(point.name), point.dist.name if point.dist else ""))
        modules = [module for point in found if (module := self._import(point)) is not None]
        # Two rounds, so that a plugin may register components of a kind that another plugin adds.
        self.hook.lx_extend.call_historic(kwargs={"manager": self})
        self.hook.lx_register.call_historic(kwargs={"registry": self.registry})
        extending = [pair for pair in modules if hasattr(pair[1], "lx_extend")]
        for plugin, module in [*extending, *(pair for pair in modules if pair not in extending)]:
            try:
                self.register(module, plugin.distribution)
            except KeyboardInterrupt:
                raise
            except BaseException as error:
                self._fail(plugin, error)
            if self.trace:
                self.trace(f"plugin {plugin.slug} ({plugin.distribution} {plugin.version}): {plugin.state}")

    def _installed(self) -> "Iterable[EntryPoint]":
        if self._entry_points is not None:
            return self._entry_points
        from importlib_metadata import entry_points  # noqa: PLC0415 -- 20 ms that `import lx` need not pay

        return entry_points(group=GROUP)

    def _import(self, point: "EntryPoint") -> tuple[Plugin, ModuleType] | None:
        dist = point.dist
        plugin = Plugin(
            point.name, dist.name if dist else point.module, dist.version if dist else "?", point.module,
            requires=tuple((dist.requires if dist else None) or ()),
        )
        self.plugins.append(plugin)
        kept_out = self._kept_out(plugin)
        if kept_out:
            plugin.state, plugin.reason = BLOCKED, kept_out
            return None
        try:
            module = point.load()
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # SystemExit too: a plugin that exits at import must not end the program
            self._fail(plugin, error)
            return None
        written_for = getattr(module, "lx_api", None)
        if written_for not in (hookspecs.API, hookspecs.API - 1):
            said = "it does not state a kernel API (`lx_api = 1`)" if written_for is None else f"it was written for kernel API {written_for}"
            plugin.state = INCOMPATIBLE
            plugin.reason = f"{said}, and this kernel serves {hookspecs.API} and {hookspecs.API - 1}; install a release of it that fits"
            return None
        return plugin, module

    def _kept_out(self, plugin: Plugin) -> str:
        if plugin.distribution == CORE:
            return ""
        if normalise(plugin.slug) in self._disabled:
            return f"LX_DISABLE names {plugin.slug!r}"
        if self._only is not None and normalise(plugin.slug) not in self._only:
            return f"LX_PLUGINS does not name {plugin.slug!r}"
        return ""

    def _fail(self, plugin: Plugin, error: BaseException) -> None:
        plugin.state, plugin.error, plugin.reason = BROKEN, error, f"{type(error).__name__}: {error}"

    def survey(self) -> list[Plugin]:
        """Every installed plugin with its requirements compared, which a run does only for those that it uses."""
        self.load()
        for plugin in self.plugins:
            self._compare(plugin)
        return self.plugins

    def _compare(self, plugin: Plugin) -> None:
        unmet = unmet_requirements(plugin.requires) if plugin.state == ACTIVE else []
        if unmet:
            plugin.state, plugin.reason = UNMET, "; ".join(unmet)

    # -- what the registry asks --------------------------------------------------------------------------------------

    def check(self, entry: Entry) -> ComponentError | None:
        """The failure of the plugin behind an entry whose requirements are not met."""
        for plugin in self.plugins:
            if plugin.distribution == entry.provider:
                self._compare(plugin)
                return plugin.failure()
        return None

    def missing(self, kind: str, name: str) -> ComponentError | None:
        """Why a name, class name or role that an official plugin is known to offer is not on offer."""
        slugs = COMPONENTS.get(kind, {}).get(normalise(name)) or CLASSES.get(kind, {}).get(name) or ROLES.get(kind, {}).get(name)
        if not slugs:
            return None
        for plugin in self.plugins:
            if plugin.slug in slugs and plugin.state != ACTIVE:
                return plugin.failure()
        packages = " or ".join(f"`pip install lx-plugin-{slug}`" for slug in slugs)
        return NotInstalledError(f"the {kind} {name!r} comes with a plugin that is not installed: {packages}.")

    def hints(self) -> list[str]:
        """Names the plugins that are installed and not active: one of them may offer what was asked for."""
        silent = [f"{plugin.slug} ({plugin.state}: {plugin.reason})" for plugin in self.plugins if plugin.state not in (ACTIVE, UNMET)]
        return [f"Installed, but not loaded: {'; '.join(silent)}."] if silent else []


_default: PluginManager | None = None


def default_manager() -> PluginManager:
    """The manager of this process, made on first use from the environment variables."""
    global _default
    if _default is None:
        _default = PluginManager.from_environment()
    return _default
