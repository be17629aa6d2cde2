"""Jobs that are done one after the other on a thread of their own, and what becomes of those that fail."""

import os
import threading
import traceback
import weakref
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

Report = Callable[[BaseException], object]
"""Takes an error, from any thread, and returns whether it will be raised."""


@dataclass(frozen=True, slots=True, eq=False)
class Job:
    """Something to be done at a path. `leaves` says whether there is something at the path when it is done, None that it is not known.

    One that `gives_up` the old for the new is left out where something before it failed.
    """

    path: str
    do: Callable[[], object]
    leaves: bool | None = True
    gives_up: bool = False


class Background:
    """Does jobs in their order. The thread is there while there are jobs, and a program that ends waits for it.

    An error is handed to `report` at once; it stays here, too, until `raise_failures` has raised it. A process that is forked off has
    none of the jobs.
    """

    def __init__(self) -> None:
        self.forget()
        self._report: Report | None = None
        _everywhere.add(self)

    def forget(self) -> None:
        """Drops all jobs and errors; for a process that was forked off, where there is no thread, and a lock may be held for ever."""
        self._changed = threading.Condition()
        self._jobs: deque[Job] = deque()  # the first is being done
        self._working = False
        self._failures: list[BaseException] = []
        self._untold: list[BaseException] = []

    def add(self, job: Job) -> None:
        """Has a job done after those that are there."""
        with self._changed:
            self._jobs.append(job)
            if self._working:
                return
            self._working = True
        try:
            threading.Thread(target=self._work, name="lx-async-io").start()
        except RuntimeError:  # none can be started while the interpreter ends
            self._work()

    def do_in_turn(self, job: Job) -> None:
        """Does a job here and now if there is none before it, and adds it otherwise."""
        with self._changed:
            if not self._jobs:
                if not (job.gives_up and self._failures):
                    job.do()
                return
            self.add(job)

    def jobs(self) -> list[Job]:
        """Those that are not done yet."""
        with self._changed:
            return list(self._jobs)

    def wait(self, done: Callable[[list[Job]], bool] = lambda jobs: not jobs) -> None:
        """Returns when what is left satisfies `done`: by default, when nothing is."""
        with self._changed:
            self._changed.wait_for(lambda: done(list(self._jobs)))

    def report_to(self, report: Report | None) -> None:
        """Where errors go from now on; those of which nobody was told go there now."""
        with self._changed:
            self._report = report
            if report is not None:
                self._untold = [error for error in self._untold if not report(error)]

    def raise_failures(self, untold_only: bool = False) -> None:
        """Raises the first error, with the others as notes, and starts anew; with `untold_only`, not if all were reported."""
        with self._changed:
            if not (self._untold if untold_only else self._failures):
                return
            (first, *others), self._failures, self._untold = self._failures, [], []
        for other in others:
            first.add_note(f"Another checkpoint failed after it: {type(other).__name__}: {other}")
        raise first

    def tell(self) -> None:
        """Prints the errors of which nobody was told."""
        for error in self._untold:
            traceback.print_exception(error)

    def _work(self) -> None:
        while True:
            with self._changed:
                if not self._jobs:
                    self._working = False
                    return
                job = self._jobs[0]
                left_out = job.gives_up and bool(self._failures)
            try:
                if not left_out:
                    job.do()
            except BaseException as error:
                self._fail(error)
            del job  # a job holds a checkpoint
            with self._changed:
                self._jobs.popleft()
                self._changed.notify_all()

    def _fail(self, error: BaseException) -> None:
        traceback.clear_frames(error.__traceback__)  # which hold a checkpoint
        with self._changed:
            self._failures.append(error)
            if self._report is None or not self._report(error):
                self._untold.append(error)


_everywhere: "weakref.WeakSet[Background]" = weakref.WeakSet()


def _forget_everywhere() -> None:
    for background in list(_everywhere):
        background.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_everywhere)
