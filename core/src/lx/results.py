"""The table that validate and test print."""

import math

from lx.state import TrainerFn


def verdict_table(fn: TrainerFn, results: list[dict[str, float]]) -> str:
    """The results of an evaluation as a table: a row for each metric, a column for each loader.

    >>> print(verdict_table(TrainerFn.TESTING, [{"acc": 0.5}]))
    test metric  value
    -----------  -----
    acc            0.5
    """
    names = list(dict.fromkeys(name.partition("/dataloader_idx_")[0] for row in results for name in row))
    header = [f"{fn} metric", *(["value"] if len(results) == 1 else [f"loader {index}" for index in range(len(results))])]
    rows = [[name, *(_cell(row, name, index) for index, row in enumerate(results))] for name in names]
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]
    lines = [header, ["-" * width for width in widths], *rows]
    return "\n".join(
        "  ".join([line[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True))]).rstrip()
        for line in lines
    )


def _cell(row: dict[str, float], name: str, index: int) -> str:
    value = row.get(name, row.get(f"{name}/dataloader_idx_{index}", math.nan))
    return f"{value:.6g}"
