"""Component strings: how a user names a component and its arguments in one argument."""

import ast
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lx.kernel.errors import ComponentStringError

FORMS = (
    "'early_stopping', \"early_stopping(monitor='val_loss')\", {'early_stopping': {'monitor': 'val_loss'}} "
    "or 'early_stopping@some-distribution'"
)
_WORD = r"[A-Za-z0-9][A-Za-z0-9_.\-]*"
_NAME = re.compile(rf"\s*(?P<name>{_WORD})(?:@(?P<provider>{_WORD}))?\s*(?P<call>\(.*\))?\s*", re.DOTALL)


def is_name(name: object) -> bool:
    """Whether a component can have this name, so that a component string can select it."""
    return isinstance(name, str) and re.fullmatch(_WORD, name) is not None


def normalise(name: str) -> str:
    """The form under which a name is stored and compared: lower case, `-` and `_` the same.

    >>> normalise("Early-Stopping")
    'early_stopping'
    """
    return name.strip().lower().replace("-", "_")


@dataclass(frozen=True, slots=True)
class ComponentSpec:
    """A component that was asked for: its name, the distribution it should come from, and its arguments."""

    name: str
    provider: str | None = None
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        values = [*map(repr, self.args), *(f"{key}={value!r}" for key, value in self.kwargs.items())]
        return self.name + (f"@{self.provider}" if self.provider else "") + (f"({', '.join(values)})" if values else "")


def parse(spec: "str | Mapping[str, Any] | ComponentSpec") -> ComponentSpec:
    """Reads a component string or mapping; only literals are understood, and nothing is evaluated.

    Raises `ComponentStringError`, with what was given and the forms that are accepted.

    >>> parse("early_stopping(monitor='val_loss', patience=3)").kwargs
    {'monitor': 'val_loss', 'patience': 3}
    >>> parse({"csv": {"name": "runs"}}).name
    'csv'
    >>> parse("fsdp@acme-fsdp").provider
    'acme-fsdp'
    """
    if isinstance(spec, ComponentSpec):
        return spec
    if isinstance(spec, Mapping):
        return _from_mapping(spec)
    match = _NAME.fullmatch(spec) if isinstance(spec, str) else None
    if match is None:
        raise ComponentStringError(f"{spec!r} is not a component string. Write it as {FORMS}.")
    args, kwargs = _arguments(match["call"], spec) if match["call"] else ((), {})
    return ComponentSpec(match["name"], match["provider"], args, kwargs)


def _from_mapping(spec: Mapping[str, Any]) -> ComponentSpec:
    if len(spec) != 1:
        several = " Several components are given as a list of such mappings." if len(spec) > 1 else ""
        raise ComponentStringError(f"{dict(spec)!r} must have one key, the component's name.{several} Write it as {FORMS}.")
    ((name, arguments),) = spec.items()
    if arguments is not None and not (isinstance(arguments, Mapping) and all(isinstance(key, str) for key in arguments)):
        raise ComponentStringError(
            f"the arguments of {name!r} must be a mapping of names to values, not {arguments!r}. Write it as {FORMS}."
        )
    parsed = parse(name)
    if parsed.args or parsed.kwargs:
        raise ComponentStringError(f"{dict(spec)!r} gives arguments twice, in the name and in the mapping; give them once.")
    return ComponentSpec(parsed.name, parsed.provider, (), dict(arguments or {}))


def _arguments(call: str, spec: str) -> tuple[tuple[Any, ...], dict[str, Any]]:
    try:
        node = ast.parse(f"_{call}", mode="eval").body
    except (SyntaxError, ValueError) as error:
        raise ComponentStringError(f"{spec!r} cannot be parsed ({error}). Write it as {FORMS}.") from None
    except (MemoryError, RecursionError):  # what the parser raises for brackets nested by the hundred
        raise ComponentStringError(f"a component string of {len(spec)} characters is nested too deeply.") from None
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
        raise ComponentStringError(f"{spec!r} is not one call. Write it as {FORMS}.")
    if any(isinstance(value, ast.Starred) for value in node.args) or any(pair.arg is None for pair in node.keywords):
        raise ComponentStringError(f"{spec!r} unpacks arguments; write each one out.")
    args = tuple(_literal(value, call, spec) for value in node.args)
    names = [pair.arg for pair in node.keywords if pair.arg is not None]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise ComponentStringError(f"{spec!r} gives the argument {twice[0]!r} twice.")
    return args, {pair.arg: _literal(pair.value, call, spec) for pair in node.keywords if pair.arg is not None}


def _literal(node: ast.expr, call: str, spec: str) -> Any:
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, RecursionError):  # TypeError: a list as the key of a dict
        written = ast.get_source_segment("_" + call, node)
        raise ComponentStringError(
            f"{spec!r} holds {written!r}, which is no literal. Numbers, strings, lists, dicts, True, False and None can be written in a "
            "component string; for anything else pass an instance."
        ) from None
