"""Runs of a script that are killed at random points and started again until they end."""

import json
import os
import random
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from lx.cli.resuming.comparison import Reading
from lx.cli.resuming.journal import Journal, read

AGAIN = 0.5
"""How likely a run that was killed is killed once more."""
BETWEEN = 0.5
"""How likely a kill comes some time after an event, from outside, instead of at the event itself."""
MISSES = 3
"""After so many kills that came when all was over, all others come at an event itself."""
ENDED = (-9, -15, 143, 0)
"""How a process may end that was sent a signal; 0 if it came when training was over."""
STRUCK, TICK, LINES = b"!", 0.02, 15
LEAST_WAIT = 60.0
"""The seconds that any start may take, however fast the run was that nobody killed."""


class TroubleError(Exception):
    """There is nothing to compare, for a reason that the message gives."""


class RestartError(Exception):
    """A run that was killed did not come to its end; `reading` is what it did."""

    def __init__(self, message: str, reading: Reading) -> None:
        super().__init__(message)
        self.reading = reading


class Process(Protocol):
    """What is needed of `subprocess.Popen`."""

    pid: int

    def poll(self) -> int | None:
        """The exit code, negative for a signal; None while the process runs."""

    def wait(self) -> int:
        """The exit code, once the process has ended."""


Launch = Callable[[dict[str, Any], list[str], Path, Path, tuple[int, ...]], Process]
"""Starts a child: the order for it, the command line of the script, its folder, the file for its output, descriptors to inherit."""


def launch(order: dict[str, Any], script: list[str], folder: Path, output: Path, descriptors: tuple[int, ...]) -> Process:
    """Starts a Python of its own, in a session of its own, so that its workers can be ended with it."""
    command = [sys.executable, "-m", "lx.cli.resuming.child", json.dumps(order), *script]
    with output.open("ab") as file:
        return subprocess.Popen(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            pass_fds=descriptors,
        )


@dataclass(frozen=True, slots=True)
class Point:
    """Where a process is killed: at an event, or `delay` seconds after it."""

    event: str
    occurrence: int
    delay: float | None

    def __str__(self) -> str:
        return f"{'at' if self.delay is None else 'soon after'} {self.event}"


@dataclass(frozen=True, slots=True)
class Outcome:
    """One start of the script: its exit code, the seconds that it took, and whether a signal was sent to it."""

    code: int
    seconds: float
    struck: bool


class Trials:
    """The runs of one script; each has a folder of its own below `folder`, with the journal and the output beside it."""

    def __init__(self, script: list[str], folder: Path, number: signal.Signals, seed: int, launch: Launch = launch) -> None:
        self.script, self.folder, self.signal = script, folder, number
        self._launch = launch
        self._random = random.Random(seed)
        self._limit = float("inf")
        self._gap = 0.0
        self._misses = 0
        self.whole = Reading([])
        self.seconds = 0.0

    # -- runs ------------------------------------------------------------------------------------------------------------

    def run_whole(self) -> Reading:
        """The run that nobody kills; raises `TroubleError` where there is nothing to compare with."""
        outcome = self._start("whole", None)
        self.whole, self.seconds = self._reading("whole"), outcome.seconds
        if outcome.code != 0:
            hint = " The options of lx verify-resume stand before the script, those after it are its own." if len(self.script) > 1 else ""
            raise TroubleError(f"the script fails by itself, with exit code {outcome.code}.{hint}\n{self._tail('whole')}")
        self._check_whole()
        self._limit = max(LEAST_WAIT, 10 * outcome.seconds)
        self._gap = outcome.seconds / sum(self.whole.events.values())
        return self.whole

    def run_again(self) -> Reading:
        """A second run that nobody kills."""
        outcome = self._start("again", None)
        if outcome.code != 0:
            raise TroubleError(f"the script fails the second time, with exit code {outcome.code}.\n{self._tail('again')}")
        return self._reading("again")

    def run_killed(self, name: str, most: int) -> Reading:
        """A run that is killed once, or several times, but not more than `most`, and started again until it ends.

        Raises `RestartError` if a process that goes on fails or hangs.
        """
        point: Point | None = self._draw(1.0)
        kills = 0
        while True:
            outcome = self._start(name, point)
            reading = self._reading(name)
            self._refuse_others_files(reading, name)
            killed = outcome.struck and not (outcome.code == 0 and reading.ends)
            if not killed:
                if outcome.code != 0:
                    raise RestartError(f"it fails with exit code {outcome.code}.\n{self._tail(name)}", reading)
                self._misses += point is not None
                return reading
            if outcome.code not in ENDED:
                raise RestartError(f"{self.signal.name} ends it with exit code {outcome.code}.\n{self._tail(name)}", reading)
            kills += 1
            Journal(self._journal(name)).write("killed", point=str(point))
            again = kills < most and self._random.random() < AGAIN
            point = self._draw(self._left(reading)) if again else None

    def _start(self, name: str, point: Point | None) -> Outcome:
        """Starts the script in the folder of a run, and waits for its end, which `point` may bring about."""
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        order: dict[str, Any] = {"journal": str(self._journal(name))}
        read_end, write_end = os.pipe()
        if point is not None:
            waits = point.delay is not None
            where = {"event": point.event, "occurrence": point.occurrence}
            order["strike"] = {**where, "signal": int(self.signal), "pipe": write_end, "waits": waits}
        begun = time.monotonic()
        process = self._launch(order, self.script, folder, self.folder / f"{name}.txt", (write_end,))
        os.close(write_end)
        try:
            struck = self._await(process, read_end, 0.0 if point is None or point.delay is None else point.delay, name)
        finally:
            os.close(read_end)
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)  # the process, if this one was interrupted, and workers that have outlived it
            code = process.wait()
        return Outcome(code, time.monotonic() - begun, struck)

    def _await(self, process: Process, pipe: int, delay: float, name: str) -> bool:
        """Waits for the end of a process; returns whether it was struck."""
        until, struck, readable = time.monotonic() + self._limit, False, [pipe]
        while process.poll() is None:
            if time.monotonic() > until:
                raise RestartError(f"it hangs: it has not ended within {self._limit:.0f} seconds.\n{self._tail(name)}", self._reading(name))
            if not select.select(readable, [], [], TICK)[0]:
                continue
            told = os.read(pipe, 1)
            readable = []
            if told == STRUCK:
                struck = True
            elif told:
                time.sleep(delay)
                struck = process.poll() is None
                if struck:
                    os.kill(process.pid, self.signal)
        left_unread = select.select(readable, [], [], 0)[0]  # workers that outlive the process keep the pipe open
        return struck or (bool(left_unread) and os.read(pipe, 1) == STRUCK)

    # -- where it is killed ----------------------------------------------------------------------------------------------

    def _draw(self, left: float) -> Point:
        """A point in the part of the run that is left: each kind of event is as likely as any other, however often it happens."""
        event = self._random.choice(sorted(self.whole.events))
        occurrence = self._random.randint(1, max(1, round(self.whole.events[event] * left)))
        between = self._random.random() < BETWEEN and self._misses < MISSES
        return Point(event, occurrence, self._random.uniform(0, 2 * self._gap) if between else None)

    def _left(self, reading: Reading) -> float:
        """The part of the batches that are still to come after what a run has done."""
        return max(0.0, 1 - len(reading.batches) / len(self.whole.batches))

    # -- what there is to compare ----------------------------------------------------------------------------------------

    def _journal(self, name: str) -> Path:
        return self.folder / f"{name}.jsonl"

    def _reading(self, name: str) -> Reading:
        return Reading(read(self._journal(name)))

    def _tail(self, name: str) -> str:
        """The last lines of what a run printed."""
        output = self.folder / f"{name}.txt"
        return "\n".join(f"    {line}" for line in output.read_text("utf-8", "replace").splitlines()[-LINES:])

    def _check_whole(self) -> None:
        """Raises `TroubleError` for a script whose runs cannot be compared."""
        whole, wrote = self.whole, any(event.startswith("on_save_checkpoint") for event in self.whole.events)
        if not whole.batches:
            raise TroubleError(
                "the script does not train: no batch was trained on in Trainer.fit, or the trainer has a manager= of its own."
            )
        if any(start["processes"] > 1 for start in whole.starts):
            raise TroubleError("the script trains on several processes, and runs of one process are compared; pass it devices=1.")
        if not wrote:
            raise TroubleError(
                "the script writes no checkpoint from which a run can go on: none was written in the whole run, or weights only."
            )
        self._refuse_others_files(whole, "whole")
        if len(whole.starts) > 1 and not all(start["asked"] for start in whole.starts):
            raise TroubleError(
                f"the script calls fit {len(whole.starts)} times, so that it must say itself where each of them goes on: pass ckpt_path."
            )

    def _refuse_others_files(self, reading: Reading, name: str) -> None:
        first = next((start["checkpoint"] for start in reading.starts[:1] if start["first"]), None)
        if first is not None:
            raise TroubleError(
                f"the run {name!r} did not begin anew, but from {first}: the script names a checkpoint, or a folder that all runs share."
                " Each run has a working directory of its own, in which the script must write."
            )
