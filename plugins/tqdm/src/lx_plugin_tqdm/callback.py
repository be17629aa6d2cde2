"""The progress bar that tqdm draws."""

import math
import sys
import time
from collections.abc import Callable
from typing import Any, ClassVar

from lx.arguments.limits import is_integer
from lx.interfaces.progress_bar import ProgressBar
from lx.kernel.errors import MisconfigurationException
from lx_plugin_tqdm.above import Prints
from lx_plugin_tqdm.line import Line, Nowhere, Pace, bar_class, effective_rate, in_notebook, is_live

SECONDS_BETWEEN_DRAWS = 0.1
SECONDS_BETWEEN_LOG_LINES = 60.0
SECONDS_BETWEEN_VALIDATIONS = 1.0
"""A validation so soon after another is shown when it is time to draw, and not already when it begins."""


class TQDMProgressBar(ProgressBar):
    """A bar for the epoch, and one under it while validating; sanity check, validate, test and predict have theirs.

    `refresh_rate` is the number of batches between two refreshes; 0 disables the bar. However small it is, the bar is drawn at most ten
    times a second, and always when an epoch ends; metrics are read from the device when the bar is drawn and at no other
    time. The environment variable `TQDM_MINITERS` raises the rate. `process_position` moves the bar down by that many pairs of lines,
    for several programs in one terminal. With `leave=True` every finished epoch leaves its line, otherwise the last one does.

    What the program prints meanwhile appears above the bar, and so does a warning. Where the output is no terminal (a pipe, a log of CI),
    a line is printed per epoch, and in epochs that last one a minute.

    To change a bar, override the `init_..._tqdm` method that makes it; to change what is shown beside it, override `get_metrics`.
    Raises `MisconfigurationException` for a `refresh_rate` that is negative or no int.

    >>> TQDMProgressBar(refresh_rate=0).listens_to("on_train_batch_end")
    False
    """

    BAR_FORMAT: ClassVar[str] = "{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}, {rate_noinv_fmt}{postfix}]"
    ENDLESS_FORMAT: ClassVar[str] = "{desc}: {n_fmt} [{elapsed}, {rate_noinv_fmt}{postfix}]"
    LOG_FORMAT: ClassVar[str] = "{desc}: {n_fmt}/{total_fmt} [{elapsed}, {rate_noinv_fmt}{postfix}]"

    sanity_check_description = "Sanity Checking"
    train_description = "Epoch"
    validation_description = "Validation"
    test_description = "Testing"
    predict_description = "Predicting"

    phase = "monitor"  # the line of an epoch holds what the module logged at its end

    def __init__(self, refresh_rate: int = 1, process_position: int = 0, leave: bool = False) -> None:
        super().__init__()
        if not is_integer(refresh_rate) or refresh_rate < 0:
            raise MisconfigurationException(
                f"refresh_rate is {refresh_rate!r}; give the number of batches between two refreshes, or 0 to disable the bar."
            )
        self.refresh_rate = effective_rate(refresh_rate)
        self.process_position = process_position
        self.leave = leave
        self.clock: Callable[[], float] = time.monotonic
        self._disabled = False
        self._live = False
        self._stream: Any = None
        self._prints = Prints()
        self._train: Line | None = None
        self._eval: Line | None = None
        self._eval_description = ""
        self._loader = 0
        self._validated = -math.inf
        self._pace = Pace(SECONDS_BETWEEN_DRAWS)

    @property
    def is_enabled(self) -> bool:
        """Whether anything is shown."""
        return self.refresh_rate > 0 and not self._disabled

    @property
    def train_progress_bar(self) -> Any:
        """The bar of the epoch, a `tqdm.tqdm`; None while there is none."""
        return None if self._train is None else self._train.bar

    @property
    def eval_progress_bar(self) -> Any:
        """The bar of the sanity check, validation, test or prediction that runs, a `tqdm.tqdm`; None while there is none."""
        return None if self._eval is None else self._eval.bar

    def disable(self) -> None:
        """Wipes the bar and shows nothing from now on."""
        self._disabled = True
        self._close(leave=False)

    def enable(self) -> None:
        """Shows progress again, from the next epoch on; where the bar was disabled as the run began, from the next run on."""
        self._disabled = False

    def print(self, *args: Any, sep: str = " ", **kwargs: Any) -> None:
        """Prints like the builtin, which prints above the bar."""
        print(*args, sep=sep, **kwargs)

    def init_sanity_tqdm(self) -> Any:
        """The bar of the sanity check; override it to change the bar."""
        return self._make(self.sanity_check_description, leave=False)

    def init_train_tqdm(self) -> Any:
        """The bar of the training epochs; override it to change the bar."""
        return self._make(self.train_description, leave=True)

    def init_validation_tqdm(self) -> Any:
        """The bar of a validation, within fit or on its own; override it to change the bar."""
        within = self._train is not None
        return self._make(self.validation_description, leave=not within, row=int(within))

    def init_test_tqdm(self) -> Any:
        """The bar of a test; override it to change the bar."""
        return self._make(self.test_description, leave=True)

    def init_predict_tqdm(self) -> Any:
        """The bar of a prediction; override it to change the bar."""
        return self._make(self.predict_description, leave=True)

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Finds out whether there is a terminal; disables the bar on all ranks but 0."""
        super().setup(trainer, pl_module, stage)
        self._stream = sys.stdout
        self._live = is_live(self._stream)
        self._pace = Pace(SECONDS_BETWEEN_DRAWS if self._live else SECONDS_BETWEEN_LOG_LINES, self.clock)

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Opens the bar of the training, here because an epoch that is resumed midway does not start again."""
        self.on_train_epoch_start(trainer, pl_module)

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        """Starts the epoch's bar."""
        if self.is_disabled:
            return
        last = trainer.max_epochs
        of = f"/{last - 1}" if last is not None and last > 0 else ""
        description = f"{self.train_description} {trainer.current_epoch}{of}"
        line = self._train
        if line is None:
            line = self._train = self._line(self.init_train_tqdm)
            line.restart(self.total_train_batches, description)
            line.refresh()
        else:
            line.restart(self.total_train_batches, description)

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Draws the bar if `refresh_rate` batches and a tenth of a second have passed, and otherwise returns at once."""
        line = self._train
        if line is not None:
            line.done = done = batch_idx + 1
            if done >= line.next and line.due():
                line.draw(self.get_metrics(trainer, pl_module))

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Draws the finished epoch; with `leave=True` its line stays, and the next epoch gets another."""
        if self._train is not None:
            self._train.draw(self.get_metrics(trainer, pl_module))
            self._train.pause()
            if self.leave:
                self._close(leave=True)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Leaves the line of the last epoch."""
        if self._train is not None:
            self._train.resume()
        self._close(leave=True)

    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
        """Opens the bar of the sanity check or of the validation."""
        if self._train is not None:
            self._train.pause()
        if trainer.sanity_checking:
            self._open(self.sanity_check_description, self.init_sanity_tqdm)
        else:
            self._open(self.validation_description, self.init_validation_tqdm)

    def on_validation_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Draws the bar if `refresh_rate` batches and a tenth of a second have passed, and otherwise returns at once."""
        line = self._eval
        if line is not None:
            if dataloader_idx != self._loader:
                self._next_loader(line, dataloader_idx)
            line.done = done = batch_idx + 1
            if done >= line.next and line.due():
                self._draw_eval()

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        """Closes the validation's bar; what it logged is shown beside the epoch's when that is drawn next."""
        self._finish(leave=self._train is None and not trainer.sanity_checking)
        if self._train is not None:
            self._train.resume()
            self._validated = self.clock()

    def on_test_start(self, trainer: Any, pl_module: Any) -> None:
        """Opens the bar of the test."""
        self._open(self.test_description, self.init_test_tqdm)

    def on_predict_start(self, trainer: Any, pl_module: Any) -> None:
        """Opens the bar of the prediction."""
        self._open(self.predict_description, self.init_predict_tqdm)

    def on_test_end(self, trainer: Any, pl_module: Any) -> None:
        """Leaves the bar, finished."""
        self._finish(leave=True)

    on_test_batch_end = on_predict_batch_end = on_validation_batch_end
    on_predict_end = on_test_end

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """Leaves the bar where it stands and goes to a new line; no metric is read, since the device may be what failed."""
        line = self._train or self._eval
        if line is not None:
            line.draw()
        self._close(leave=True)

    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Closes what is open, so that the terminal is clean and this callback can be pickled."""
        self._close(leave=True)
        self._stream = None

    def _make(self, description: str, leave: bool, row: int = 0) -> Any:
        return bar_class()(
            desc=description,
            position=2 * self.process_position + row,
            leave=leave,
            dynamic_ncols=self._live,
            file=self._stream if self._live else Nowhere(),
            bar_format=self.BAR_FORMAT if self._live else self.LOG_FORMAT,
            mininterval=0,
            miniters=1,
            delay=1e-9,  # not drawn before the number of batches is known
        )

    def _line(self, init: Callable[[], Any]) -> Line:
        if self._live and not in_notebook():
            self._prints.redirect(self._stream)
        return Line(init, self.ENDLESS_FORMAT, self.refresh_rate, self._pace, None if self._live else self._stream)

    def _open(self, description: str, init: Callable[[], Any]) -> None:
        if self.is_disabled:
            return
        self._eval = self._line(init)
        self._eval_description = description
        self._next_loader(self._eval, 0)
        if self._live and (self._train is None or self.clock() - self._validated > SECONDS_BETWEEN_VALIDATIONS or self._pace.wait() <= 0):
            self._draw_eval()

    def _next_loader(self, line: Line, dataloader_idx: int) -> None:
        self._loader = dataloader_idx
        many = len(self.trainer.num_eval_batches) > 1
        description = f"{self._eval_description} DataLoader {dataloader_idx}" if many else self._eval_description
        line.restart(self.total_eval_batches(dataloader_idx), description)

    def _draw_eval(self) -> None:
        if self._train is not None and self._live and self._train.shown < self._train.done:
            self._train.refresh(self.get_metrics(self.trainer, self.trainer.lightning_module))
        if self._eval is not None:
            self._eval.draw()

    def _finish(self, leave: bool) -> None:
        if self._eval is not None:
            if leave:
                self._eval.draw()
            self._eval.close(leave)
            self._eval = None
            if self._train is None:
                self._prints.restore()

    def _close(self, leave: bool) -> None:
        lines, self._eval, self._train = (self._eval, self._train), None, None
        for line in lines:
            if line is not None:
                line.close(leave and (line is lines[1] or lines[1] is None))
        self._prints.restore()
