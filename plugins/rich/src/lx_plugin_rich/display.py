"""What rich draws: the columns of a line, and the layout that fits them into the width there is."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.padding import Padding
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TextColumn
from rich.progress_bar import ProgressBar as Graphic
from rich.text import Text

from lx_plugin_rich.line import clock_text

SHORTEST_BAR = 8
LONGEST_BAR = 40
ECHO = 2
"""Columns left free for the `^C` of an interrupt, which would wrap to the next line and leave the bar there twice."""


@dataclass
class RichProgressBarTheme:
    """The styles of the parts of a bar, as rich writes styles, and how metrics are written.

    >>> RichProgressBarTheme(metrics_format=".1f").metrics_text_delimiter
    ' '
    """

    description: str = ""
    progress_bar: str = "#6206E0"
    progress_bar_finished: str = "#6206E0"
    progress_bar_pulse: str = "#6206E0"
    batch_progress: str = ""
    time: str = "dim"
    processing_speed: str = "dim underline"
    metrics: str = "italic"
    metrics_text_delimiter: str = " "
    metrics_format: str = ".3f"

    def metrics_text(self, metrics: dict[str, Any]) -> str:
        """The metrics as one line of text, the version of the logger last; what the format would round to 0 is written with its exponent.

        >>> RichProgressBarTheme().metrics_text({"v_num": 3, "loss": 0.51234, "lr": 2.5e-5, "none": 0.0})
        'loss: 0.512 lr: 2.50e-05 none: 0.000 v_num: 3'
        """
        ordered = sorted(metrics, key=lambda name: name == "v_num")
        return self.metrics_text_delimiter.join(f"{name}: {self._value(metrics[name])}" for name in ordered)

    def _value(self, value: Any) -> str:
        if not isinstance(value, float):
            return str(value)
        text = format(value, self.metrics_format)
        vanishes = value != 0 and not any(digit in text for digit in "123456789") and math.isfinite(value)
        return f"{value:.2e}" if vanishes else text


class BatchesColumn(ProgressColumn):
    """How many batches are done, of how many."""

    def __init__(self, style: str) -> None:
        super().__init__()
        self.style = style

    def render(self, task: Task) -> Text:
        """The text."""
        total = "" if task.total is None else f"/{int(task.total)}"
        return Text(f"{int(task.completed)}{total}", style=self.style)


class TimeColumn(ProgressColumn):
    """The time that the batches took, and the time that the others will take."""

    def __init__(self, style: str) -> None:
        super().__init__()
        self.style = style

    def render(self, task: Task) -> Text:
        """The text."""
        speed = task.fields.get("batches_per_second")
        left = None if task.total is None or not speed else (task.total - task.completed) / speed
        return Text(f"{clock_text(task.fields.get('seconds', 0.0))}<{clock_text(left)}", style=self.style)


class SpeedColumn(ProgressColumn):
    """The batches per second."""

    def __init__(self, style: str) -> None:
        super().__init__()
        self.style = style

    def render(self, task: Task) -> Text:
        """The text."""
        speed = task.fields.get("batches_per_second")
        return Text(f"{speed:.2f}it/s" if speed else "?it/s", style=self.style)


class MetricsColumn(ProgressColumn):
    """The metrics, which go to lines of their own where they do not fit."""

    def __init__(self, style: str) -> None:
        super().__init__()
        self.style = style

    def render(self, task: Task) -> Text:
        """The text."""
        return Text(task.fields.get("metrics", ""), style=self.style)


def standard_columns(theme: RichProgressBarTheme) -> list[ProgressColumn]:
    """The columns left of the metrics."""
    return [
        TextColumn("{task.description}", style=theme.description, markup=False),
        BarColumn(
            bar_width=None,
            style="bar.back",
            complete_style=theme.progress_bar,
            finished_style=theme.progress_bar_finished,
            pulse_style=theme.progress_bar_pulse,
        ),
        BatchesColumn(theme.batch_progress),
        TimeColumn(theme.time),
        SpeedColumn(theme.processing_speed),
    ]


class Display(Progress):
    """rich's live display, with lines that fit every width and no thread that redraws them."""

    def __init__(self, columns: list[ProgressColumn], metrics: ProgressColumn, console: Console) -> None:
        super().__init__(*columns, console=console, auto_refresh=False)
        self.metrics = metrics
        self.quiet = False

    def add_task(self, *args: Any, **kwargs: Any) -> TaskID:
        """Adds a task; unlike rich's it does not draw, since the next update does."""
        self.quiet = True
        task = super().add_task(*args, **kwargs)
        self.quiet = False
        return task

    def refresh(self) -> None:
        """Draws the lines."""
        if not self.quiet:
            super().refresh()

    def get_renderables(self) -> Iterable[RenderableType]:
        """One `Row` for each task."""
        for task in self.tasks:
            if task.visible:
                yield self.row(task)

    def row(self, task: Task) -> "Row":
        """The line of a task."""
        return Row([column if isinstance(column, str) else column(task) for column in self.columns], self.metrics(task))


class Row:
    """A line: texts, at most one bar between them that takes the room that is left, and the metrics where they fit.

    rich's own table would break narrow lines in the middle of their cells, and costs several times as much to lay out.
    """

    def __init__(self, cells: list[RenderableType], metrics: RenderableType) -> None:
        self.cells = cells
        self.metrics = metrics

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width = max(options.max_width - ECHO, 1)
        metrics = as_text(self.metrics, console, options)
        texts = [cell if isinstance(cell, Graphic) else as_text(cell, console, options) for cell in self.cells]
        taken = sum(text.cell_len + 1 for text in texts if isinstance(text, Text))
        bars = sum(isinstance(text, Graphic) for text in texts)
        least = taken + bars * (SHORTEST_BAR + 1)
        beside = least + metrics.cell_len <= width
        if not beside and least > width + 1:
            texts = [text for text in texts if isinstance(text, Text)]
            bars = 0
        room = width - taken - bars - (metrics.cell_len if beside else 0)
        line = Text(no_wrap=True, overflow="crop")
        for text in [*texts, metrics] if beside else texts:
            if line:
                line.append(" ")
            if isinstance(text, Graphic):
                text.width = min(room // bars, LONGEST_BAR)
                graphic = rendered(text, console, options)
                graphic.pad_right(text.width - graphic.cell_len)  # without colours rich draws only the part that is done
                line.append_text(graphic)
            else:
                line.append_text(text)
        line.truncate(width, overflow="crop")
        yield line
        if not beside and metrics:
            yield Padding(metrics, (0, ECHO, 0, 2))


def as_text(cell: RenderableType, console: Console, options: ConsoleOptions) -> Text:
    """What a column gave, as a text that the console can encode."""
    if not isinstance(cell, Text):
        cell = rendered(cell, console, options)
        cell.rstrip()
    try:
        cell.plain.encode(console.encoding)
    except UnicodeEncodeError:
        cell.plain = cell.plain.encode(console.encoding, "replace").decode(console.encoding)
    return cell


def rendered(cell: RenderableType, console: Console, options: ConsoleOptions) -> Text:
    """What anything draws, as a text."""
    return Text.assemble(*((part.text, part.style or "") for part in console.render(cell, options) if not part.control))
