"""`lx plugins` and `lx plugins show NAME`: what is installed, in which state and why, and how a component is called."""

import argparse
import inspect
import json
import re
import sys
import traceback
from collections.abc import Iterable, Sequence
from contextlib import redirect_stdout
from difflib import get_close_matches
from typing import Any

from lx.cli.table import columns, output_width, paragraph
from lx.kernel.component import normalise
from lx.kernel.errors import ComponentError
from lx.kernel.manager import Plugin, PluginManager
from lx.kernel.registry import Entry

_MODULES = re.compile(r"\b(?:[A-Za-z_]\w*\.)+(?=[A-Za-z_])")

Finding = tuple[Plugin, list[Entry]]
"""A plugin, and those of its components that are to be shown."""


def run(manager: PluginManager, arguments: Sequence[str]) -> int:
    """Runs `lx plugins` with the arguments after these words; returns the exit code."""
    options = parser().parse_args(arguments)
    with redirect_stdout(sys.stderr):  # what a plugin prints at import is no part of the output
        manager.survey()
    for sentence in manager.idle_switches():
        print(f"lx plugins: {sentence}", file=sys.stderr)
    if options.action is None:
        print(json.dumps([as_data(plugin) for plugin in manager.plugins], indent=2) if options.json else table(manager.plugins))
        return 0
    findings = find(manager, options.name)
    if not findings:
        print(f"lx plugins show: {unknown(manager, options.name)}", file=sys.stderr)
        return 2
    if options.json:
        details = [{**as_data(plugin), "components": [component(manager, entry) for entry in entries]} for plugin, entries in findings]
        print(json.dumps(details, indent=2))
    else:
        print("\n\n".join(page(manager, plugin, entries) for plugin, entries in findings))
    return 0


def parser() -> argparse.ArgumentParser:
    """The command line of `lx plugins`."""
    top = argparse.ArgumentParser(
        prog="lx plugins", description="Lists the installed plugins; nothing but their entry modules is imported."
    )
    top.add_argument("--json", action="store_true", help="prints JSON")
    actions = top.add_subparsers(dest="action", metavar="show")
    show = actions.add_parser("show", help="shows one plugin, or one component, with the arguments that it takes")
    show.add_argument("name", metavar="NAME", help="the slug of a plugin, or the name of a component, alone or as NAME@DISTRIBUTION")
    show.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="prints JSON")
    return top


def table(found: Iterable[Plugin]) -> str:
    """One row for each plugin. In a terminal the reason of one that is not active stands under its row, so that both fit."""
    width = output_width()
    plugins = list(found)
    rows = [(plugin.slug, plugin.version, plugin.state, by_kind(plugin.entries) or "-", plugin.reason) for plugin in plugins]
    headers = ("PLUGIN", "VERSION", "STATE", "COMPONENTS", "REASON")
    if width is None:
        return columns([headers, *rows])
    lines = columns([headers[:4], *(row[:4] for row in rows)], width).splitlines()
    starts = [number for number, line in enumerate(lines) if not line.startswith(" ")]
    ends = [*starts[2:], len(lines)]
    for end, plugin in reversed(list(zip(ends, plugins, strict=True))):
        if plugin.reason:
            lines[end:end] = paragraph(plugin.reason, width, indent="    ").splitlines()
    return "\n".join(lines)


def by_kind(entries: Iterable[Entry]) -> str:
    """The components as `logger: csv; callback: a, b`."""
    kinds: dict[str, list[str]] = {}
    for entry in entries:
        kinds.setdefault(entry.kind, []).append(entry.name)
    return "; ".join(f"{kind}: {', '.join(names)}" for kind, names in kinds.items())


def find(manager: PluginManager, name: str) -> list[Finding]:
    """The plugins of that slug with all their components, and the components of that name in other plugins."""
    wanted, _, provider = name.partition("@")
    findings = []
    for plugin in manager.plugins:
        if provider and normalise(provider) != normalise(plugin.distribution):
            continue
        if normalise(plugin.slug) == normalise(wanted):
            findings.append((plugin, plugin.entries))
            continue
        entries = [entry for entry in plugin.entries if normalise(wanted) in entry.spellings or wanted == entry.class_name]
        if entries:
            findings.append((plugin, entries))
    return findings


def unknown(manager: PluginManager, name: str) -> str:
    """Why there is nothing to show: what to install, or the nearest name."""
    for kind in manager.registry.kinds():
        missing = manager.missing(kind, name)
        if missing is not None:
            return str(missing)
    slugs = [plugin.slug for plugin in manager.plugins]
    names = [*slugs, *(spelling for plugin in manager.plugins for entry in plugin.entries for spelling in entry.spellings)]
    near = get_close_matches(normalise(name.partition("@")[0]), names, n=1)
    hint = f"Did you mean {near[0]!r}?" if near else f"The plugins are: {', '.join(slugs) or 'none'}."
    return f"there is no plugin or component {name!r}. {hint}"


def as_data(plugin: Plugin) -> dict[str, Any]:
    """A plugin as JSON has it."""
    components: dict[str, list[dict[str, Any]]] = {}
    for entry in plugin.entries:
        row = {"name": entry.name, "aliases": list(entry.aliases), "summary": entry.summary, "roles": dict(entry.roles)}
        components.setdefault(entry.kind, []).append(row)
    return {
        "slug": plugin.slug,
        "distribution": plugin.distribution,
        "version": plugin.version,
        "module": plugin.module,
        "requires": list(plugin.requires),
        "state": plugin.state,
        "reason": plugin.reason,
        "components": components,
    }


def component(manager: PluginManager, entry: Entry) -> dict[str, Any]:
    """A component as JSON has it, with the arguments of its constructor; only this one is imported, and why it cannot be is told."""
    target = entry.target if isinstance(entry.target, str) else f"{entry.target.__module__}:{entry.class_name}"
    data: dict[str, Any] = {"kind": entry.kind, "name": entry.name, "aliases": list(entry.aliases), "summary": entry.summary}
    data |= {"class": target, "roles": dict(entry.roles), "defaults": {key: repr(value) for key, value in entry.defaults.items()}}
    try:
        with redirect_stdout(sys.stderr):
            cls = manager.registry.kind(entry.kind).load(entry)
    except ComponentError as error:
        return {**data, "doc": None, "arguments": None, "error": str(error)}
    return {**data, "doc": summary_of(cls), "arguments": arguments_of(cls, entry), "error": None}


def summary_of(cls: Any) -> str:
    """The first paragraph of a docstring, on one line."""
    return " ".join((inspect.getdoc(cls) or "").partition("\n\n")[0].split())


def arguments_of(cls: Any, entry: Entry) -> list[dict[str, Any]]:
    """The arguments of a constructor: name, annotation, default; a default given at registration ranks over the constructor's."""
    try:
        parameters = inspect.signature(cls).parameters.values()
    except ValueError:  # a class written in C
        return []
    rows = []
    for parameter in parameters:
        stars = "*" if parameter.kind is parameter.VAR_POSITIONAL else "**" if parameter.kind is parameter.VAR_KEYWORD else ""
        annotation = "" if parameter.annotation is parameter.empty else inspect.formatannotation(parameter.annotation)
        default = entry.defaults.get(parameter.name, parameter.default)
        given = default is not parameter.empty
        rows.append(
            {
                "name": stars + parameter.name,
                "annotation": annotation.strip("'\""),
                "required": not given and not stars,
                "default": repr(default) if given else None,
            }
        )
    return rows


def page(manager: PluginManager, plugin: Plugin, entries: Sequence[Entry]) -> str:
    """What `lx plugins show` prints of one plugin."""
    width = output_width()
    facts = [("plugin", plugin.slug), ("distribution", f"{plugin.distribution} {plugin.version}"), ("module", plugin.module)]
    facts += [("requires", requirement) for requirement in plugin.requires[:1]] + [("", requirement) for requirement in plugin.requires[1:]]
    facts += [("state", plugin.state)] + [("reason", plugin.reason)] * bool(plugin.reason)
    parts = [columns(facts, width)]
    if plugin.error is not None:
        parts.append("".join(traceback.format_exception(plugin.error)).rstrip())
    cards = [component(manager, entry) for entry in entries]
    for number, data in enumerate(cards):
        same = next((other["name"] for other in cards[:number] if data["arguments"] and other["arguments"] == data["arguments"]), None)
        parts.append(card(data, width, same))
    return "\n\n".join(parts)


def card(data: dict[str, Any], width: int | None, same: str | None) -> str:
    """What `lx plugins show` prints of one component; `same` names one above that takes the same arguments."""
    parts = [paragraph(f"{data['kind']} {data['name']!r}: {data['summary'] or data['doc'] or 'no summary'}", width)]
    facts = [("class", data["class"])]
    facts += [("also", ", ".join(data["aliases"]))] * bool(data["aliases"])
    facts += [("roles", ", ".join(f"{role} ({rank})" for role, rank in data["roles"].items()))] * bool(data["roles"])
    facts += [("given", ", ".join(f"{name}={value}" for name, value in data["defaults"].items()))] * bool(data["defaults"])
    facts += [("doc", data["doc"])] * bool(data["doc"])
    facts += [("error", data["error"])] * bool(data["error"])
    if same is not None:
        facts.append(("arguments", f"as for {same!r}"))
    elif data["arguments"] == []:
        facts.append(("arguments", "none"))
    parts.append(columns(facts, width, indent="  "))
    if data["arguments"] and same is None:
        parts += ["  arguments", *(paragraph(argument(row), width, indent="    ") for row in data["arguments"])]
    return "\n".join(parts)


def argument(row: dict[str, Any]) -> str:
    """An argument as a signature has it, the modules of its annotation left out."""
    annotation = _MODULES.sub("", row["annotation"])
    text = str(row["name"])
    if annotation:
        text += f": {annotation}"
    return text if row["default"] is None else f"{text} = {row['default']}"
