"""How optimizers are stepped and gradients clipped, found out once, before the first batch."""

import functools
import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from torch.optim import Optimizer

from lx.interfaces.precision import Precision


def find_clip(trainer: Any) -> Callable[[Any], Any] | None:
    """How gradients are clipped: by the module's own hook, by the trainer's value, or not at all."""
    own = trainer.dispatch.own("configure_gradient_clipping")
    value, algorithm = trainer.gradient_clip_val, trainer.gradient_clip_algorithm
    if own is not None:
        return lambda optimizer: own(optimizer, gradient_clip_val=value, gradient_clip_algorithm=algorithm)
    clip = trainer.dispatch.own("clip_gradients") or (trainer.lightning_module.clip_gradients if value else None)
    if clip is not None:
        return lambda optimizer: clip(optimizer, value, algorithm)
    return None


def find_bare_step(precision: Precision, optimizers: Sequence[Any]) -> Callable[[], Any]:
    """The step without a closure: each optimizer's own, unless the precision has another."""
    neutral = type(precision).optimizer_step is Precision.optimizer_step
    steps = [optimizer.step if neutral else functools.partial(precision.optimizer_step, optimizer) for optimizer in optimizers]
    return steps[0] if len(steps) == 1 else lambda: [step() for step in steps]


def find_clear(optimizer: Any, profiles: bool) -> Callable[[], Any]:
    """How an optimizer's gradients are let go: by its own `zero_grad`, or by what that of torch does in the end.

    What torch does before, to give that line a name in profiles, takes twenty times as long as the line in a small step.
    """
    if profiles or getattr(type(optimizer), "zero_grad", None) is not Optimizer.zero_grad or "zero_grad" in vars(optimizer):
        return optimizer.zero_grad  # type: ignore[no-any-return]

    def clear() -> None:
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                parameter.grad = None

    return clear


def step_each(call: Callable[..., Any], optimizers: list[Any], epoch: int, batch_idx: int, closure: Callable[[], Any]) -> None:
    """Steps optimizers; of several, the first that asks for the closure has forward and backward run for all."""
    once = functools.cache(closure) if len(optimizers) > 1 else closure
    for optimizer in optimizers:
        call(epoch, batch_idx, optimizer, once)


def discard_gradients(optimizers: Iterable[Any]) -> None:
    """Leaves no gradient, so that a step changes nothing."""
    for optimizer in optimizers:
        optimizer.zero_grad(set_to_none=True)


def runs_closure_inside(optimizer: Any) -> bool:
    """Whether an optimizer must be given the closure that runs forward and backward.

    Those of torch call it first of all, so that it may as well run before; only one that calls it again, like LBFGS, requires it in its
    signature. Those of other packages get it always.
    """
    step = type(optimizer).step
    parameter = inspect.signature(step).parameters.get("closure")
    return not (step.__module__.startswith("torch.optim") and parameter is not None and parameter.default is None)
