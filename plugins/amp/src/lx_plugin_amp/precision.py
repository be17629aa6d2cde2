"""Automatic mixed precision: parameters stay in float32, and operations for which that is safe run in 16 bits."""

import functools
import inspect
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor
from torch.amp import GradScaler
from torch.optim import Optimizer

from lx.batch import map_tensors
from lx.interfaces.precision import Precision, PrecisionCapabilities
from lx.kernel.errors import MisconfigurationException
from lx.rank_zero import rank_zero_warn

DTYPES = {"16-mixed": torch.float16, "bf16-mixed": torch.bfloat16}
WHY = "float16 gains nothing on the CPU"


class MixedPrecision(Precision):
    """`16-mixed` or `bf16-mixed`: forward passes run under `torch.autocast`; with float16, a `GradScaler` scales the loss.

    `device` is a torch device type such as `"cuda"`, and comes from the run if left out. `scaler`, for `16-mixed` only, replaces the
    `torch.amp.GradScaler()` that is made otherwise. A step whose gradients overflow is left out and counts all the same.

    On the CPU, where float16 gains nothing, `16-mixed` becomes `bf16-mixed` with a warning, unless a scaler was given.

    Raises `ValueError` for another precision, and `MisconfigurationException` for a scaler with bfloat16.

    >>> precision = MixedPrecision("bf16-mixed", device="cpu")
    >>> with precision.forward_context():
    ...     torch.nn.Linear(2, 1)(torch.ones(1, 2)).dtype
    torch.bfloat16
    """

    def __init__(self, precision: str = "16-mixed", device: str | None = None, scaler: GradScaler | None = None) -> None:
        if precision not in DTYPES:
            raise ValueError(f"precision={precision!r}: MixedPrecision takes {' or '.join(map(repr, DTYPES))}.")
        if scaler is not None and precision == "bf16-mixed":
            raise MisconfigurationException(
                "scaler was given with precision='bf16-mixed', which has the range of float32 and needs none; drop it, or use '16-mixed'."
            )
        self.precision = precision
        self.dtype = DTYPES[precision]
        self.device = device
        self.scaler = scaler
        self.capabilities = PrecisionCapabilities(scales_loss=precision == "16-mixed")
        self._backwards = 0
        self._unscaled: dict[Optimizer, int] = {}  # with the number of the backward whose gradients were unscaled last
        self._stepped: set[Optimizer] = set()

    @classmethod
    def instead_of(cls, name: str, device_type: str) -> tuple[str, str] | None:
        """`bf16-mixed` for `16-mixed` on the CPU."""
        return ("bf16-mixed", WHY) if name == "16-mixed" and device_type == "cpu" else None

    def connect(self, device: torch.device) -> None:
        """Takes the device of the run, and makes the scaler for it.

        Raises `MisconfigurationException` if the constructor was given another type of device.
        """
        if self.device is not None and torch.device(self.device).type != device.type:
            raise MisconfigurationException(
                f"MixedPrecision was made for device={self.device!r}, and the run is on {str(device)!r}; leave the argument out."
            )
        self.device = device.type
        if self.precision == "16-mixed" and self.scaler is None:
            if device.type == "cpu":
                self._become_bfloat16()
            else:
                self.scaler = GradScaler(device.type)

    def _become_bfloat16(self) -> None:
        rank_zero_warn(
            f"precision='16-mixed': {WHY}, so 'bf16-mixed' is used; write that to silence this, or keep float16 with"
            " plugins=MixedPrecision('16-mixed', scaler=torch.amp.GradScaler('cpu'))."
        )
        self.precision, self.dtype = "bf16-mixed", torch.bfloat16
        self.capabilities = PrecisionCapabilities()

    def forward_context(self) -> AbstractContextManager[Any]:
        """`torch.autocast` for the device."""
        if self.device is None:
            raise RuntimeError("MixedPrecision does not know its device; give one to the constructor, or call connect.")
        return torch.autocast(self.device, dtype=self.dtype)

    def convert_output(self, data: Any) -> Any:
        """The output with its floating-point tensors in the default dtype."""
        return map_tensors(_to_default, data)

    def scale_loss(self, loss: Tensor) -> Tensor:
        """The loss multiplied by the scale, in `16-mixed`; called once for each backward."""
        if self.scaler is None:
            return loss
        if self._stepped:
            self._update_scale()
        self._backwards += 1
        return self.scaler.scale(loss)

    def unscale_gradients(self, optimizer: Optimizer) -> None:
        """Divides the gradients by the scale of the loss, once after each backward, however often it is called."""
        if self.scaler is None or self._unscaled.get(optimizer) == self._backwards or not self._has_new_gradients(optimizer):
            return
        if optimizer in self._unscaled:  # the caller did not step after the last time, so the scaler still waits for that step
            self._update_scale()
        self.scaler.unscale_(optimizer)
        self._unscaled[optimizer] = self._backwards

    def optimizer_step(self, optimizer: Optimizer, closure: Callable[[], Any] | None = None, **kwargs: Any) -> Any:
        """Takes the step, unless gradients overflowed; returns what the closure returns, or else what the optimizer does.

        Raises `MisconfigurationException` in `16-mixed` for an optimizer whose step demands a closure, such as LBFGS.
        """
        if self.scaler is None:
            return super().optimizer_step(optimizer, closure, **kwargs)
        if demands_closure(type(optimizer)):  # type: ignore[arg-type]
            raise MisconfigurationException(
                f"{type(optimizer).__name__} evaluates the loss several times within a step, which a gradient scaler does not allow: "
                "precision='16-mixed' cannot be used with it; use 'bf16-mixed' or '32-true'."
            )
        if closure is None:
            return self.scaler.step(optimizer, **kwargs) if self._mark_stepped(optimizer) else None
        with torch.enable_grad():
            loss = closure()  # before the step, not within: the scaler must see the gradients to decide whether there is one
        if self._mark_stepped(optimizer):
            self.scaler.step(optimizer, **kwargs)
        return loss

    def state_dict(self) -> dict[str, Any]:
        """The state of the scaler; empty in `bf16-mixed`."""
        if self.scaler is None:
            return {}
        if self._stepped:
            self._update_scale()
        return self.scaler.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes up the state of a scaler; `bf16-mixed` has no use for one."""
        if self.scaler is not None and state:
            self._unscaled.clear()
            self._stepped.clear()
            self.scaler.load_state_dict(state)

    def _has_new_gradients(self, optimizer: Optimizer) -> bool:
        """False where no backward came since the last step, or it reached none of the parameters: the scaler would raise."""
        return optimizer not in self._stepped and any(
            parameter.grad is not None for group in optimizer.param_groups for parameter in group["params"]
        )

    def _mark_stepped(self, optimizer: Optimizer) -> bool:
        if not self._has_new_gradients(optimizer):
            return False
        self._stepped.add(optimizer)
        return True

    def _update_scale(self) -> None:
        """Called late, before the next backward: of several optimizers that step after one, all must unscale by the same scale."""
        if self.scaler is not None:
            self.scaler.update()
        self._unscaled.clear()
        self._stepped.clear()


def _to_default(tensor: Tensor) -> Tensor:
    return tensor.to(torch.get_default_dtype()) if tensor.is_floating_point() else tensor


@functools.cache
def demands_closure(optimizer_class: type[Optimizer]) -> bool:
    """Whether `step` cannot be called without a closure.

    >>> demands_closure(torch.optim.LBFGS), demands_closure(torch.optim.Adam)
    (True, False)
    """
    closure = inspect.signature(optimizer_class.step).parameters.get("closure")
    return closure is not None and closure.default is closure.empty
