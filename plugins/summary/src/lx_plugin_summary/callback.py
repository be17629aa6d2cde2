"""Prints the summary of the model as plain text."""

import shutil
import sys
from typing import Any

from lx import Callback
from lx.kernel.errors import ArgumentValueError
from lx.measures.summary import ModelSummary as Summary
from lx.measures.summary import format_table, totals_rows


class ModelSummary(Callback):
    """Prints a table of the model's layers when fit begins.

    It is made on every rank, since the forward of a sharded model needs all of them, and printed on rank 0. `max_depth` is the number of
    levels of layers to show; 0 prints nothing, -1 shows all, and what is below raises `ValueError`. With an `example_input_array` in the
    module there are columns for sizes and FLOPs. Under the table stands what training takes of the device's memory, as far as that is
    known. `summarize_kwargs` go to `summarize`.

    >>> ModelSummary(max_depth=-1).listens_to("on_fit_start"), ModelSummary(max_depth=0).listens_to("on_fit_start")
    (True, False)
    """

    roles = frozenset({"model-summary"})

    def __init__(self, max_depth: int = 1, **summarize_kwargs: Any) -> None:
        if not isinstance(max_depth, int) or max_depth < -1:
            raise ArgumentValueError(f"max_depth={max_depth!r}: give -1 for all layers, 0 for no summary, or how many levels to show.")
        self.max_depth = max_depth
        self.summarize_kwargs = summarize_kwargs

    def listens_to(self, event: str) -> bool:
        """All that it listens to is the start of fit, and that only if there is something to print."""
        return self.max_depth != 0 and super().listens_to(event)

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        """Makes the summary on every rank, and prints it on rank 0."""
        example = getattr(pl_module, "example_input_array", None)
        summary = Summary(
            pl_module,
            max_depth=self.max_depth,
            example_input=None if example is None else trainer.precision_plugin.convert_input(example),
            context=trainer.precision_plugin.forward_context(),
        )
        memory = summary.memory(trainer.optimizers, context=trainer.precision_plugin.forward_context())
        if not trainer.is_global_zero:
            return
        self.summarize(
            summary.columns(),
            summary.total_parameters,
            summary.trainable_parameters,
            summary.model_size,
            summary.total_training_modes,
            summary.total_flops,
            **self.summarize_kwargs,
        )
        for note in (str(memory), *summary.notes()):
            print(note)

    @staticmethod
    def summarize(
        summary_data: list[tuple[str, list[str]]],
        total_parameters: int,
        trainable_parameters: int,
        model_size: float,
        total_training_modes: dict[str, int],
        total_flops: int,
        **summarize_kwargs: Any,
    ) -> None:
        """Prints the table; override it in a subclass to render it otherwise.

        `summary_data` holds the columns, each a heading and its cells; `model_size` is in MB (10^6 bytes). Called on rank 0.
        """
        totals = totals_rows(total_parameters, trainable_parameters, model_size, total_training_modes, total_flops)
        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
        print(f"\n{format_table(summary_data, totals, width)}", flush=True)
