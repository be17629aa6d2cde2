"""Measures what a run spends its time on."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

from lx.kernel.errors import MisconfigurationException
from lx.urls import is_url, require_path


class Profiler(ABC):
    """The interface of a profiler.

    With an `active` profiler, dispatch replaces every listener by one that is timed under an action name such as
    `[Callback]EarlyStopping.on_train_epoch_end`; without one, nothing is wrapped. `describe` writes `summary` to
    `<dirpath or log_dir>/<stage>-<filename>-<rank>.txt`, or, without a `filename`, prints it on rank 0.
    """

    active: ClassVar[bool] = True

    device_types: ClassVar[frozenset[str]] = frozenset()
    """Torch's names of the devices that it can measure; empty: any. A Trainer refuses it with another accelerator."""

    def __init__(self, dirpath: str | Path | None = None, filename: str | None = None) -> None:
        require_path("dirpath", dirpath)
        require_path("filename", filename)
        self.dirpath = dirpath
        self.filename = filename
        self.stage: str | None = None
        self.local_rank: int | None = None
        self.log_dir: str | Path | None = None

    def setup(self, stage: str, local_rank: int | None = None, log_dir: str | Path | None = None) -> None:
        """Called on every rank at the start of a run; raises `MisconfigurationException` for a report that would go to a URL."""
        folder = self.dirpath or log_dir
        if self.filename is not None and folder is not None and is_url(folder):
            raise MisconfigurationException(
                f"filename={self.filename!r}: the report of {type(self).__name__} is a local file, and {str(folder)!r} is a URL; give"
                " dirpath, a local folder."
            )
        self.stage, self.local_rank, self.log_dir = stage, local_rank, log_dir

    @abstractmethod
    def start(self, action_name: str) -> None:
        """Begins an action; raises `ValueError` if it runs already."""

    @abstractmethod
    def stop(self, action_name: str) -> None:
        """Ends an action; raises `ValueError` if it does not run."""

    @contextmanager
    def profile(self, action_name: str) -> Iterator[str]:
        """Measures a `with` block as an action."""
        self.start(action_name)
        try:
            yield action_name
        finally:
            self.stop(action_name)

    def summary(self) -> str:
        """The report, as text."""
        return ""

    def describe(self) -> None:
        """Writes or prints the report; called on every rank at the end of a run."""
        text = self.summary()
        if not text:
            return
        if self.filename is None:
            if self.local_rank in (None, 0):
                print(text)
            return
        folder = Path(self.dirpath or self.log_dir or ".")
        folder.mkdir(parents=True, exist_ok=True)
        parts = (self.stage, self.filename, self.local_rank)
        (folder / ("-".join(str(part) for part in parts if part is not None) + ".txt")).write_text(text, encoding="utf-8")

    def teardown(self, stage: str | None = None) -> None:
        """Releases what `setup` took; called on every rank at the end of a run."""


class PassThroughProfiler(Profiler):
    """Measures nothing; the default, for which nothing is wrapped.

    >>> with PassThroughProfiler().profile("anything") as action:
    ...     action
    'anything'
    """

    active = False

    def start(self, action_name: str) -> None:
        """Does nothing."""

    def stop(self, action_name: str) -> None:
        """Does nothing."""


def safe_file_name(name: str) -> str:
    """An action name with what no file system likes replaced by `_`.

    >>> safe_file_name("[Callback]A.on_fit_start")
    '_Callback_A.on_fit_start'
    """
    return "".join(character if character.isalnum() or character in "-_." else "_" for character in name)


def action_name(owner: Any, kind: str, hook: str) -> str:
    """The name under which a profiler sees a call: `[LightningModule]Net.training_step`, `[Callback]<state key>.<hook>`.

    >>> action_name(object(), "Strategy", "teardown")
    '[Strategy]object.teardown'
    """
    return f"[{kind}]{getattr(owner, 'state_key', None) or type(owner).__name__}.{hook}"
