"""What is on offer: for each kind of component, names and where the class behind a name is to be found."""

import importlib
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from difflib import SequenceMatcher, get_close_matches
from types import MappingProxyType
from typing import Any

from lx.kernel.component import ComponentSpec, is_name, normalise, parse
from lx.kernel.errors import (
    BrokenPluginError,
    CollisionError,
    ComponentArgumentError,
    ComponentError,
    ComponentTypeError,
    UnknownComponentError,
    sentence,
)

PROGRAM = "this-program"
"""The provider of what the running program registered itself; `"name@this-program"` selects it."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One registered component: a kind, a name, who provides it, and the class or the import path of the class."""

    kind: str
    name: str
    provider: str
    target: "str | type[Any] | Callable[..., Any]"
    summary: str = ""
    aliases: tuple[str, ...] = ()
    roles: Mapping[str, int] = field(default_factory=dict)
    defaults: Mapping[str, Any] = field(default_factory=dict)

    @property
    def class_name(self) -> str:
        """The name of the class, read off the import path without importing it."""
        if isinstance(self.target, str):
            return self.target.rpartition(":")[2].rpartition(".")[2]
        return getattr(self.target, "__name__", type(self.target).__name__)

    @property
    def spellings(self) -> tuple[str, ...]:
        """Every normalised name that selects this entry."""
        return tuple(normalise(name) for name in (self.name, *self.aliases))


class Diagnosis:
    """What the registry asks the plugin manager when it lacks a name, or before it imports a component.

    A registry without a manager, as in a unit test, uses this one, which knows nothing.
    """

    def load(self) -> None:
        """Called before the first lookup."""

    known: Mapping[str, Iterable[str]] = {}
    """The names, by kind, that somebody is known to offer, installed or not."""

    def check(self, entry: Entry) -> ComponentError | None:
        """Called before `entry` is imported: the reason why it must not be, if there is one."""

    def missing(self, kind: str, name: str) -> ComponentError | None:
        """The reason why a name, class name or role that somebody is known to offer is not on offer here."""

    def hints(self) -> list[str]:
        """Sentences for the end of the message about an unknown name."""
        return []


class KindRegistry:
    """The components of one kind; `lx.registry.strategy` is one.

    >>> registry = Registry()
    >>> registry.add_kind("strategy", interface="builtins:object")
    >>> @registry.strategy.add("mine", rounds=3)
    ... class Mine:
    ...     def __init__(self, rounds):
    ...         self.rounds = rounds
    >>> registry.strategy.build("mine").rounds, registry.strategy.build("Mine(rounds=5)").rounds
    (3, 5)
    """

    def __init__(self, registry: "Registry", kind: str, interface: str) -> None:
        self._registry = registry
        self.interface_path = interface
        self._entries: list[Entry] = []
        self.kind = kind

    @property
    def interface(self) -> type[Any]:
        """The abstract class of this kind; imports it."""
        found: type[Any] = import_target(self.interface_path)
        return found

    def add(
        self,
        name: str,
        target: "str | Callable[..., Any] | None" = None,
        /,
        *,
        summary: str = "",
        aliases: Iterable[str] = (),
        roles: Mapping[str, int] = MappingProxyType({}),
        **defaults: Any,
    ) -> Any:
        """Registers a class, or the import path `"package.module:Class"`, under a name; without a target it is a decorator.

        `aliases` are further names. `roles` says for which automatic choices this component stands, and how high it
        ranks among those that stand for the same (`{"progress-bar": 10}`). `defaults` are handed to the constructor,
        under what the user gives. Raises `CollisionError` if the same provider already has the name, unless for a class of the same
        module and name: running a cell of a notebook again replaces what it registered before.
        """
        for spelling in (name, *aliases):
            if not is_name(spelling):
                raise ValueError(f"a {self.kind} is registered under a name of letters, digits, '_', '-' and '.'; got {spelling!r}.")
        if target is None:

            def decorate(cls: Any) -> Any:
                self.add(name, cls, summary=summary, aliases=aliases, roles=roles, **defaults)
                return cls

            return decorate
        if not callable(target) and not (isinstance(target, str) and ":" in target):
            raise TypeError(f"{self.kind} {name!r}: the target must be a class or 'package.module:Class', not {target!r}.")
        provider = self._registry.provider
        entry = Entry(self.kind, name, provider, target, summary, tuple(aliases), dict(roles), defaults)
        for other in self._entries:
            shared = set(other.spellings) & set(entry.spellings) if other.provider == provider else ()
            if shared and not _same_place(other.target, target):
                raise CollisionError(
                    f"{provider} registers the {self.kind} {min(shared)!r} twice, as {_place(other.target)} and as {_place(target)}; "
                    f"`registry.{self.kind}.remove({other.name!r})` takes the first one away."
                )
            if shared:
                self._entries.remove(other)
                break
        self._entries.append(entry)
        return target

    def remove(self, name: str) -> None:
        """Takes a name away (`"name@distribution"` where two offer it); raises like `find` if it is not there."""
        self._entries.remove(self.find(name))

    def snapshot(self) -> list[Entry]:
        """What is registered now, nothing loaded for it; for `forget`."""
        return list(self._entries)

    def forget(self, provider: str, before: Iterable[Entry]) -> None:
        """Takes away what one provider registered since the snapshot `before`."""
        kept = {id(entry) for entry in before}
        self._entries = [entry for entry in self._entries if entry.provider != provider or id(entry) in kept]

    def entries(self) -> list[Entry]:
        """All entries, sorted by name."""
        self._registry.load()
        return sorted(self._entries, key=lambda entry: (entry.spellings[0], entry.provider))

    def names(self) -> list[str]:
        """The registered names, sorted, each once, without aliases."""
        return list({entry.spellings[0]: entry.name for entry in reversed(self.entries())}.values())[::-1]

    def __contains__(self, name: str) -> bool:
        return any(normalise(name) in entry.spellings for entry in self.entries())

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def __len__(self) -> int:
        return len(self.names())

    def describe(self, name: str) -> str:
        """The summary line of a component."""
        return self.find(name).summary

    def find(self, spec: "str | Mapping[str, Any] | ComponentSpec") -> Entry:
        """The entry that a component string means, nothing imported.

        Raises `UnknownComponentError`, `CollisionError`, or what explains why a known one is not on offer.
        """
        wanted = parse(spec)
        found = [entry for entry in self.entries() if normalise(wanted.name) in entry.spellings]
        if wanted.provider is not None:
            found = [entry for entry in found if normalise(entry.provider) == normalise(wanted.provider)]
        if len(found) > 1:
            providers = " and ".join(repr(entry.provider) for entry in found)
            ways = " or ".join(repr(f"{wanted.name}@{entry.provider}") for entry in found)
            raise CollisionError(f"the {self.kind} {wanted.name!r} is offered by {providers}. Say which one you mean: {ways}.")
        if found:
            return found[0]
        raise self._registry.diagnosis.missing(self.kind, wanted.name) or self._unknown(wanted)

    def get(self, spec: "str | Mapping[str, Any] | ComponentSpec") -> Any:
        """The class behind a name, imported; raises like `find`, or `DependencyError` or `BrokenPluginError`."""
        return self.load(self.find(spec))

    def load(self, entry: Entry) -> Any:
        """The class of an entry, imported, once the plugin's own requirements were found to be met."""
        if not isinstance(entry.target, str):
            return entry.target
        reason = self._registry.diagnosis.check(entry)
        if reason is not None:
            raise reason
        try:
            return import_target(entry.target)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # a plugin may even call sys.exit at import
            raise BrokenPluginError(
                f"the {self.kind} {entry.name!r} of {entry.provider} cannot be imported from {entry.target!r}: "
                f"{type(error).__name__}: {error}{_repair(entry)}"
            ) from error

    def build(self, spec: Any, **extra: Any) -> Any:
        """An instance: what is one already is handed through, a name is looked up and called with its arguments.

        `extra` ranks over the entry's defaults and under the arguments in `spec`. Raises `ComponentArgumentError` for
        arguments that the constructor does not take, and `ComponentTypeError` for an instance of something else.
        """
        if isinstance(spec, str | Mapping | ComponentSpec):
            wanted = parse(spec)
            entry = self.find(wanted)
            cls = self.load(entry)
            kwargs = {**entry.defaults, **extra, **wanted.kwargs}
            check_arguments(f"the {self.kind} {entry.name!r}", cls, wanted.args, kwargs)
            built = cls(*wanted.args, **kwargs)
            if not isinstance(built, self.interface):
                raise of_another_kind(self, entry, f"made an object of {type(built).__name__}")
            return built
        if isinstance(spec, self.interface):
            return spec
        hint = f" Did you mean {spec.__name__}(...)?" if isinstance(spec, type) and issubclass(spec, self.interface) else ""
        raise ComponentTypeError(f"{spec!r} is no {self.kind}: pass a name, a component string or a {self.interface.__name__}.{hint}")

    def standing_for(self, role: str) -> list[Entry]:
        """The entries registered for a role, the highest rank first; equal ranks by name."""
        return sorted((entry for entry in self.entries() if role in entry.roles), key=lambda entry: -entry.roles[role])

    def by_class(self, class_name: str) -> Any:
        """The class of that name, for `lx.callbacks.EarlyStopping`; raises like `find`."""
        places = {_place(entry.target): entry for entry in self.entries() if entry.class_name == class_name}
        if len(places) > 1:
            homes = " and ".join(f"{entry.provider!r} ({place})" for place, entry in places.items())
            raise CollisionError(f"the {self.kind} class {class_name!r} is offered by {homes}; import it from where it is defined.")
        if places:
            return self.load(*places.values())
        if self.interface_path.endswith(f":{class_name}"):
            return self.interface
        missing = self._registry.diagnosis.missing(self.kind, class_name)
        offers = {name: name for name in self.class_names()}
        raise missing or _none(f"{self.kind} class {class_name!r}", class_name, offers, self._registry.diagnosis.hints())

    def class_names(self) -> list[str]:
        """The names of the registered classes, sorted, each once; nothing is imported."""
        return sorted({entry.class_name for entry in self.entries()})

    def _unknown(self, wanted: ComponentSpec) -> UnknownComponentError:
        spellings = {spelling: entry.name for entry in self._entries for spelling in entry.spellings}
        diagnosis, name = self._registry.diagnosis, normalise(wanted.name)
        elsewhere = [spelling for spelling in _near(name, [*spellings, *diagnosis.known.get(self.kind, ())]) if spelling not in spellings]
        cures = [sentence(reason) for spelling in elsewhere if (reason := diagnosis.missing(self.kind, spelling)) is not None]
        known = {**spellings, **{spelling: spelling for spelling in elsewhere}}
        return _none(f"{self.kind} {str(wanted)!r}", name, spellings, [*cures, *diagnosis.hints()], known)


class Registry:
    """The kinds, each as an attribute: `registry.strategy`, `registry.callback`, and those that plugins add."""

    def __init__(self, diagnosis: Diagnosis | None = None) -> None:
        self.diagnosis = diagnosis or Diagnosis()
        self.provider = PROGRAM
        self._kinds: dict[str, KindRegistry] = {}

    def add_kind(self, kind: str, *, interface: str) -> None:
        """Adds a kind, with the import path of its interface; raises `CollisionError` if it exists with another."""
        known = self._kinds.get(kind)
        if known is not None and known.interface_path != interface:
            raise CollisionError(f"the kind {kind!r} exists already, with the interface {known.interface_path!r}.")
        if known is None:
            self._kinds[kind] = KindRegistry(self, kind, interface)

    def kinds(self) -> list[str]:
        """The names of the kinds, in the order in which they were added."""
        return list(self._kinds)

    def entries(self) -> list[Entry]:
        """What is registered now, of every kind."""
        return [entry for kind in self._kinds.values() for entry in kind.snapshot()]

    def __getattr__(self, kind: str) -> KindRegistry:
        if kind.startswith("_"):
            raise AttributeError(kind)
        return self.kind(kind)

    def kind(self, kind: str) -> KindRegistry:
        """The components of one kind; raises `AttributeError` with the kinds that there are."""
        if kind not in self._kinds:
            self.load()
        if kind not in self._kinds:
            raise AttributeError(f"there is no kind {kind!r}; the kinds are {', '.join(self._kinds)}.")
        return self._kinds[kind]

    def load(self) -> None:
        """Lets the plugin manager load what is installed, once."""
        self.diagnosis.load()

    @contextmanager
    def provided_by(self, provider: str) -> Iterator[None]:
        """Within this context, what is added is put down to `provider`; if it raises, all of that is taken away."""
        outer, self.provider = self.provider, provider
        before = {kind: kind.snapshot() for kind in self._kinds.values()}
        try:
            yield
        except BaseException:
            self._kinds = {name: kind for name, kind in self._kinds.items() if kind in before}
            for kind, entries in before.items():
                kind.forget(provider, entries)
            raise
        finally:
            self.provider = outer


def of_another_kind(components: KindRegistry, entry: Entry, what: str) -> BrokenPluginError:
    """The error for a component that lacks the interface of its kind; `what` says in words what it is instead."""
    interface = f"which is no {components.interface.__name__} ({components.interface_path})"
    return BrokenPluginError(f"the {entry.kind} {entry.name!r} of {entry.provider} {what}, {interface}{_repair(entry) or '.'}")


def _repair(entry: Entry) -> str:
    """What to do about a component that a distribution has broken; nobody can install this program anew."""
    return "" if entry.provider == PROGRAM else f". `pip install --upgrade {entry.provider}` may repair it."


def import_target(target: str) -> Any:
    """The object behind `"package.module:attribute"`."""
    module, _, attribute = target.partition(":")
    found: Any = importlib.import_module(module)
    for name in attribute.split("."):
        found = getattr(found, name)
    return found


def check_arguments(what: str, cls: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    """Raises `ComponentArgumentError`, naming the argument and the nearest one, if `cls(*args, **kwargs)` cannot be called."""
    try:
        signature = inspect.signature(cls)
    except ValueError:  # some classes written in C have none; the call itself will tell
        return
    try:
        signature.bind(*args, **kwargs)
    except TypeError as error:
        variadic = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
        accepted = [name for name, parameter in signature.parameters.items() if parameter.kind not in variadic]
        strange = [name for name in kwargs if name not in accepted]
        near = get_close_matches(strange[0], accepted, n=1) if strange else []
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ComponentArgumentError(f"{what}: {error}.{hint} It accepts: {', '.join(accepted) or 'no arguments'}.") from None


def _none(
    what: str, name: str, offers: Mapping[str, str], hints: list[str], known: Mapping[str, str] | None = None
) -> UnknownComponentError:
    """The exception for a name that is not among `offers`, which hold the name to tell for each spelling; `known` ones may be meant."""
    parts = [f"there is no {what}."]
    known = known or offers
    near = _near(name, known)
    if near:
        parts.append(f"Did you mean {' or '.join(dict.fromkeys(repr(known[spelling]) for spelling in near))}?")
    parts.append(f"Installed: {', '.join(sorted(set(offers.values()))) or 'none'}.")
    return UnknownComponentError(" ".join([*parts, *hints]))


def _near(name: str, spellings: Iterable[str]) -> list[str]:
    """Names that are about as near as the nearest: 'fp16' is not far from 'bf16', and may mean another one."""
    near = get_close_matches(name, list(spellings), n=3)
    return [spelling for spelling in near if _likeness(name, spelling) > _likeness(name, near[0]) - 0.1]


def _likeness(one: str, other: str) -> float:
    return SequenceMatcher(None, one, other).ratio()


def _place(target: Any) -> str:
    return target if isinstance(target, str) else f"{target.__module__}:{getattr(target, '__qualname__', type(target).__qualname__)}"


def _same_place(first: Any, second: Any) -> bool:
    return isinstance(first, type) and isinstance(second, type) and _place(first) == _place(second)
