"""The graph of a model, as TensorBoard's GRAPHS tab shows it."""

import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from lx.batch import move_to


class _Plain(nn.Module):
    """The layers of a model under a plain module.

    Tracing asks a module for each of its attributes, and properties of a LightningModule answer only at their time.
    """

    def __init__(self, model: nn.Module, names: tuple[str, ...]) -> None:
        super().__init__()
        self.call = (model, names)  # in a tuple, so that the model is no layer of this module
        for name, layer in model.named_children():
            self.add_module(name, layer)
        for name, parameter in model.named_parameters(recurse=False):
            self.register_parameter(name, parameter)
        for name, buffer in model.named_buffers(recurse=False):
            self.register_buffer(name, buffer)

    def forward(self, *inputs: Any) -> Any:
        model, names = self.call
        return model.forward(**dict(zip(names, inputs, strict=True))) if names else model.forward(*inputs)


def add_graph(writer: Any, model: nn.Module, inputs: Any) -> None:
    """Traces a model, in eval mode and without gradients, and hands the graph to a `SummaryWriter`.

    `inputs` are a tensor, a tuple of positional or a dict of keyword arguments; they are moved to where the parameters are. Raises what
    the model or the tracer raises.
    """
    names = tuple(inputs) if isinstance(inputs, Mapping) else ()
    values = tuple(inputs.values()) if names else inputs if isinstance(inputs, tuple) else (inputs,)
    parameter = next(model.parameters(), None)
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of torch.jit.trace, which is SummaryWriter's choice and not the user's
            plain: nn.Module = type(type(model).__name__, (_Plain,), {})(model, names)  # the graph shows the name of its class
            writer.add_graph(plain.eval(), values if parameter is None else move_to(values, parameter.device))
    finally:
        for module, training in modes:
            module.training = training
