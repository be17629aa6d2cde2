"""Another checkpoint I/O, in the background."""

import mmap
import os
import time
import weakref
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from lx.interfaces.checkpoint_io import CheckpointIO
from lx.kernel.errors import MisconfigurationException
from lx.kernel.manager import default_manager
from lx.module_loading import installed_checkpoint_io
from lx.rank_zero import rank_zero_warn
from lx.urls import local_or_url
from lx_plugin_async_io.background import Background, Job, Report
from lx_plugin_async_io.reservation import Reservation
from lx_plugin_async_io.snapshot import snapshot
from lx_plugin_async_io.staging import Staging

WORTH_SAYING = 10.0
"""So many seconds that training has waited for room are said, once."""


class AsyncCheckpointIO(CheckpointIO):
    """Has another checkpoint I/O write on a thread of its own, so that training waits only while its state is copied. The class is final.

    Checkpoints are written in their order. What gives the old up for the new, removal and links, is done after what was to be written
    before it, and not at all if that failed; so whenever the process is killed, the newest checkpoint that is there is a whole one.
    Whoever asks what is there, or loads, is answered as if everything had been written; `load_checkpoint`, `list_folder` and `modified`
    wait for it, as `teardown`, the end of a run and the end of the program do.

    An error ends the run at its next batch boundary, or at the end of the loop. Without a run, as under Fabric, the next `save_checkpoint`
    or `teardown` raises it, and what is not raised till the end of the program is printed.

    Args:
        checkpoint_io: The one that writes, by name or as an instance; by default the one that a Trainer has by default.
        pending: How many checkpoints, copied, may wait while one is being written; beyond that, saving waits. Each takes as much memory
            as a checkpoint, which is kept for the next one until the run ends.

    Raises:
        MisconfigurationException: for a `pending` that is no number from 0 on, and for an I/O that writes in the background itself.
        ComponentError: for a `checkpoint_io` that is none.

    >>> import tempfile, torch
    >>> weight, io = torch.zeros(1), AsyncCheckpointIO()
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     io.save_checkpoint({"weight": weight}, folder + "/last.ckpt")
    ...     _ = weight.fill_(7.0)
    ...     io.load_checkpoint(folder + "/last.ckpt")
    {'weight': tensor([0.])}
    """

    def __init__(self, checkpoint_io: CheckpointIO | str | Mapping[str, Any] | None = None, pending: int = 1) -> None:
        if isinstance(pending, bool) or not isinstance(pending, int) or pending < 0:
            raise MisconfigurationException(
                f"async_io(pending={pending!r}): it must be the number of checkpoints that may wait while one is written, from 0 on."
            )
        if checkpoint_io is None:
            checkpoint_io = installed_checkpoint_io()
        self.checkpoint_io: CheckpointIO = default_manager().registry.checkpoint_io.build(checkpoint_io)
        if isinstance(self.checkpoint_io, AsyncCheckpointIO):
            raise MisconfigurationException(
                f"async_io(checkpoint_io={checkpoint_io!r}): that one writes in the background itself; name the one that writes files."
            )
        self.pending = pending
        self._background = Background()
        self._staging = Staging()
        self._reservation: Reservation | None = None
        self._waited = 0.0
        weakref.finalize(self, self._background.tell)

    def __reduce__(self) -> Any:
        return type(self), (self.checkpoint_io, self.pending)

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Copies a checkpoint, and has it written; when it returns, everything in it may change.

        Raises what failed before and was told to nobody, and, for what cannot be copied, what `copy.deepcopy` raises.
        """
        self._background.raise_failures(untold_only=True)
        self._wait_for_room()
        try:
            content, memory = snapshot(checkpoint, self._staging)
        except Exception as error:
            error.add_note(f"The checkpoint {str(path)!r} was not written; what was there before is untouched.")
            raise
        self._background.add(Job(_place(path), partial(self._write, content, memory, path, storage_options)))

    def _write(self, content: dict[str, Any], memory: mmap.mmap, path: str | Path, storage_options: Any) -> None:
        try:
            self.checkpoint_io.save_checkpoint(content, path, storage_options)
        except BaseException as error:
            if not any(str(path) in note for note in getattr(error, "__notes__", ())):
                error.add_note(f"The checkpoint {str(path)!r} was not written; what was there before is untouched.")
            raise
        finally:
            self._staging.give_back(memory)

    def _wait_for_room(self) -> None:
        began = time.monotonic()
        self._background.wait(lambda jobs: sum(not job.gives_up for job in jobs) <= self.pending)
        before, self._waited = self._waited, self._waited + time.monotonic() - began
        if before < WORTH_SAYING <= self._waited:
            rank_zero_warn(
                f"checkpoints are due faster than they are written: training has waited {self._waited:.0f} seconds until an older one was."
                " Save less often, or to a faster disk."
            )

    def check_content(self, checkpoint: dict[str, Any]) -> None:
        """Raises what the other I/O says of a value that it would refuse."""
        self.checkpoint_io.check_content(checkpoint)

    def load_checkpoint(self, path: str | Path, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        """Reads a checkpoint, once everything has been written."""
        self._background.wait()
        return self.checkpoint_io.load_checkpoint(path, map_location, weights_only)

    def remove_checkpoint(self, path: str | Path) -> None:
        """Removes a checkpoint once all that came before has been written; not if that failed."""
        do = partial(self._done_at, path, partial(self.checkpoint_io.remove_checkpoint, path))
        self._background.do_in_turn(Job(_place(path), do, leaves=False, gives_up=True))

    def after_writing(self, path: str | Path, do: Callable[[], object]) -> None:
        """Does something once all that came before has been written; not if that failed."""
        do = partial(self._done_at, path, partial(self.checkpoint_io.after_writing, path, do))
        self._background.do_in_turn(Job(_place(path), do, leaves=None, gives_up=True))

    @staticmethod
    def _done_at(path: str | Path, do: Callable[[], object]) -> None:
        try:
            do()
        except BaseException as error:
            error.add_note(f"This happened at {str(path)!r}, once the checkpoints before it had been written.")
            raise

    def recognises(self, path: str | Path) -> bool:
        """Whether what lies there begins as what the other I/O writes, once everything has been written."""
        self._background.wait()
        return self.checkpoint_io.recognises(path)

    def outline(self, path: str | Path) -> dict[str, Any]:
        """What is in a checkpoint, once everything has been written."""
        self._background.wait()
        return self.checkpoint_io.outline(path)

    def exists(self, path: str | Path) -> bool:
        """Whether something is there, or will be when everything has been written; seldom waits for that."""
        place = _place(path)
        for job in reversed(self._background.jobs()):
            if job.path == place and job.leaves is not None:
                return job.leaves
            if job.path == place or _is_inside(job.path, place) or _is_inside(place, job.path):
                self._background.wait()
                break
        return self.checkpoint_io.exists(path)

    def list_folder(self, path: str | Path) -> list[str]:
        """The names of what is in a folder, once everything has been written."""
        self._background.wait()
        return self.checkpoint_io.list_folder(path)

    def modified(self, path: str | Path) -> float:
        """When a checkpoint was written, once everything has been."""
        self._background.wait()
        return self.checkpoint_io.modified(path)

    def report_to(self, report: Report | None) -> None:
        """Where errors go, from the thread that writes; it returns whether it will raise them. A run gives its `interrupt`."""
        self._background.report_to(report)

    def expect(self, trainer: Any) -> None:
        """Has memory for a checkpoint of this trainer made ready when it has taken a step; until `teardown`."""
        self._reservation = Reservation(trainer, self._staging)

    def teardown(self) -> None:
        """Waits for what is still being written, lets go of the memory, and raises what failed since the last time."""
        if self._reservation is not None:
            self._reservation.cancel()
            self._reservation = None
        self._background.wait()
        self._staging.release()
        self._waited = 0.0
        self.checkpoint_io.teardown()
        self._background.raise_failures()


def _place(path: str | Path) -> str:
    place = local_or_url(path)
    return place if isinstance(place, str) else os.path.abspath(place)


def _is_inside(place: str, folder: str) -> bool:
    return place.startswith((f"{folder}/", f"{folder}{os.sep}"))
