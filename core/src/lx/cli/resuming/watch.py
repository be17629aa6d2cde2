"""The callbacks that write down what a run does, and strike where they were told to."""

import functools
import os
import signal
import sys
from collections import Counter
from dataclasses import dataclass
from typing import Any, ClassVar

from lx.cli.resuming.digest import digest, number, tensors
from lx.cli.resuming.journal import Journal
from lx.interfaces.callback import EVENTS, Callback

AFTER = ("on_train_start", "on_train_batch_end", "on_validation_batch_end", "on_validation_end", "on_train_epoch_end", "on_save_checkpoint")
"""The events at which other callbacks do much, so that it matters whether a run is killed before or after them."""
FILES = {"open": "opening a file", "os.rename": "renaming a file", "os.remove": "removing a file"}
"""What Python's audit events tell of files that are written."""
WRITES = os.O_WRONLY | os.O_RDWR


@dataclass(frozen=True, slots=True)
class Strike:
    """Where a process ends: at the `occurrence` of an event, by a signal to itself, or, if it `waits`, by whoever reads from `pipe`."""

    event: str
    occurrence: int
    signal: int
    pipe: int
    waits: bool


class Events:
    """Counts what happens in a process, and strikes."""

    def __init__(self, journal: Journal, strike: Strike | None) -> None:
        self.journal = journal
        self.counts: Counter[str] = Counter()
        self._strike = strike
        self._process = os.getpid()
        self._hears_files = False

    def hear_files(self) -> None:
        """Counts the files that are written, renamed and removed from now on, too."""
        if not self._hears_files:
            self._hears_files = True
            sys.addaudithook(self._hear)

    def happens(self, event: str) -> None:
        """Counts one more, and strikes if it is the one."""
        self.counts[event] += 1
        strike = self._strike
        if strike is None or event != strike.event or self.counts[event] != strike.occurrence:
            return
        os.write(strike.pipe, b"?" if strike.waits else b"!")
        if not strike.waits:
            os.kill(os.getpid(), strike.signal)
            if strike.signal == signal.SIGKILL:
                signal.pause()  # it may take a moment

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event in FILES and os.getpid() == self._process and (event != "open" or arguments[2] & WRITES) and arguments[0] != os.devnull:
            self.happens(FILES[event])


class Watch(Callback):
    """Writes down each batch, what came of it, and the end; it comes before all other callbacks, so before a checkpoint is written.

    It holds no state of its own, draws no random numbers and changes nothing.
    """

    phase: ClassVar[str] = "first"

    def __init__(self, events: Events, fit: int = 0) -> None:
        self.events = events
        self.fit = fit
        self._batch = ""
        notes = {"on_train_batch_start": self._take_batch, "on_train_batch_end": self._note_batch, "on_fit_end": self._note_end}
        for event in EVENTS:  # as attributes of the object: a callback may have them there
            vars(self)[event] = functools.partial(self._happens, event, notes.get(event))

    def _happens(self, event: str, note: Any, trainer: Any, module: Any, *args: Any, **kwargs: Any) -> None:
        if note is not None:
            note(trainer, module, *args)
        self.events.happens(event)

    def _take_batch(self, trainer: Any, module: Any, batch: Any, batch_idx: int) -> None:
        self._batch = digest(batch)

    def _note_batch(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        loss = outputs.get("loss") if isinstance(outputs, dict) else outputs
        self.events.journal.write(
            "batch",
            fit=self.fit,
            number=trainer.fit_loop.progress.batch.total_ready,
            step=trainer.global_step,
            axis=trainer.log_step,
            epoch=trainer.current_epoch,
            batch_idx=batch_idx,
            samples=self._batch,
            loss=None if loss is None else number(loss),
            lr=[number(group["lr"]) for optimizer in trainer.optimizers for group in optimizer.param_groups],
            weights=digest(weights_of(module)),
        )

    def _note_end(self, trainer: Any, module: Any) -> None:
        # What those of the role checkpoint hold is which files there are, and a logger gives each start a folder of its own.
        others = [one for one in trainer.callbacks if not isinstance(one, Watch | Late) and "checkpoint" not in one.roles]
        self.events.journal.write(
            "end",
            fit=self.fit,
            step=trainer.global_step,
            epoch=trainer.current_epoch,
            weights={name: digest(value) for name, value in weights_of(module).items()},
            optimizers=[digest(optimizer.state_dict()) for optimizer in trainer.optimizers],
            schedulers=[digest(config.scheduler.state_dict()) for config in trainer.lr_scheduler_configs],
            metrics={name: number(value) for name, value in trainer.callback_metrics.items()},
            callbacks={one.state_key: digest(tensors(one.state_dict())) for one in others},
        )


class Late(Callback):
    """Counts events once more, after the other callbacks have heard of them."""

    phase: ClassVar[str] = "last"

    def __init__(self, events: Events) -> None:
        for event in AFTER:
            vars(self)[event] = functools.partial(self._happens, events, f"the end of {event}")

    def _happens(self, events: Events, event: str, *args: Any, **kwargs: Any) -> None:
        events.happens(event)


def weights_of(module: Any) -> dict[str, Any]:
    """The parameters and buffers of a module by name, those that its state leaves out included."""
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}
