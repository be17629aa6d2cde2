"""`lx ckpt inspect | verify | diff | convert`: for people who look at checkpoints. Nothing in a file is ever run."""

import argparse
import sys
from collections.abc import Sequence

from lx.cli.ckpt import conversion, difference, inspection, verification
from lx.kernel.manager import PluginManager

TROUBLE = {"diff": 2}
"""The exit code where a command could not do its work, if it is not 1; `diff` means by 1 that two files differ."""


def run(manager: PluginManager, arguments: Sequence[str]) -> int:
    """Runs `lx ckpt` with the arguments after these words; returns the exit code."""
    top = argparse.ArgumentParser(
        prog="lx ckpt",
        description="Looks at checkpoints: those of lx and Lightning, safetensors files, and folders of torch.distributed.checkpoint."
        " Nothing in a file is ever run.",
    )
    actions = top.add_subparsers(dest="action", metavar="inspect | verify | diff | convert", required=True)
    for command in (inspection, verification, difference, conversion):
        command.add_to(actions)
    options = top.parse_args(arguments)
    try:
        code: int = options.run(manager.registry, options)
    except Exception as error:  # whatever is in a file that anyone may have written
        said = " ".join(str(error).split()) or type(error).__name__
        print(f"lx ckpt {options.action}: {said}", file=sys.stderr)
        return TROUBLE.get(options.action, 1)
    return code
