"""What is told of a run that hangs: where it stands, its threads with their stacks, and its child processes."""

import faulthandler
import math
import multiprocessing
import os
import sys
import tempfile
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

DEBUGGERS = frozenset({"pdb", "bdb", "pydevd", "ipdb", "pudb", "IPython"})
"""The modules whose frames stand above those of a program at a breakpoint."""

STATES = {"R": "running", "S": "sleeping", "D": "waiting for a disk or device", "T": "stopped", "t": "traced", "Z": "dead", "X": "dead"}


def in_words(seconds: float) -> str:
    """A length of time for people.

    >>> in_words(0.25), in_words(45.3), in_words(723), in_words(7500), in_words(600)
    ('0.25 s', '45 s', '12 min 3 s', '2 h 5 min', '10 min')
    """
    if seconds < 10:
        return f"{seconds:.3g} s"
    whole = round(seconds)
    large, small, units = (whole // 60, whole % 60, ("min", "s")) if whole < 3600 else (whole // 3600, whole % 3600 // 60, ("h", "min"))
    parts = [f"{amount} {unit}" for amount, unit in zip((large, small), units, strict=True) if amount]
    return " ".join(parts) or "0 s"


def whereabouts(trainer: Any, event: str, evaluated: int) -> str:
    """Where a run stands; `event` is the last one outside of training steps, `evaluated` the batches of this evaluation that are done."""
    stage = str(trainer.state.stage or "")
    steps = f"{trainer.global_step} optimizer steps done, the last event {event}"
    if stage != "train":
        return f"{trainer.state.fn}, {stage.replace('_', ' ') or 'between stages'}, after batch {evaluated} of it; {steps}"
    batch, total = trainer.fit_loop.progress.batch, trainer.num_training_batches
    of = f" of {total}" if total != math.inf else ""
    if batch.ready == batch.completed:
        doing = f"waiting for batch {batch.ready + 1}{of}, or at what follows batch {batch.ready}"
    elif batch.started < batch.ready:
        doing = f"batch {batch.ready}{of} on its way to the device, or in the hooks of its start"
    else:
        doing = f"batch {batch.ready}{of} in " + ("its step" if batch.processed < batch.started else "the hooks of its end")
    return f"{trainer.state.fn}, epoch {trainer.current_epoch}, {doing}; {steps}"


def threads(trains: int) -> str:
    """The threads of this process by name and identifier, the one that trains first."""
    listed = sorted(threading.enumerate(), key=lambda thread: thread.ident != trains)
    return ", ".join(f"{thread.name}{' (trains)' if thread.ident == trains else ''} 0x{thread.ident or 0:016x}" for thread in listed)


def children(proc: Path = Path("/proc")) -> str:
    """The child processes, such as the workers of loaders, and whether they live; where the system does not tell, those that live."""
    try:
        found = {int(pid) for file in proc.glob("self/task/*/children") for pid in file.read_text("ascii").split()}
        rows = [(pid, *_state(proc, pid)) for pid in sorted(found)]
    except OSError:
        rows = []
    if not rows:
        rows = [(child.pid or 0, child.name, "alive") for child in multiprocessing.active_children()]
    return ", ".join(f"{pid} {name} ({state})" for pid, name, state in rows) or "none"


def _state(proc: Path, pid: int) -> tuple[str, str]:
    """The name of a process, and what it does."""
    try:
        _, _, rest = (proc / str(pid) / "stat").read_text("utf-8", "replace").partition("(")
    except OSError:
        return "?", "dead"
    name, _, fields = rest.rpartition(")")
    return name, STATES.get(fields.split()[0], "alive")


def at_a_prompt(trains: int) -> bool:
    """Whether somebody sits at a breakpoint: a debugger's frames stand above the program's in the thread that trains."""
    frame = sys._current_frames().get(trains)
    while frame is not None:
        module = str(frame.f_globals.get("__name__", ""))
        if module.partition(".")[0] in DEBUGGERS:
            return True
        if module.startswith("lx."):  # what called lx may well be a debugger, or a prompt
            return False
        frame = frame.f_back
    return False


def tell(text: str) -> None:
    """Writes to the error stream, past its lock where it is a file: the thread that hangs may hold that."""
    descriptor = _descriptor()
    with suppress(OSError, ValueError, AttributeError):
        if descriptor is None:
            sys.stderr.write(text)
            sys.stderr.flush()
        else:
            os.write(descriptor, text.encode("utf-8", "replace"))


def tell_stacks() -> None:
    """Writes the stacks of all threads to the error stream."""
    descriptor = _descriptor()
    if descriptor is not None:
        faulthandler.dump_traceback(descriptor, all_threads=True)
        return
    with tempfile.TemporaryFile() as file:  # a notebook, whose error stream has no file
        faulthandler.dump_traceback(file, all_threads=True)
        file.seek(0)
        tell(file.read().decode("utf-8", "replace"))


def _descriptor() -> int | None:
    try:
        return sys.stderr.fileno()
    except (AttributeError, OSError, ValueError):
        return None
