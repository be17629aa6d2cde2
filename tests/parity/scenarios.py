"""What both libraries are put through: each function gets a recorder of one of them, and does the same with either."""

from collections.abc import Callable
from typing import Any

from recording import Recorder

Scenario = Callable[[Recorder], Any]
SCENARIOS: dict[str, Scenario] = {}
WARNINGS: dict[str, str] = {}
"""Scenarios in which lx warns, and of what."""
REFERENCES: set[str] = set()
"""Scenarios of Lightning alone, whose calls are those of lx in another one."""


def scenario(function: Scenario | None = None, *, warns: str | None = None, reference: bool = False) -> Any:
    """Takes a function up as a scenario; `warns`: what lx has to warn of in it; `reference`: it is for Lightning alone."""

    def take(found: Scenario) -> Scenario:
        SCENARIOS[found.__name__] = found
        if warns is not None:
            WARNINGS[found.__name__] = warns
        if reference:
            REFERENCES.add(found.__name__)
        return found

    return take(function) if function is not None else take


def doing(recorder: Recorder, hook: str, action: Callable[..., Any]) -> Any:
    """A callback whose `hook` is `action(trainer, module, ...)`."""
    return type("Acts", (recorder.world.api.Callback,), {hook: lambda this, *args, **kwargs: action(*args, **kwargs)})()


def stop(trainer: Any, *_: Any) -> None:
    """Asks the trainer to stop."""
    trainer.should_stop = True


def stop_at(batch: int) -> Callable[..., None]:
    """Asks the trainer to stop after a batch."""

    def action(trainer: Any, module: Any, outputs: Any, data: Any, batch_idx: int) -> None:
        if batch_idx == batch:
            trainer.should_stop = True

    return action
