"""The callbacks that a model brings to a run."""

from typing import Any

from lx.dispatch import order_callbacks, require_distinct_states
from lx.kernel.errors import ComponentTypeError


def merge_callbacks(trainer: Any, module: Any) -> None:
    """Has callbacks of the model replace those of the trainer that have the same class, or a base of it."""
    returned = module.configure_callbacks()
    listed = list(returned) if isinstance(returned, list | tuple) else [returned] if returned else []
    if not listed:
        return
    registry = trainer.manager.registry.callback
    try:
        brought = [registry.build(one) for one in listed]
    except ComponentTypeError as error:
        raise ComponentTypeError(f"{type(module).__name__}.configure_callbacks returned {returned!r}: {error}") from None
    kept = [one for one in trainer.callbacks if not any(isinstance(new, type(one)) for new in brought)]
    require_distinct_states([*kept, *brought])
    trainer.callbacks = order_callbacks([*kept, *brought], registry)
