"""How checkpoint files are named, and how they are found again; nothing here writes."""

import os
import re
from collections.abc import Iterable, Mapping
from string import Formatter
from typing import Any

import torch

from lx.kernel.errors import MisconfigurationException
from lx.urls import local_or_url

Part = tuple[str, str | None, str]
"""A piece of a template: the text before a field, the field's name (None at the end), and its format."""


def parse_template(template: str) -> list[Part]:
    """The pieces of a template. A field's name may hold dots, slashes and spaces, and all but a colon.

    Raises `MisconfigurationException` for what is no template.

    >>> parse_template("best-{val/acc:.2f}")
    [('best-', 'val/acc', '.2f')]
    """
    try:
        pieces = list(Formatter().parse(template))
    except ValueError as error:
        raise MisconfigurationException(
            f"filename={template!r}: {error}. Write fields as {{name}} or {{name:format}}, and a literal brace twice."
        ) from error
    parts: list[Part] = []
    for literal, name, form, conversion in pieces:
        if name == "" or "{" in (form or ""):
            raise MisconfigurationException(f"filename={template!r}: a field needs a name and a plain format, such as {{epoch:03d}}.")
        parts.append((literal, f"{name}!{conversion}" if conversion else name, form or ""))
    return parts


def check_template(template: str) -> None:
    """Raises `MisconfigurationException` now for a template that would fail when the first checkpoint is due."""
    for _, name, form in parse_template(template):
        try:
            _format(0.0, form)
        except ValueError as error:
            raise MisconfigurationException(
                f"filename={template!r}: the format {form!r} of {name!r} does not fit a number ({error})."
            ) from error


def fill_template(template: str, metrics: Mapping[str, Any], *, insert_names: bool = True, equals: str = "=") -> str:
    """The template with values in place of its fields; a metric that is not there counts as 0.

    `metrics` holds numbers and tensors of one element; those that the template names, and no others, are read from their device.

    >>> fill_template("{epoch}-{val_loss:.2f}", {"epoch": 3, "val_loss": 0.1234})
    'epoch=3-val_loss=0.12'
    >>> fill_template("{epoch:03d}", {"epoch": 3}, insert_names=False)
    '003'
    """
    filled = []
    for literal, name, form in parse_template(template):
        filled.append(literal)
        if name is not None:
            value = metrics.get(name, 0)
            value = value.item() if isinstance(value, torch.Tensor) else value
            filled.append(f"{name}{equals}{_format(value, form)}" if insert_names else _format(value, form))
    return "".join(filled)


def _format(value: float, form: str) -> str:
    try:
        return format(value, form)
    except ValueError:
        # `{accuracy:03d}` of 3.0: a run must not end over a name, so integer formats take the whole part.
        return format(int(value), form)


def nameable_metrics(trainer: Any) -> dict[str, Any]:
    """What a template may name and `monitor` may be: all that was logged, and `epoch` and `step` as integers."""
    metrics = dict(trainer.callback_metrics)
    metrics["epoch"] = int(metrics.get("epoch", trainer.current_epoch))
    metrics["step"] = int(metrics.get("step", trainer.global_step))
    return metrics


def settled(path: str | os.PathLike[str]) -> str:
    """The absolute path, with `~` and links resolved, or the URL."""
    place = local_or_url(path)
    return place if isinstance(place, str) else os.path.realpath(os.path.expanduser(place))


def find_named(names: Iterable[str], template: str, join: str, extension: str) -> set[str]:
    """Those of the names of files and directories that a template may have given, whatever its values and version were."""
    pattern = "".join(re.escape(literal) + (".*" if name is not None else "") for literal, name, _ in parse_template(template))
    pattern += f"({re.escape(join)}v\\d+)?{re.escape(extension)}"
    return {name for name in names if re.fullmatch(pattern, name)}


def new_path(callback: Any, trainer: Any, metrics: Mapping[str, Any], template: str | None, replaces: str = "") -> str:
    """The path for a callback's next checkpoint, with a version where another file than the one to be replaced has the name.

    Called on every rank; rank 0 names it, since values that were not reduced differ between ranks.
    """
    path: str = trainer.strategy.broadcast(callback.format_checkpoint_name(metrics, template))
    version = callback.STARTING_VERSION
    while callback.enable_version_counter and path != replaces and callback.file_exists(path, trainer):
        path = trainer.strategy.broadcast(callback.format_checkpoint_name(metrics, template, ver=version))
        version += 1
    return path
