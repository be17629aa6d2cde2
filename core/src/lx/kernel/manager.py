"""Finds the installed plugins, loads their light entry modules, and knows what is wrong with those that fail."""

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import pluggy

from lx.kernel import hookspecs
from lx.kernel.component import normalise
from lx.kernel.errors import BlockedError, BrokenPluginError, ComponentError, DependencyError, IncompatiblePluginError, NotInstalledError
from lx.kernel.garbage import collection_relaxed
from lx.kernel.known import CLASSES, COMPONENTS, ROLES
from lx.kernel.registry import Diagnosis, Entry, Registry
from lx.kernel.requirements import describe, installed_version, unmet_requirements

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
    """One installed plugin: who ships it, in which state it is and why, and what it registered."""

    slug: str
    distribution: str
    version: str
    module: str
    state: str = ACTIVE
    reason: str = ""
    requires: tuple[str, ...] = ()
    error: BaseException | None = None
    entries: list[Entry] = field(default_factory=list)
    compared: bool = False

    @property
    def cure(self) -> str:
        """What to do about a plugin that is not active; empty where the reason says so."""
        if self.state == UNMET:
            return f"`pip install --upgrade {self.distribution}` installs what it requires"
        if self.state == BROKEN:
            return f"`pip install --upgrade {self.distribution}` may repair it, and `LX_DISABLE={self.slug}` keeps it out"
        return ""

    def failure(self) -> ComponentError | None:
        """The exception for someone who wants a component of this plugin; None while it is active."""
        who = f"the plugin {self.slug!r} ({self.distribution} {self.version})"
        failure: ComponentError | None = None
        if self.state == BLOCKED:
            failure = BlockedError(f"{who} is kept out: {self.reason}. Change that environment variable to use it.")
        elif self.state == UNMET:
            failure = DependencyError(f"{who} cannot be used: {self.reason}. {self.cure}.")
        elif self.state == INCOMPATIBLE:
            failure = IncompatiblePluginError(f"{who} is refused: {self.reason}.")
        elif self.state == BROKEN:
            failure = BrokenPluginError(f"{who} is broken: {self.reason}. {self.cure}.")
        if failure is not None:
            failure.__cause__ = self.error
        return failure


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
        self.known = COMPONENTS
        self._members: list[tuple[Plugin, Any]] = []
        self._version_of = cache(installed_version)  # many plugins require the same few distributions
        self._pluggy = pluggy.PluginManager("lx")
        self._pluggy.add_hookspecs(hookspecs)
        self.hook = self._pluggy.hook
        for kind, interface in KINDS.items():
            self.registry.add_kind(kind, interface=interface)
        if trace is not None:
            self._pluggy.add_hookcall_monitoring(partial(_trace_hook, trace), lambda *_: None)

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
        """Registers a module or object with hook implementations, as if `distribution` had shipped it; if it raises, nothing stays."""
        self._join(plugin, distribution)
        self._fill(plugin, distribution)

    def load(self) -> None:
        """Imports the entry module of every installed plugin that is not kept out; one that fails fails alone."""
        if self._loaded:
            return
        self._loaded = True
        with collection_relaxed():
            self._load()

    def _load(self) -> None:
        points = _installed() if self._entry_points is None else self._entry_points
        found = sorted(map(_described, points), key=lambda pair: (normalise(pair[0].slug), pair[0].distribution))
        self.plugins.extend(plugin for plugin, _ in found)
        self._members = [(plugin, member) for plugin, point in found if (member := self._import(plugin, point)) is not None]
        # Those that extend join first, and all have joined before one registers: a plugin may use the kinds and hooks of any other.
        self._members.sort(key=lambda pair: not hasattr(pair[1], "lx_extend"))
        for step in (self._join, self._fill):
            for plugin, member in self._members:
                if plugin.state == ACTIVE:
                    plugin.entries = self._attempt(plugin, step, member, plugin.distribution) or []
        if self.trace is not None:
            for plugin in self.plugins:
                self.trace(f"plugin {plugin.slug} ({plugin.distribution} {plugin.version}): {plugin.state} {plugin.reason}".rstrip())

    def _import(self, plugin: Plugin, point: "EntryPoint") -> Any:
        plugin.reason = self._kept_out(plugin)
        if plugin.reason:
            plugin.state = BLOCKED
            return None
        member = self._attempt(plugin, point.load)
        written_for = self._attempt(plugin, getattr, member, "lx_api", None)
        served = (hookspecs.API, hookspecs.API - 1)
        if plugin.state == ACTIVE and written_for not in served:
            states = "does not state a kernel API (`lx_api = 1`)" if written_for is None else f"was written for kernel API {written_for!r}"
            plugin.state = INCOMPATIBLE
            plugin.reason = f"it {states}, and this kernel serves {served[0]} and {served[1]}; install a release of it that fits"
        return member if plugin.state == ACTIVE else None

    def _attempt(self, plugin: Plugin, function: Callable[..., Any], *args: Any) -> Any:
        try:
            return function(*args)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # SystemExit too: a plugin that exits at import must not end the program
            plugin.state, plugin.error, plugin.reason = BROKEN, error, f"{type(error).__name__}: {error}".rstrip(": ")
            unmet = unmet_requirements(plugin.requires, self._version_of) if isinstance(error, ImportError) else []
            if unmet:
                plugin.state, plugin.reason = UNMET, f"{'; '.join(unmet)} ({plugin.reason})"
            return None

    def _join(self, member: Any, distribution: str) -> None:
        if self._pluggy.is_registered(member):
            raise ValueError(f"{getattr(member, '__name__', member)!r} is registered already; two distributions ship the same module")
        with self._whole(member, distribution):
            self._pluggy.register(member)
            self._only_of(member, "lx_extend")(manager=self)

    def _fill(self, member: Any, distribution: str) -> list[Entry]:
        before = {id(entry) for entry in self.registry.entries()}
        with self._whole(member, distribution):
            for hook in self._pluggy.get_hookcallers(member) or ():
                if not hook.has_spec() and any(impl.plugin is member and not impl.optionalhook for impl in hook.get_hookimpls()):
                    raise ValueError(f"it implements {hook.name!r}, which is no hook of lx or of an installed plugin")
            self._only_of(member, "lx_register")(registry=self.registry)
        return [entry for entry in self.registry.entries() if id(entry) not in before]

    @contextmanager
    def _whole(self, member: Any, distribution: str) -> Iterator[None]:
        with self.registry.provided_by(distribution):
            try:
                yield
            except BaseException:
                if self._pluggy.is_registered(member):  # not if pluggy refused it, which depends on its release
                    self._pluggy.unregister(member)
                raise

    def _only_of(self, member: Any, hook: str) -> Any:
        return self._pluggy.subset_hook_caller(hook, [other for other in self._pluggy.get_plugins() if other is not member])

    def _kept_out(self, plugin: Plugin) -> str:
        if plugin.distribution == CORE:
            return ""
        if normalise(plugin.slug) in self._disabled:
            return f"LX_DISABLE names {plugin.slug!r}"
        if self._only is not None and normalise(plugin.slug) not in self._only:
            return f"LX_PLUGINS does not name {plugin.slug!r}"
        return ""

    def gather(self, hook: str, **arguments: Any) -> list[tuple[Plugin, Any]]:
        """Calls a hook of each active plugin by itself, and returns what each gave; one that raises is marked as broken."""
        self.load()
        active = [(plugin, member) for plugin, member in self._members if plugin.state in (ACTIVE, UNMET)]
        found = [
            (plugin, self._attempt(plugin, lambda member=member: self._only_of(member, hook)(**arguments))) for plugin, member in active
        ]
        return [(plugin, result) for plugin, results in found for result in results or ()]

    def survey(self) -> list[Plugin]:
        """Every installed plugin with its requirements compared, which a run does only for those that it uses."""
        self.load()
        for plugin in self.plugins:
            self._compare(plugin)
        return self.plugins

    def _compare(self, plugin: Plugin) -> None:
        if plugin.state != ACTIVE or plugin.compared:
            return
        plugin.compared = True
        unmet = unmet_requirements(plugin.requires, self._version_of)
        if unmet:
            plugin.state, plugin.reason = UNMET, "; ".join(unmet)

    # -- what the registry asks --------------------------------------------------------------------------------------

    def check(self, entry: Entry) -> ComponentError | None:
        """The failure of the plugin behind an entry whose requirements are not met."""
        for plugin in self.plugins:
            if any(entry is own for own in plugin.entries):
                self._compare(plugin)
                return plugin.failure()
        return None

    def missing(self, kind: str, name: str) -> ComponentError | None:
        """Why a name, class name or role that an official plugin is known to offer is not on offer."""
        slugs = COMPONENTS.get(kind, {}).get(normalise(name)) or CLASSES.get(kind, {}).get(name) or ROLES.get(kind, {}).get(name)
        if not slugs:
            return None
        known = [plugin for plugin in self.plugins if plugin.slug in slugs]
        for plugin in known:
            if plugin.state != ACTIVE:
                return plugin.failure()
        if known:
            old = " and ".join(f"{plugin.distribution} {plugin.version}" for plugin in known)
            cure = " or ".join(f"`pip install --upgrade {plugin.distribution}`" for plugin in known)
            return NotInstalledError(f"the {kind} {name!r} is not among what {old} registered here: {cure} brings a release that has it.")
        packages = " or ".join(f"`pip install lx-plugin-{slug}`" for slug in slugs)
        return NotInstalledError(f"the {kind} {name!r} comes with a plugin that is not installed: {packages}.")

    def hints(self) -> list[str]:
        """Names the plugins that are installed and not active, one of which may offer what was asked for, and idle switches."""
        kept_out = ", ".join(plugin.slug for plugin in self.plugins if plugin.state == BLOCKED)
        failed = [plugin for plugin in self.plugins if plugin.state in (BROKEN, INCOMPATIBLE) or (plugin.state == UNMET and plugin.error)]
        reasons = "; ".join(f"{plugin.slug} ({': '.join(filter(None, (plugin.state, plugin.reason, plugin.cure)))})" for plugin in failed)
        sentences = [f"Installed, but not loaded: {reasons}."] if failed else []
        if kept_out:
            sentences.append(f"Installed, but kept out by LX_PLUGINS or LX_DISABLE: {kept_out}.")
        return sentences + self.idle_switches()

    def idle_switches(self) -> list[str]:
        """A sentence for the slugs in `only` and `disabled` that no installed plugin has, as a misspelt one."""
        self.load()
        strange = sorted(({*self._disabled, *(self._only or ())}) - {normalise(plugin.slug) for plugin in self.plugins})
        return [f"LX_PLUGINS or LX_DISABLE name what is not installed: {', '.join(strange)}."] if strange else []


def _trace_hook(trace: Callable[[str], None], name: str, impls: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    if impls or name not in ("lx_extend", "lx_register"):  # which are called for each plugin, whether it has them or not
        trace(f"hook {name} -> {len(impls)} plugins")


def _installed() -> "Iterable[EntryPoint]":
    from importlib_metadata import entry_points  # noqa: PLC0415 -- 30 ms that `import lx` need not pay

    return entry_points(group=GROUP)


def _described(point: "EntryPoint") -> "tuple[Plugin, EntryPoint]":
    distribution, version, requires = describe(point.dist)
    return Plugin(point.name, distribution if distribution != "?" else point.module, version, point.value, requires=requires), point


@cache
def default_manager() -> PluginManager:
    """The manager of this process, made on first use from the environment variables; `default_manager.cache_clear()` forgets it."""
    return PluginManager.from_environment()
