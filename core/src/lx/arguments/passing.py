"""Constructor arguments that are passed by name alone, a wrong one being answered with the nearest, or come from the environment."""

import ast
import functools
import inspect
import os
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, ParamSpec, TypeVar

from lx.kernel.errors import ArgumentTypeError
from lx.rank_zero import rank_zero_info, rank_zero_warn

P = ParamSpec("P")
R = TypeVar("R")

RENAMED = {
    "auto_select_gpus": "devices",
    "checkpoint_callback": "enable_checkpointing",
    "distributed_backend": "strategy",
    "gpus": "devices, with accelerator='gpu'",
    "num_processes": "devices",
    "progress_bar_refresh_rate": "the progress bar in callbacks",
    "resume_from_checkpoint": "trainer.fit(model, ckpt_path=...)",
    "weights_summary": "enable_model_summary",
}
"""Arguments that Trainers of other times had, and what says the same now."""


def passed_by_name(init: Callable[P, None]) -> Callable[P, None]:
    """Has a constructor say what to do about an argument that it does not know, and about one that was passed without its name.

    >>> class Oven:
    ...     @passed_by_name
    ...     def __init__(self, *, degrees=0): ...
    >>> Oven(degree=3)
    Traceback (most recent call last):
    lx.kernel.errors.ArgumentTypeError: Oven has no argument 'degree'. Did you mean 'degrees'?
    """
    accepted = list(inspect.signature(init).parameters)[1:]

    @functools.wraps(init)
    def checked(*args: P.args, **given: P.kwargs) -> None:
        name = type(args[0]).__name__
        if len(args) > 1:
            hint = " The model and its data are passed to fit, validate, test or predict." if hasattr(args[0], "fit") else ""
            raise ArgumentTypeError(f"{name} takes its arguments by name, and got a {type(args[1]).__name__} without one.{hint}")
        for argument in given:
            if argument not in accepted:
                raise ArgumentTypeError(f"{name} has no argument {argument!r}. {_instead(argument, accepted)}")
        init(*args, **given)

    return checked


def known_by_name(method: Callable[P, R]) -> Callable[P, R]:
    """Has a method say what to do about an argument that it does not know.

    >>> class Oven:
    ...     @known_by_name
    ...     def bake(self, dough, minutes=30): ...
    >>> Oven().bake("bread", minute=3)
    Traceback (most recent call last):
    lx.kernel.errors.ArgumentTypeError: Oven.bake has no argument 'minute'. Did you mean 'minutes'?
    """
    accepted = list(inspect.signature(method).parameters)[1:]

    @functools.wraps(method)
    def checked(*args: P.args, **given: P.kwargs) -> R:
        for argument in given:
            if argument not in accepted:
                raise ArgumentTypeError(
                    f"{type(args[0]).__name__}.{method.__name__} has no argument {argument!r}. {_instead(argument, accepted)}"
                )
        return method(*args, **given)

    return checked


def _instead(argument: str, accepted: list[str]) -> str:
    if argument in RENAMED:
        return f"Use {RENAMED[argument]}."
    near = get_close_matches(argument, accepted, n=1)
    return f"Did you mean {near[0]!r}?" if near else f"It takes: {', '.join(accepted)}."


# -- from the environment -----------------------------------------------------------------------------------------------------

NO_TEXT = ("manager",)
"""Arguments that are objects, which no variable can hold."""

SHARED_PREFIXES = ("LT_",)
"""Prefixes that other programs may use for variables of their own, of which nothing is said."""

_told_of: set[str] = set()


@dataclass(frozen=True, slots=True)
class EnvironmentDefault:
    """The value of an argument that a variable gives, and the variable."""

    value: Any
    variable: str


def or_from_environment(*prefixes: str) -> Callable[[Callable[P, None]], Callable[P, None]]:
    """Has a constructor take arguments that it was not given from variables such as `LX_TRAINER_MAX_EPOCHS`; the first prefix wins.

    A value is a Python literal where it can be read as one, text otherwise; an empty one counts as none. `self.from_environment` says
    which variable each argument came from, and so does an error about it. A variable that names no argument is warned of, once in a
    process.
    """

    def decorate(init: Callable[P, None]) -> Callable[P, None]:
        accepted = [name for name in list(inspect.signature(init).parameters)[1:] if name not in NO_TEXT]

        @functools.wraps(init)
        def filled(*args: P.args, **given: P.kwargs) -> None:
            warn_of_unknown(prefixes, accepted, os.environ)
            found = environment_defaults(prefixes, [name for name in accepted if name not in given], os.environ)
            new: Any = args[0]
            new.from_environment = {name: default.variable for name, default in found.items()}
            if found:
                listed = ", ".join(f"{name}={default.value!r} ({default.variable})" for name, default in found.items())
                rank_zero_info(f"from the environment: {listed}.")
            given.update({name: default.value for name, default in found.items()})
            try:
                init(*args, **given)
            except Exception as error:
                name_variables(error, found)
                raise

        return filled

    return decorate


def environment_defaults(prefixes: Collection[str], names: Collection[str], environ: Mapping[str, str]) -> dict[str, EnvironmentDefault]:
    """The values that variables give to arguments.

    >>> environment_defaults(["LX_OVEN_"], ["degrees", "lid"], {"LX_OVEN_DEGREES": "180", "LX_OVEN_LID": "half open"})["lid"].value
    'half open'
    """
    variables = {name: next((v for v in (prefix + name.upper() for prefix in prefixes) if environ.get(v)), None) for name in names}
    return {name: EnvironmentDefault(as_literal(environ[variable]), variable) for name, variable in variables.items() if variable}


def as_literal(text: str) -> Any:
    """The Python literal that a text is, a list for values with commas between them, or else the text.

    >>> as_literal("0.5"), as_literal("0,1"), as_literal("10ep"), as_literal("None")
    (0.5, [0, 1], '10ep', None)
    """
    try:
        value = ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return text
    return list(value) if isinstance(value, tuple) else value


def warn_of_unknown(prefixes: Collection[str], accepted: Collection[str], environ: Mapping[str, str]) -> None:
    """Warns of each variable with one of the prefixes that names no argument, once in a process."""
    for variable in environ:
        prefix = next((prefix for prefix in prefixes if variable.startswith(prefix) and prefix not in SHARED_PREFIXES), None)
        if prefix is None or variable in _told_of:
            continue
        name = variable.removeprefix(prefix).lower()
        if name in accepted or name.startswith("_"):  # two underscores belong to a command line
            continue
        _told_of.add(variable)
        near = get_close_matches(name, accepted, n=1)
        instead = f"Use {RENAMED[name]}." if name in RENAMED else f"Did you mean {prefix}{near[0].upper()}?" if near else ""
        # Said of the line that makes the object, which is the caller of the wrapper.
        rank_zero_warn(f"the environment variable {variable} names no argument, and changes nothing. {instead}".strip(), stacklevel=4)


def name_variables(error: Exception, found: Mapping[str, EnvironmentDefault]) -> None:
    """Has an error that speaks of an argument say which variable gave it; one that seems to speak of none notes them all."""
    said = str(error)
    meant = {
        name: default
        for name, default in found.items()
        if re.search(rf"\b{name}\b", said) or (isinstance(default.value, str) and repr(default.value) in said)
    }
    origins = "; ".join(f"{name} comes from the environment variable {default.variable}" for name, default in (meant or found).items())
    if meant and error.args == (said,):
        error.args = (f"{said} ({origins})",)
    elif origins:
        error.add_note(f"({origins})")
