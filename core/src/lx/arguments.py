"""Constructor arguments that are passed by name alone: a wrong name is answered with the nearest one."""

import functools
import inspect
from collections.abc import Callable
from difflib import get_close_matches
from typing import ParamSpec

from lx.kernel.errors import ArgumentTypeError

P = ParamSpec("P")

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
            raise ArgumentTypeError(
                f"{name} takes its arguments by name, and got a {type(args[1]).__name__} without one. The model and its data are passed"
                " to fit, validate, test or predict."
            )
        for argument in given:
            if argument not in accepted:
                raise ArgumentTypeError(f"{name} has no argument {argument!r}. {_instead(argument, accepted)}")
        init(*args, **given)

    return checked


def _instead(argument: str, accepted: list[str]) -> str:
    if argument in RENAMED:
        return f"Use {RENAMED[argument]}."
    near = get_close_matches(argument, accepted, n=1)
    return f"Did you mean {near[0]!r}?" if near else f"It takes: {', '.join(accepted)}."
