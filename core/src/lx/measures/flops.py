"""How many floating point operations a piece of a model takes."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from lx.rng import isolate_rng


def measure_flops(model: nn.Module, forward_fn: Callable[[], Any], loss_fn: Callable[[Any], torch.Tensor] | None = None) -> int:
    """The floating point operations of `forward_fn`, and, where `loss_fn` makes a scalar of what it returns, of the backward as well.

    Multiplications of matrices, convolutions and attention are counted, one multiplication and one addition each; what is done element by
    element is not. On the meta device nothing is computed or allocated, so that the largest model can be measured anywhere. `model` is the
    one that `forward_fn` runs; its gradients, and all random states, are left as they were.

    >>> with torch.device("meta"):
    ...     model, x = nn.Linear(32, 8), torch.randn(2, 32)
    >>> measure_flops(model, lambda: model(x)), measure_flops(model, lambda: model(x), torch.sum)
    (1024, 2048)
    """
    from torch.utils.flop_counter import FlopCounterMode  # noqa: PLC0415 -- only who measures needs it

    gradients = [(parameter, parameter.grad) for parameter in model.parameters()]
    for parameter, _ in gradients:
        parameter.grad = None
    counter = FlopCounterMode(display=False)
    try:
        with isolate_rng(), torch.set_grad_enabled(loss_fn is not None), counter:
            output = forward_fn()
            if loss_fn is not None:
                loss_fn(output).backward()
    finally:
        for parameter, gradient in gradients:
            parameter.grad = gradient
    return counter.get_total_flops()
