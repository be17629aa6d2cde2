"""DataLedger: which samples each optimizer step was trained on."""

import json
import os
import secrets
import socket
from pathlib import Path
from typing import Any

from lx.files.replacing import sync_folder
from lx.interfaces import Callback
from lx.kernel.errors import ArgumentTypeError, ArgumentValueError, MisconfigurationException
from lx.rank_zero import rank_zero_warn
from lx.state import TrainerFn
from lx.urls import is_url, join, require_path
from lx_plugin_data_ledger.ledger import FOLDER, RUN
from lx_plugin_data_ledger.loaders import describe, require_countable
from lx_plugin_data_ledger.notation import written

FORMAT = 1


class DataLedger(Callback):
    """Writes down the indices of the samples of every batch, and the optimizer step that they went into.

    Each run has a folder in `dirpath`, with a file for each process, to which a line of JSON is added for each batch. A run that goes on
    from a checkpoint has a folder of its own, and says which run it goes on from, and where: what that one did after its checkpoint does
    not count any more. `lx data-ledger` and `verify` read all of it, and say of each epoch whether every sample was seen exactly once.

    Checkpoints never know more than the files, which are on the disk before one is written. With `fast_dev_run` nothing is written.

    Args:
        dirpath: The folder; by default `data_ledger` in the Trainer's `default_root_dir`, for a resumed run too.
        flush_every_n_steps: After so many batches the lines are written, and with each checkpoint.

    Raises:
        ArgumentTypeError: for what is no path, or no number.
        ArgumentValueError: for a number below 1.
        MisconfigurationException: for a folder that is on no file system of this machine; when training starts, for loaders whose samples
            have no indices, such as those over iterable data sets, and where the step fetches its batches itself.

    >>> DataLedger(flush_every_n_steps=0)
    Traceback (most recent call last):
    lx.kernel.errors.ArgumentValueError: data_ledger: flush_every_n_steps=0: it must be a number of batches, 1 or more.
    """

    phase = "first"

    def __init__(self, dirpath: str | os.PathLike[str] | None = None, flush_every_n_steps: int = 50) -> None:
        require_path("dirpath", dirpath)
        if dirpath is not None and is_url(dirpath):
            raise MisconfigurationException(f"data_ledger: dirpath={os.fspath(dirpath)!r}: {_NOT_LOCAL}")
        if type(flush_every_n_steps) is not int:
            raise ArgumentTypeError(f"data_ledger: flush_every_n_steps={flush_every_n_steps!r}: it must be a number of batches, 1 or more.")
        if flush_every_n_steps < 1:
            raise ArgumentValueError(f"data_ledger: flush_every_n_steps={flush_every_n_steps}: it must be a number of batches, 1 or more.")
        self.dirpath = dirpath
        self.flush_every_n_steps = flush_every_n_steps
        self._run: str | None = None
        self._takes_up = True
        self._forget()

    def _forget(self) -> None:
        self._trainer: Any = None
        self._data: Any = None
        self._progress: Any = None
        self._loader: Any = None
        self._file: _File | None = None
        self._back_at: int | None = None  # the step of the checkpoint that training has gone back to
        self._declared: dict[str, Any] = {}
        self._last = (-1, -1)
        self._steps = 0
        self._batches: list[tuple[int, int, int, int, bool, tuple[Any, ...]]] = []

    # -- while training ---------------------------------------------------------------------------------------------------

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Begins the account of this run, on every rank; raises `MisconfigurationException` where there can be none."""
        if trainer.fast_dev_run:
            return
        data, progress = trainer.fit_loop.data, trainer.fit_loop.progress
        data.keep_indices()
        if data.loader is not None:  # else it is asked for when the epoch begins
            require_countable(data.loader, data.indices, pl_module.training_step)
        self._trainer, self._data, self._progress = trainer, data, progress
        within = progress.epoch["ready"] > progress.epoch["processed"]
        self._begin(progress.epoch["completed"], progress.batch.processed if within else 0, progress.steps)

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Notes the batch, on every rank."""
        if self._file is not None and (self._last[1] != batch_idx or self._last[0] != self._progress.epoch["completed"]):
            self._note(batch_idx)

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Notes what became of the last batches of the epoch, on every rank."""
        if self._file is None:
            return
        self._catch_up()
        if self._last[0] == self._progress.epoch["completed"] and self._back_at is None:
            self._write({"epoch": self._last[0], "ends_with_step": self._progress.steps})
        self._steps = self._progress.steps

    def on_save_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """Has all that came before the checkpoint on the disk before it is written, on every rank."""
        if self._file is not None:
            self._catch_up()
            self._flush()
            self._file.sync()

    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Writes what is left, on every rank."""
        file = self._file
        if file is None:
            return
        try:
            self._catch_up()
            self._flush()
        finally:
            file.close()
            self._forget()

    # -- state ------------------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """The run that the checkpoint is of, by its name."""
        return {"run": self._run} if self._run is not None else {}

    def on_load_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """Forgets what it went on from before, on every rank; in the midst of training, begins anew with the next batch."""
        self._takes_up = trainer.state.fn is TrainerFn.FITTING
        if self._takes_up:
            self._run = None
        if self._file is not None:
            self._flush()
            self._back_at, self._last = checkpoint["global_step"], (-1, -1)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes up which run it goes on from; nothing where the checkpoint is only evaluated."""
        if self._takes_up:
            self._run = state_dict["run"]

    # -- what it writes ----------------------------------------------------------------------------------------------------

    def _begin(self, epoch: int, batch: int, step: int) -> None:
        """Begins the file of a run that trains on from there."""
        trainer, before = self._trainer, self._run if (epoch, batch) > (0, 0) else None
        folder = self._folder()
        if before is not None and not (folder / before).is_dir():
            rank_zero_warn(
                f"data_ledger: the checkpoint is of the run {before}, which is not in {str(folder)!r}, so that the account begins with"
                f" epoch {epoch}, batch {batch}. Pass the dirpath that it had, or copy its folder there."
            )
        name = _new_run(folder) if trainer.is_global_zero else None
        self._run = name if trainer.world_size == 1 else trainer.strategy.broadcast(name)
        if self._file is not None:
            self._file.close()
        self._file = _File(folder / str(self._run), trainer.global_rank)
        self._back_at, self._loader, self._declared = None, None, {}
        self._last, self._steps = (epoch, batch - 1), step
        header = {"ledger": FORMAT, "run": self._run, "rank": trainer.global_rank, "world_size": trainer.world_size}
        self._write(header | {"after": before, "from": [epoch, batch], "step": self._steps, "host": socket.gethostname()})
        if self._data.loader is not None:
            self._declare(epoch)
        self._file.sync()

    def _folder(self) -> Path:
        if self.dirpath is not None:
            return Path(os.path.expanduser(self.dirpath))
        root = self._trainer.default_root_dir
        if is_url(root):
            raise MisconfigurationException(f"data_ledger: default_root_dir={str(root)!r}: {_NOT_LOCAL}")
        return Path(join(root, FOLDER))

    def _declare(self, epoch: int) -> None:
        """Writes what the loaders are, where that is new."""
        self._loader = self._data.loader
        declared = describe(self._loader, self._data.num_batches)
        if declared != self._declared:
            require_countable(self._loader, self._data.indices, self._trainer.lightning_module.training_step)
            self._declared = declared
            self._write({"epoch": epoch, **declared})

    def _note(self, batch_idx: int) -> None:
        """Notes a batch that was trained on, or, if it was not, that it was skipped."""
        data, progress = self._data, self._progress
        epoch = progress.epoch["completed"]
        if self._back_at is not None:
            self._begin(epoch, batch_idx, self._back_at)
        if epoch != self._last[0] or data.loader is not self._loader:
            self._declare(epoch)
        self._last = (epoch, batch_idx)
        queues = data.indices
        if len(queues) == 1:
            taken: tuple[Any, ...] = (queues[0].popleft() if queues[0] else None,)
        else:
            taken = tuple(self._take(place, batch_idx) for place in range(len(queues)))
        before, after = self._steps, progress.steps
        self._steps = after
        skipped = progress.batch.started <= batch_idx or (not progress.manual and self._trainer.fit_loop.epoch_loop.optimize.loss is None)
        self._batches.append((epoch, batch_idx, before, after, skipped, taken))
        if len(self._batches) >= self.flush_every_n_steps:
            self._flush()

    def _take(self, place: int, batch_idx: int) -> Any:
        queue = self._data.indices[place]
        used_up = self._declared["mode"] == "max_size" and batch_idx >= self._declared["loaders"][place]["batches"]
        return queue.popleft() if queue and not used_up else None

    def _catch_up(self) -> None:
        """Notes the batch that is through its step, but not yet through the hooks of its end, or will never get to them."""
        batch, epoch = self._progress.batch, self._progress.epoch
        done = batch.processed - 1
        if epoch["ready"] > epoch["completed"] and batch.processed > batch.completed and self._last != (epoch["completed"], done):
            self._note(done)

    def _write(self, line: dict[str, Any]) -> None:
        """Writes a line that is not of a batch, after those of the batches before."""
        self._flush()
        assert self._file is not None
        self._file.write(json.dumps(line, separators=(",", ":")) + "\n")

    def _flush(self) -> None:
        if self._batches:
            lines, self._batches = "".join(map(_line, self._batches)), []
            assert self._file is not None
            self._file.write(lines)


_NOT_LOCAL = "it is on no file system of this machine, and lines are added to local files; pass a local dirpath."


def _line(noted: tuple[int, int, int, int, bool, tuple[Any, ...]]) -> str:
    """The line of a batch: `step` is the one that it went into, or the first and the last of several, or null for one that was skipped."""
    epoch, batch, before, after, skipped, taken = noted
    step = "null" if skipped else str(max(after, before + 1)) if after - before < 2 else f"[{before + 1},{after}]"
    indices = ",".join("null" if each is None else written(each) for each in taken)
    return f'{{"epoch":{epoch},"batch":{batch},"step":{step},"indices":[{indices}]}}\n'


def _new_run(folder: Path) -> str:
    """Makes the folder of a new run, whose name sorts behind those of all runs before."""
    folder.mkdir(parents=True, exist_ok=True)
    found = [match for path in folder.iterdir() if (match := RUN.fullmatch(path.name))]
    number = max((int(match[1]) for match in found), default=0) + 1
    name = f"{number:04d}-{secrets.token_hex(4)}"  # not from the seed, with which other runs may start now
    (folder / name).mkdir()
    sync_folder(folder)
    return name


class _File:
    """The file of one process, to which lines are added."""

    def __init__(self, folder: Path, rank: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / f"rank-{rank}.jsonl"
        self._descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o666)
        self._on_disk = False
        sync_folder(folder)

    def write(self, text: str) -> None:
        """Hands lines to the operating system, which has them even if this process is killed."""
        content = memoryview(text.encode())
        try:
            while content:
                content = content[os.write(self._descriptor, content) :]
        except OSError as error:
            error.add_note(f"data_ledger: {self.path} could not be written.")
            raise
        self._on_disk = False

    def sync(self) -> None:
        """Returns when all is on the disk."""
        if not self._on_disk:
            os.fsync(self._descriptor)
            self._on_disk = True

    def close(self) -> None:
        """Closes the file."""
        os.close(self._descriptor)
