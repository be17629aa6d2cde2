"""ServableModule: what a model says about being served."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

from torch import nn

Converters = dict[str, Callable[[Any], Any]]


class ServableModule(ABC, nn.Module):
    """A model that can be served over HTTP; a base beside `LightningModule`.

    `POST /serve` takes `{"body": {name: value}}`. Each value goes through the deserializer of its name, all of them go to `serve_step`
    as keyword arguments, and each value of what that returns goes through the serializer of its name. The model that is served is in
    eval mode, computes no gradients, and answers one request at a time.

    >>> class Doubler(ServableModule):
    ...     def configure_payload(self): return {"body": {"x": 2}}
    ...     def configure_serialization(self): return {}, {}
    ...     def serve_step(self, x): return {"doubled": 2 * x}
    ...     def configure_response(self): return {"doubled": 4}
    >>> Doubler().serve_step(**Doubler().configure_payload()["body"])
    {'doubled': 4}
    """

    @abstractmethod
    def configure_payload(self) -> dict[str, Any]:
        """A request that the validator makes: a mapping for JSON with the inputs under `"body"`; called on rank 0 of the training run."""

    @abstractmethod
    def configure_serialization(self) -> tuple[Converters, Converters]:
        """The deserializers of inputs and the serializers of outputs, each by name; called once, in the process that serves.

        What has none passes as JSON has it: numbers, strings, lists, mappings.
        """

    @abstractmethod
    def serve_step(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """The outputs for one request, by name; called with the deserialized inputs, in the process that serves."""

    @abstractmethod
    def configure_response(self) -> dict[str, Any]:
        """What the answer to `configure_payload` must be, as JSON has it; called on rank 0 of the training run."""
