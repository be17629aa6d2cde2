"""`lx ckpt inspect`: what a file is, where training stood, and what is in it."""

import argparse
import json
from collections.abc import Mapping, Sequence
from typing import Any

from lx.cli.ckpt.amounts import counted, human_bytes
from lx.cli.table import columns, output_width, paragraph
from lx.kernel.registry import Registry

LONGEST = 60
"""So many characters of a value are shown within a line of several."""


def add_to(actions: Any) -> None:
    """Adds the command to the parser of `lx ckpt`."""
    parser: argparse.ArgumentParser = actions.add_parser(
        "inspect",
        help="says what a checkpoint is, and what is in it",
        description="Says what a checkpoint is, where training stood, and what is in it. Tensors are not read where the format allows that,"
        " and not checked, which `lx ckpt verify` does.",
    )
    parser.add_argument("file", metavar="FILE", help="a checkpoint: a file, or the folder of a sharded one")
    parser.add_argument("--tensors", action="store_true", help="lists all tensors, each with dtype, shape and bytes")
    parser.add_argument("--json", action="store_true", help="prints JSON")
    parser.set_defaults(run=run)


def run(registry: Registry, options: argparse.Namespace) -> int:
    """Prints what is in a checkpoint; raises what reading it raises."""
    from lx.checkpoints.description import describe, tensors  # noqa: PLC0415 -- `lx ckpt --help` needs no torch
    from lx.checkpoints.formats import Formats  # noqa: PLC0415

    found = Formats(registry).find(options.file)
    content = found.outline()
    facts = {"path": str(found.path), "format": found.format, "size": found.size(), **describe(content)}
    listed = tensors(content) if options.tensors else []
    if options.json:
        print(json.dumps(facts | ({"tensors": listed} if options.tensors else {}), indent=2))
    else:
        print("\n\n".join(section for section in (*page(facts), tensor_table(listed)) if section))
    return 0


def page(facts: Mapping[str, Any]) -> list[str]:
    """The sections for a reader; one about which there is nothing to say is empty."""
    width = output_width()
    return [
        f"{facts['path']}\n{columns(_head(facts), width, indent='  ')}",
        _section("contents", _parts(facts["parts"]), width, right=(1, 2, 3)),
        _section("optimizers", _optimizers(facts["optimizers"]), width),
        _section("schedulers", [(str(number), _told(state)) for number, state in enumerate(facts["schedulers"])], width),
        _callbacks(facts["callbacks"], width),
        _section("hyperparameters", _rows(facts["hyperparameters"]), width),
        _section("data module", _datamodule(facts["datamodule"]), width),
        _section("other parts", [(key, _told(value)) for key, value in facts["other"].items()], width),
    ]


def tensor_table(listed: Sequence[Mapping[str, Any]]) -> str:
    """One row for each tensor."""
    rows = [(one["dtype"], shape(one["shape"]), human_bytes(one["bytes"]), one["name"]) for one in listed]
    return columns([("DTYPE", "SHAPE", "BYTES", "NAME"), *rows], output_width(), right=(2,)) if rows else ""


def shape(sizes: Sequence[int]) -> str:
    """The shape of a tensor.

    >>> shape([3, 224, 224]), shape([])
    ('3 x 224 x 224', 'one number')
    """
    return " x ".join(map(str, sizes)) or "one number"


def _head(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    legacy, weights = facts["legacy_version"], next((part for part in facts["parts"] if part["name"] in ("state_dict", "weights")), None)
    rows: list[tuple[str, Any]] = [
        ("kind", facts["kind"]),
        ("format", f"{facts['format']}, {human_bytes(facts['size'])} ({facts['size']:,} bytes)"),
        ("written by", facts["written_by"]),
        ("layout", facts["layout"] and f"Lightning {facts['layout']}" + (f", brought up to date from {legacy}" if legacy else "")),
        ("position", facts["position"] and facts["position"]["words"]),
        ("epoch", facts["epoch"]),
        ("optimizer steps", facts["global_step"]),
        ("weights", weights and f"{counted(weights['numbers'], 'number')} in {counted(weights['tensors'], 'tensor')}"),
        ("precision", ", ".join(f"{name}: {_told(state)}" for name, state in facts["precision"].items())),
        ("random states", _of_processes(facts["random_states"])),
        ("loaders", facts["loaders"] and f"{counted(len(facts['loaders']), 'state')} of loaders that keep one"),
    ]
    return [(label, str(value)) for label, value in rows if value not in (None, "", [])]


def _of_processes(sources: Sequence[Sequence[str]]) -> str:
    if not any(sources):
        return ""
    return ", ".join(sources[0]) + (f", of each of {len(sources)} processes" if len(sources) > 1 else "")


def _parts(parts: Sequence[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    rows = [(part["name"], f"{part['tensors']:,}", f"{part['numbers']:,}", human_bytes(part["bytes"]), "") for part in parts]
    return [("PART", "TENSORS", "NUMBERS", "BYTES", ""), *rows] if rows else []


def _optimizers(optimizers: Sequence[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [("", "GROUPS", "LR", "PARAMETERS", "STATES", "BYTES", "EACH STATE HOLDS")]
    for number, one in enumerate(optimizers):
        rates = ", ".join(_short(group.get("lr", "none")) for group in one["groups"])
        numbers = (str(len(one["groups"])), rates, f"{one['parameters']:,}", f"{one['states']:,}", human_bytes(one["bytes"]))
        rows.append((str(number), *numbers, ", ".join(one["keeps"]) or "nothing"))
    return rows if optimizers else []


def _callbacks(states: Mapping[str, Any], width: int | None) -> str:
    """Each key on a line of its own: it holds the arguments of its callback, and is long."""
    lines = [paragraph(text, width, indent) for key, state in states.items() for text, indent in ((key, "  "), (_told(state), "    "))]
    return "\n".join(["callbacks", *lines]) if lines else ""


def _datamodule(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    told = {**facts, **({"state": _told(facts["state"])} if "state" in facts else {})}
    return [(key, value if isinstance(value, str) else _told(value)) for key, value in told.items()]


def _rows(values: Any) -> list[tuple[str, str]]:
    pairs = values.items() if isinstance(values, Mapping) else enumerate(values if isinstance(values, list) else [values])
    return [(str(key), _text(value)) for key, value in pairs]


def _section(title: str, rows: Sequence[Sequence[str]], width: int | None, right: Sequence[int] = ()) -> str:
    return f"{title}\n{columns(rows, width, indent='  ', right=right)}" if rows else ""


def _told(state: Any) -> str:
    """A state in a line."""
    if not isinstance(state, Mapping):
        return _short(state)
    return ", ".join(f"{key} {_short(value)}" for key, value in state.items()) or "empty"


def _short(value: Any) -> str:
    text = _text(value)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 4]} ..."


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list):
        return f"[{', '.join(map(_text, value))}]"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{key}: {_text(one)}' for key, one in value.items())}}}"
    return value if isinstance(value, str) and value else json.dumps(value)
