"""`lx data-ledger`: whether a run has seen each sample exactly once, and which step took which samples."""

import argparse
from collections.abc import Sequence
from typing import Any

from lx_plugin_data_ledger.account import verify
from lx_plugin_data_ledger.ledger import Entry, Ledger, read
from lx_plugin_data_ledger.notation import shown

RIGHT, WRONG = 0, 1


def run(arguments: Sequence[str]) -> int:
    """Runs `lx data-ledger` with the arguments after that word; returns the exit code."""
    options = parser().parse_args(arguments)
    ledger = read(options.path, options.run)
    if options.sample is not None:
        return _tell(f"sample {options.sample}", ledger, ledger.of_sample(_read(options.sample), options.loader))
    if options.step is not None:
        return _tell(f"step {options.step}", ledger, ledger.of_step(options.step))
    report = verify(ledger)
    print(report)
    return RIGHT if report.ok else WRONG


def parser() -> argparse.ArgumentParser:
    """The command line of `lx data-ledger`."""
    top = argparse.ArgumentParser(
        prog="lx data-ledger",
        description="Says of each epoch whether every sample was seen exactly once, over all restarts and processes, from what the callback"
        " data_ledger wrote.",
        epilog="exit code: 0 all is as it should be, or was found; 1 it is not; 2 there is no ledger",
    )
    top.add_argument("path", metavar="PATH", help="the folder of the ledger, or the default_root_dir that it lies in")
    top.add_argument("--sample", metavar="INDEX", help="which steps took this sample")
    top.add_argument("--loader", metavar="NUMBER", type=int, default=0, help="of which of several loaders it is (default: %(default)s)")
    top.add_argument("--step", metavar="NUMBER", type=int, help="which samples this step took, as trainer.global_step is after it")
    top.add_argument("--run", metavar="NAME", help="the run that the account ends with, by its name or number (default: the newest)")
    return top


def _read(sample: str) -> Any:
    return int(sample) if sample.removeprefix("-").isdigit() else sample


def _tell(asked: str, ledger: Ledger, entries: list[Entry]) -> int:
    several, processes = {entry.loader for entry in ledger.entries()} != {0}, ledger.runs[-1].world_size > 1
    for entry in entries:
        place = f"epoch {entry.epoch}, batch {entry.batch}"
        loader = f", loader {entry.loader}" if several else ""
        rank = f", process {entry.rank}" if processes else ""
        step = f"step {entry.step}" if entry.step is not None else "skipped by the step" if entry.skipped else "no step"
        print(f"{asked}: {place}{loader}{rank}, {step}: {shown(entry.indices, most=16)}")
    if not entries:
        print(f"{asked}: in no batch that counts")
    return RIGHT if entries else WRONG
