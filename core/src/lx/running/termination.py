"""Signals that ask a run to end: it ends at the next batch boundary, and the program with 128 + the signal."""

import os
import signal
import time
from contextlib import ExitStack
from typing import Any

from lx.kernel.errors import SIGTERMException
from lx.running.agreement import Agreement, Listener, agree
from lx.running.signals import CleanUp, heeding, is_free, say
from lx.state import TrainerFn

SIGUSR1: int | None = getattr(signal, "SIGUSR1", None)  # not on Windows
ECHO = 1.0
"""Seconds in which the same signal again is the one that came: `timeout`, torchrun and others send it to a process and to its group."""


class Termination:
    """What SIGTERM, SIGUSR1 in a fit, and the signal by which the cluster says that time is over do to a run.

    a signal                    noted, passed on to processes that lx started, and said in a line
    batch boundary              `SIGTERMException` ends the run, whose checkpoint callbacks save first
    a second signal             ends the process at once, unless the job is to be queued again, which the cluster ends anyway

    SIGUSR1 is heeded where it would end the process without a word; a handler that the program has set keeps its meaning.
    """

    def __init__(self, trainer: Any, fn: TrainerFn, requeue: Any) -> None:
        self._trainer, self._fn, self._requeue = trainer, fn, requeue
        self.signum = 0
        """The first signal that came, 0 for none."""
        self.clean_up: CleanUp | None = None
        """What goes on while the run is cleaned up."""
        self._came: float | None = None  # when one came to this process itself
        self._process = os.getpid()
        self._agreement: Agreement | None = None
        self._listener: Listener | None = None
        self._handlers = ExitStack()

    def __enter__(self) -> "Termination":
        if self._requeue.signum is not None:
            self._handlers.enter_context(heeding(self._requeue.signum, self.note))
        return self

    def __exit__(self, *exception: object) -> None:
        self._handlers.close()
        if self._listener is not None:
            self._listener.close()

    def begin(self) -> None:
        """Has the processes of a fit meet, to agree on where they end; called on every rank."""
        if self._fn is TrainerFn.FITTING and (met := agree(self._trainer.strategy, self._hear)) is not None:
            self._agreement, self._listener = met

    def heed(self) -> None:
        """From here to the end of the run the other signals ask for it; before, they end the process, since there is nothing to save."""
        self._process = os.getpid()  # a launcher may have forked it
        numbers = [signal.SIGTERM]
        if self._fn is TrainerFn.FITTING and SIGUSR1 is not None and is_free(SIGUSR1):
            numbers.append(signal.Signals(SIGUSR1))
        for number in numbers:
            if number != self._requeue.signum:
                self._handlers.enter_context(heeding(number, self.note))

    def note(self, signum: int) -> bool:
        """Takes up a signal; returns whether it ends the process at once."""
        trainer, requeue, now = self._trainer, self._requeue, time.monotonic()
        if os.getpid() != self._process:  # a worker of a loader, forked from it, which gets what is sent to the group; it goes with the run
            again, self._came = self._came is not None, now
            return again
        trainer.received_sigterm = True  # the flag that the loops look at
        if trainer.fabric.launcher is not None:
            trainer.fabric.launcher.kill(signum)
        first = self._came is None
        echo = self._came is not None and signum == self.signum and now - self._came < ECHO
        if first:
            self._came = now
        if self._take(signum) or first or echo or requeue.asked:
            return False
        self._say_last(signal.Signals(signum).name)
        return True

    def _hear(self, signum: int) -> None:
        """Takes up a signal that came to another process; in the thread that listens."""
        self._trainer.received_sigterm = True
        self._take(signum)

    def _take(self, signum: int) -> bool:
        """Returns whether it is the first, or has the job queued again where it would not have been; says so."""
        turns = signum == self._requeue.signum and not self._requeue.asked
        news = not self.signum or turns
        self.signum = self.signum or signum
        self._requeue.asked |= turns
        if news:
            self._say(signal.Signals(signum).name)
        return news

    @property
    def code(self) -> int:
        """With what the program ends."""
        return 128 + (self._requeue.signum if self._requeue.asked else self.signum or signal.SIGTERM)

    @property
    def cause(self) -> str:
        """The name of the signal that ends the run."""
        return signal.Signals(self.code - 128).name

    @property
    def ends_together(self) -> bool:
        """Whether all processes of the run end at the same boundary, so that they can save together."""
        return self._agreement is not None or self._trainer.world_size == 1

    def end_here(self, windows: int | None = None) -> None:
        """Ends the run at a batch boundary, once `received_sigterm` is set: raises an error of `interrupt`, or `SIGTERMException`.

        It does not where several processes are to end together, and others would not end here, too. `windows` is the number of
        accumulation windows so far, None where processes go on at paces of their own, as in a validation.
        """
        self._trainer.run.interruption.surface(signalled=bool(self.signum))
        if self._agreement is not None:
            signum = self._agreement.reached(windows, self.code - 128)
            if not signum:
                return
            self._settle(signum)
        raise SIGTERMException(self.code)

    def end_whole(self) -> None:
        """Ends the program after a run that came to its end, if a signal has come to any of its processes; called on every rank."""
        trainer = self._trainer
        if self._agreement is not None:
            if self.signum:
                self._agreement.announce(self.code - 128)
            if not trainer.strategy.reduce_boolean_decision(bool(self.signum), all=False):
                return
            self._settle(self._agreement.cause)
        elif not trainer.received_sigterm:
            return
        if self._requeue.asked:
            self._requeue.end_whole()
            if trainer.is_global_zero:
                say(f"lx: {self.cause} came when the run was about to end anyway.{self._requeue.report}")
        raise SIGTERMException(self.code)

    def _settle(self, signum: int) -> None:
        """Takes up what all processes have agreed on, whichever signal came here first."""
        self.signum, self._requeue.asked = signum, signum == self._requeue.signum

    def _say(self, name: str) -> None:
        if not self._trainer.is_global_zero:
            return
        if self.clean_up is not None:
            say(f"lx: {name} came: the run is ending anyway ({self.clean_up.doing}); a second signal ends the process at once.")
        elif self._requeue.asked:
            say(f"lx: {name} came: the run ends at a batch boundary, is saved, and the job is queued again.")
        else:
            say(f"lx: {name} came: the run ends at the next batch boundary; a second signal ends the process at once.")

    def _say_last(self, name: str) -> None:
        doing = "" if self.clean_up is None else f" ({self.clean_up.doing})"
        say(f"lx: {name} came after {self.cause}: the process ends at once, and leaves the rest undone{doing}.")
