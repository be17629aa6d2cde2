"""The progress bar that rich draws."""

import math
import time
from collections.abc import Callable
from typing import Any

from rich.console import Console
from rich.progress import ProgressColumn
from rich.text import Text

from lx.arguments.limits import is_integer
from lx.interfaces.progress_bar import ProgressBar
from lx.kernel.errors import MisconfigurationException
from lx_plugin_rich.display import Display, MetricsColumn, RichProgressBarTheme, standard_columns
from lx_plugin_rich.line import Line, Pace

SECONDS_BETWEEN_DRAWS = 0.1
SECONDS_BETWEEN_LOG_LINES = 60.0
SECONDS_BETWEEN_VALIDATIONS = 1.0
"""A validation so soon after another is shown when it is time to draw, and not already when it begins."""


class RichProgressBar(ProgressBar):
    """A bar for the epoch, and one under it while validating; sanity check, validate, test and predict have theirs.

    `refresh_rate` is the number of batches between two refreshes; 0 disables the bar. However small it is, the bar is drawn at most ten
    times a second, and always when an epoch ends; metrics are read from the device when the bar is drawn and at no other time. With
    `leave=True` every finished epoch leaves its line, otherwise the last one does. `theme` (also a dict of its fields) holds the styles,
    and `console_kwargs` are arguments of `rich.console.Console`.

    What the program prints meanwhile appears above the bar. Where the metrics do not fit beside the bar they stand under it. Where the
    output is no terminal (a pipe, a log of CI), a line is printed per epoch, and in epochs that last one a minute.

    Override `configure_columns` to change the columns, and `get_metrics` to change what is shown beside them.
    Raises `MisconfigurationException` for a `refresh_rate` that is negative or no int.

    >>> RichProgressBar(refresh_rate=0).listens_to("on_train_batch_end")
    False
    """

    sanity_check_description = "Sanity Checking"
    train_description = "Epoch"
    validation_description = "Validation"
    test_description = "Testing"
    predict_description = "Predicting"

    phase = "monitor"  # the line of an epoch holds what the module logged at its end

    def __init__(
        self,
        refresh_rate: int = 1,
        leave: bool = False,
        theme: RichProgressBarTheme | dict[str, str] | None = None,
        console_kwargs: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if not is_integer(refresh_rate) or refresh_rate < 0:
            raise MisconfigurationException(
                f"refresh_rate is {refresh_rate!r}; give the number of batches between two refreshes, or 0 to disable the bar."
            )
        self.refresh_rate = refresh_rate
        self.leave = leave
        self.theme = theme if isinstance(theme, RichProgressBarTheme) else RichProgressBarTheme(**theme or {})
        self.console_kwargs = dict(console_kwargs or {})
        self.clock: Callable[[], float] = time.monotonic
        self._disabled = False
        self._live = False
        self._console: Console | None = None
        self._display: Display | None = None
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

    def disable(self) -> None:
        """Wipes the bar and shows nothing from now on."""
        self._disabled = True
        self._stop(leave=False)

    def enable(self) -> None:
        """Shows progress again, from the next epoch on; where the bar was disabled as the run began, from the next run on."""
        self._disabled = False

    def print(self, *args: Any, sep: str = " ", **kwargs: Any) -> None:
        """Prints like the builtin, above the bar."""
        if self._display is None or kwargs.get("file") is not None:
            print(*args, sep=sep, **kwargs)
        else:
            text = Text(sep.join(map(str, args)))
            self._display.console.print(text, end=kwargs.get("end", "\n"), soft_wrap=True)

    def configure_columns(self, trainer: Any) -> list[ProgressColumn]:
        """The columns to the left of the metrics; override it to have others."""
        return standard_columns(self.theme)

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Makes the console; disables the bar on all ranks but 0."""
        super().setup(trainer, pl_module, stage)
        self._console = Console(**self.console_kwargs)
        self._live = is_live(self._console, forced=bool(self.console_kwargs.get("force_terminal")))
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
            line = self._train = Line(self.refresh_rate, self._pace)
            line.restart(self.total_train_batches, description)
            self._show(line)
        else:
            line.restart(self.total_train_batches, description)

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Draws the bar if `refresh_rate` batches and a tenth of a second have passed, and otherwise returns at once."""
        line = self._train
        if line is not None:
            line.done = done = batch_idx + 1
            if done >= line.next and line.due():
                self._draw(line, self.get_metrics(trainer, pl_module))

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Draws the finished epoch; with `leave=True` its line stays, and the next epoch gets another."""
        if self._train is not None:
            self._train.finish()
            self._draw(self._train, self.get_metrics(trainer, pl_module))
            if self.leave:
                self._stop(leave=True)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Leaves the line of the last epoch."""
        self._stop(leave=True)

    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
        """Opens the bar of the sanity check or of the validation."""
        if self._train is not None:
            self._train.pause()
        self._open(self.sanity_check_description if trainer.sanity_checking else self.validation_description)

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
                self._draw_eval(line)

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        """Closes the validation's bar; what it logged is shown beside the epoch's when that is drawn next."""
        self._finish(leave=self._train is None and not trainer.sanity_checking)
        if self._train is not None:
            self._train.resume()
            self._validated = self.clock()

    def on_test_start(self, trainer: Any, pl_module: Any) -> None:
        """Opens the bar of the test."""
        self._open(self.test_description)

    def on_predict_start(self, trainer: Any, pl_module: Any) -> None:
        """Opens the bar of the prediction."""
        self._open(self.predict_description)

    def on_test_end(self, trainer: Any, pl_module: Any) -> None:
        """Leaves the bar, finished."""
        self._finish(leave=True)

    on_test_batch_end = on_predict_batch_end = on_validation_batch_end
    on_predict_end = on_test_end

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """Leaves the bar where it stands and gives the terminal back; no metric is read, since the device may be what failed."""
        line = self._train or self._eval
        if line is not None:
            self._draw(line)
        self._stop(leave=True)

    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Closes what is open, so that the terminal is clean and this callback can be pickled."""
        self._stop(leave=True)
        self._console = None

    def _open(self, description: str) -> None:
        if self.is_disabled:
            return
        line = self._eval = Line(self.refresh_rate, self._pace)
        self._eval_description = description
        self._next_loader(line, 0)
        if self._live and (self._train is None or self.clock() - self._validated > SECONDS_BETWEEN_VALIDATIONS or self._pace.wait() <= 0):
            self._draw_eval(line)

    def _next_loader(self, line: Line, dataloader_idx: int) -> None:
        self._loader = dataloader_idx
        many = len(self.trainer.num_eval_batches) > 1
        description = f"{self._eval_description} DataLoader {dataloader_idx}" if many else self._eval_description
        line.restart(self.total_eval_batches(dataloader_idx), description)

    def _finish(self, leave: bool) -> None:
        line = self._eval
        if line is None:
            return
        if leave:
            line.finish()
            self._draw(line)
            self._stop(leave=True)
        elif self._display is not None and line.task is not None:
            self._display.remove_task(line.task)  # it goes from the screen when that is drawn next
        self._eval = None

    def _show(self, line: Line, metrics: dict[str, Any] | None = None, refresh: bool = True) -> None:
        """Shows what there is of a line, if there is a terminal."""
        if metrics is not None:
            line.metrics = self.theme.metrics_text(metrics)
        line.count()
        line.shown = line.done
        if not self._live or self._console is None:
            return
        with self._pace:
            display = self._display
            if display is None:
                display = self._display = Display(self.configure_columns(self.trainer), MetricsColumn(self.theme.metrics), self._console)
                display.start()
            if line.fresh and line.task is not None:
                display.remove_task(line.task)  # and not reset, which cannot make a known total unknown
                line.task = None
            if line.task is None:
                line.fresh = False
                line.task = display.add_task(line.description, total=None if math.isinf(line.total) else line.total)
            fields: dict[str, Any] = {"metrics": line.metrics, "seconds": line.seconds, "batches_per_second": line.speed}
            display.update(line.task, completed=line.done, refresh=refresh, **fields)

    def _draw(self, line: Line, metrics: dict[str, Any] | None = None) -> None:
        """Shows a line, or prints it where there is no terminal."""
        self._show(line, metrics)
        if self._console is not None and not self._live:
            with self._pace:
                self._console.print(Text(line.text()), soft_wrap=True)

    def _draw_eval(self, line: Line) -> None:
        train = self._train
        if train is not None and self._live and train.shown < train.done:
            self._show(train, self.get_metrics(self.trainer, self.trainer.lightning_module), refresh=False)
        self._draw(line)

    def _stop(self, leave: bool) -> None:
        display, self._display = self._display, None
        if display is not None:
            if self._eval is not None and self._train is not None and self._eval.task is not None:
                display.remove_task(self._eval.task)
            display.live.transient = not leave
            display.stop()
        self._train = self._eval = None


def is_live(console: Console, forced: bool) -> bool:
    """Whether bars can be drawn in place; not where it is only a variable of the environment that makes a log a terminal."""
    return console.is_jupyter or (console.is_terminal and not console.is_dumb_terminal and (forced or console.file.isatty()))
