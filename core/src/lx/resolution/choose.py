"""How a single choice is made: a component that was asked for, or the best of those that stand for a role."""

import inspect
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from lx.kernel import ComponentSpec, Entry, Registry, parse
from lx.kernel.errors import (
    BlockedError,
    ComponentError,
    ComponentStringError,
    ComponentTypeError,
    MisconfigurationException,
    NotInstalledError,
    sentence,
)
from lx.kernel.registry import KindRegistry, check_arguments, of_another_kind
from lx.resolution.request import Choice

HANDED_OVER = {"logger": ("save_dir", "root_dir"), "launcher": ("environment", "num_processes", "num_nodes")}
"""The constructor arguments that the engine fills in when it builds a component, unless the user did."""


class Chooser:
    """Looks components up in a registry, checks their arguments, and keeps each decision with its reason; builds nothing."""

    def __init__(self, registry: Registry, trace: Callable[[str], None] | None = None) -> None:
        self.registry = registry
        self._trace = trace
        self.decisions: list[tuple[str, str, str, str]] = []

    def decide(self, topic: str, choice: str, provider: str, reason: str) -> None:
        """Keeps a decision for `trainer.explain()`."""
        self.decisions.append((topic, choice, provider, reason))
        if self._trace is not None:
            self._trace(f"choice {topic}: {choice} ({provider}), {reason}")

    def choose(self, kind: str, wanted: Any, topic: str, reason: str | None = None, argument: str | None = None) -> Choice:
        """The component that was asked for: by name, component string, mapping or instance; raises what `find` of the registry raises,
        and `ComponentTypeError` for what is none of these. `argument` is what messages call it, if not by its topic."""
        components = self.registry.kind(kind)
        if isinstance(wanted, str | Mapping | ComponentSpec):
            try:
                spec = parse(wanted)
            except ComponentStringError as error:
                names = "" if isinstance(wanted, str) and "(" in wanted else f" {_installed(components)}"
                raise ComponentStringError(f"{argument or topic}: {error}{names}") from None
            return self.of_entry(kind, spec, components.find(spec), topic, reason or f"{argument or topic}={str(spec)!r}")
        if not isinstance(wanted, components.interface):
            raise ComponentTypeError(
                f"{argument or topic}: {wanted!r} is no name, component string or mapping, and no {components.interface.__name__} object."
                f"{_why_none(wanted, components.interface)} {_installed(components)}"
            )
        cls, reason = type(wanted), reason or "an instance was given"
        name = wanted.precision if kind == "precision" else cls.__name__  # one class may stand for several precisions
        provider = _provider(cls, components)
        self.decide(topic, name, provider, reason)
        # A strategy may have been given capabilities of its own.
        return Choice(topic, kind, name, provider, reason, wanted if kind == "strategy" else cls, lambda **_: wanted)

    def of_entry(self, kind: str, spec: ComponentSpec, entry: Entry, topic: str, reason: str) -> Choice:
        """A registered component, its class imported and its arguments checked."""
        components = self.registry.kind(kind)
        cls = components.load(entry)
        if isinstance(cls, type) and not issubclass(cls, components.interface):
            raise of_another_kind(components, entry, f"is the class {cls.__name__}")
        given = {**entry.defaults, **spec.kwargs}
        takes = inspect.signature(cls).parameters
        # What the engine hands over when it builds the component stands in for itself while the rest is checked.
        promised = {name: None for name in HANDED_OVER.get(kind, ()) if name in takes and name not in given}
        check_arguments(f"the {kind} {entry.name!r}", cls, spec.args, {**promised, **given})

        def make(**extra: Any) -> Any:
            try:
                return cls(*spec.args, **{**{name: value for name, value in extra.items() if name in promised}, **given})
            except Exception as error:
                error.add_note(f"This came from the {kind} {str(spec)!r}.")
                raise

        self.decide(topic, entry.name, entry.provider, reason)
        return Choice(topic, kind, entry.name, entry.provider, reason, cls, make)

    def need(self, kind: str, role: str, topic: str, **search: Any) -> Choice:
        """The best usable component that stands for a role; raises where there is none."""
        choice, skipped = self._search(kind, role, topic, **search)
        if choice is not None:
            return choice
        known = self.registry.diagnosis.missing(kind, role)
        told = [*([sentence(known)] if known else []), *self.registry.diagnosis.hints()]
        if skipped:
            raise MisconfigurationException(" ".join([f"no {topic} can be used: {'; '.join(skipped)}.", *told])) from known
        if isinstance(known, BlockedError):
            message = f"nothing that is active provides the {topic} ({role})."
        else:
            message = f"nothing that is installed provides the {topic} ({role}). `pip install lx-standard` installs the standard set."
        raise NotInstalledError(" ".join([message, *told])) from known

    def take(self, kind: str, role: str, topic: str, **search: Any) -> Choice | None:
        """The best usable component that stands for a role, None where there is none; the decisions then say so."""
        choice, skipped = self._search(kind, role, topic, **search)
        if choice is None:
            self.decide(topic, "-", "-", "none is installed" + (f"; passed over: {', '.join(skipped)}" if skipped else ""))
        return choice

    def _search(
        self,
        kind: str,
        role: str,
        topic: str,
        *,
        why: str = "",
        usable: Callable[[Any], str] = lambda cls: "",
        arguments: Mapping[str, Any] = MappingProxyType({}),
    ) -> tuple[Choice | None, list[str]]:
        """The best of the components registered for a role to which `usable` does not object, and why better ones were passed over."""
        skipped: list[str] = []
        for entry in self.registry.kind(kind).standing_for(role):
            reason = "; ".join(filter(None, [why, "the best that is installed", f"passed over: {', '.join(skipped)}" if skipped else ""]))
            try:
                objection = usable(self.registry.kind(kind).load(entry))
                if not objection:
                    return self.of_entry(kind, ComponentSpec(entry.name, entry.provider, (), arguments), entry, topic, reason), skipped
            except ComponentError as error:
                objection = str(error)
            except Exception as error:  # a plugin that nobody named must not end a run that can do without it
                objection = f"{type(error).__name__}: {error}"
            skipped.append(f"{entry.name} ({objection})")
        return None, skipped


def _provider(cls: type[Any], components: KindRegistry) -> str:
    """Who provides a class: the distribution that registered it, or the package that it is defined in."""
    place = f"{cls.__module__}:{cls.__qualname__}"
    registered = (entry.provider for entry in components.entries() if entry.target is cls or entry.target == place)
    return next(registered, cls.__module__.partition(".")[0])


def _installed(components: KindRegistry) -> str:
    return f"Installed: {', '.join(components.names()) or 'none'}."


def _why_none(wanted: Any, interface: type[Any]) -> str:
    """What may have been meant by an object that is no component."""
    if isinstance(wanted, type) and issubclass(wanted, interface):
        return f" Did you mean {wanted.__name__}(...)?"
    if isinstance(wanted, list | tuple):
        return " Give one, not a collection."
    cls = wanted if isinstance(wanted, type) else type(wanted)
    if any(base.__name__ == interface.__name__ for base in cls.__mro__):
        return f" {cls.__name__} comes from {cls.__module__}, which is another library; lx needs its own."
    return ""
