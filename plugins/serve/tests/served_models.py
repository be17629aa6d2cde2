"""Models that are served; the process of the server imports them from here."""

import os
from typing import Any, ClassVar

import torch

from lx.testing.models import TinyModule
from lx_plugin_serve import ServableModule


class Good(TinyModule, ServableModule):
    """Answers with a sum, and with how it was run."""

    payload: ClassVar[Any] = {"body": {"x": [1.0] * 8, "note": "kept"}}
    expected: ClassVar[Any] = {"size": 1, "note": "kept", "training": False, "grad": False, "trained": False}

    def configure_payload(self) -> Any:
        return self.payload

    def configure_serialization(self) -> Any:
        return {"x": lambda values: torch.tensor([values])}, {"size": lambda tensor: tensor.shape[-1]}

    def serve_step(self, x: torch.Tensor, note: str) -> Any:
        return {
            "size": self(x),
            "note": note,
            "training": self.training,
            "grad": torch.is_grad_enabled(),
            "trained": self.is_trained(),
        }

    def is_trained(self) -> bool:
        """Whether a trainer came along."""
        try:
            return self.trainer is not None
        except RuntimeError:
            return False

    def configure_response(self) -> Any:
        return self.expected


class Different(Good):
    expected: ClassVar[Any] = {"size": 2}


class NoBody(Good):
    payload: ClassVar[Any] = {"x": [1.0]}


class NoJSON(Good):
    payload: ClassVar[Any] = {"body": {"x": torch.ones(8)}}


class Failing(Good):
    def serve_step(self, x: torch.Tensor, note: str) -> Any:
        raise ArithmeticError("no such number")


class Listing(Good):
    def serve_step(self, x: torch.Tensor, note: str) -> Any:
        return [1.0]


class Unserialized(Good):
    def configure_serialization(self) -> Any:
        return {}, {}

    def serve_step(self, x: Any, note: str) -> Any:
        return {"y": torch.tensor(x)}


class Dying(Good):
    def serve_step(self, x: torch.Tensor, note: str) -> Any:
        os._exit(3)


class DyingEarly(Good):
    def __setstate__(self, state: Any) -> None:
        os._exit(4)


class Unloadable(Good):
    def __setstate__(self, state: Any) -> None:
        raise ArithmeticError("not here")


class Slow(Good):
    """Takes an hour to arrive, or until its process is ended."""

    def __setstate__(self, state: Any) -> None:
        import threading

        threading.Event().wait(3600)
