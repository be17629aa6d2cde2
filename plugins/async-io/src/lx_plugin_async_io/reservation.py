"""Memory for the first checkpoint of a fit, made ready while training has begun, so that the first save takes no longer than the others."""

import contextlib
import threading
from typing import Any

from torch import Tensor

from lx_plugin_async_io.staging import Staging

SECONDS = 0.2
"""How often it is looked whether the first step has been taken."""
WORTH_IT = 1 << 26
"""From so many bytes on, a save would be seen to wait."""


class Reservation:
    """Waits, on a thread of its own, for the first optimizer step, which makes the states of the optimizers, and has memory mapped."""

    def __init__(self, trainer: Any, staging: Staging) -> None:
        self._over = threading.Event()
        threading.Thread(target=self._work, args=(trainer, staging), name="lx-async-io-memory", daemon=True).start()

    def cancel(self) -> None:
        """Does nothing any more."""
        self._over.set()

    def _work(self, trainer: Any, staging: Staging) -> None:
        begun = trainer.global_step
        while trainer.global_step == begun:
            if self._over.wait(SECONDS):
                return
        with contextlib.suppress(RuntimeError):  # a dictionary was changed meanwhile; the first save then maps what it needs
            size = trained_bytes(trainer)
            if size >= WORTH_IT and not self._over.is_set():
                staging.reserve(size + size // 64)  # beside that, a checkpoint holds little


def trained_bytes(trainer: Any) -> int:
    """The bytes of all that is trained and of the states of the optimizers, as they lie in a checkpoint."""
    module = trainer.lightning_module
    tensors = [*module.parameters(), *module.buffers()]
    for optimizer in trainer.optimizers:
        for state in list(getattr(optimizer, "state", {}).values()):
            tensors += [value for value in list(state.values()) if isinstance(value, Tensor)]
    storages = (tensor.untyped_storage() for tensor in tensors)
    return sum({(storage.device, storage.data_ptr()): storage.nbytes() for storage in storages}.values())
