"""The kernel: hook specifications, registries, the plugin manager, component strings, errors. It imports no torch."""

from lx.kernel.component import ComponentSpec, normalise, parse
from lx.kernel.hookspecs import API, hookimpl, hookspec
from lx.kernel.manager import KINDS, Plugin, PluginManager, default_manager
from lx.kernel.registry import Entry, KindRegistry, Registry

__all__ = [
    "API",
    "KINDS",
    "ComponentSpec",
    "Entry",
    "KindRegistry",
    "Plugin",
    "PluginManager",
    "Registry",
    "default_manager",
    "hookimpl",
    "hookspec",
    "normalise",
    "parse",
]
