"""`lx serve`: the model in a checkpoint, over HTTP."""

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Any

from lx.kernel.errors import MisconfigurationException
from lx.kernel.registry import import_target
from lx_plugin_serve.app import require_servable, serve


def run(arguments: Sequence[str]) -> int:
    """Runs `lx serve` with the arguments after that word; returns the exit code."""
    options = parser().parse_args(arguments)
    model = _class(options.model).load_from_checkpoint(options.checkpoint, map_location=options.device)
    require_servable(model)
    serve(model, options.host, options.port)
    return 0


def parser() -> argparse.ArgumentParser:
    """The command line of `lx serve`."""
    top = argparse.ArgumentParser(prog="lx serve", description="Serves the model in a checkpoint: GET /ping, POST /serve.")
    top.add_argument("model", metavar="MODULE:CLASS", help="the class of the model, a LightningModule and ServableModule")
    top.add_argument("checkpoint", metavar="CHECKPOINT", help="the file that a Trainer wrote")
    top.add_argument("--host", default="127.0.0.1", help="where to listen (default: %(default)s, this machine alone)")
    top.add_argument("--port", type=int, default=8080, help="where to listen (default: %(default)s; 0: a free port)")
    top.add_argument("--device", default="cpu", help="where the model is put (default: %(default)s)")
    return top


def _class(target: str) -> Any:
    sys.path.insert(0, os.getcwd())  # as `python -m` has it: a script finds the modules beside it
    try:
        return import_target(target)
    except (ImportError, AttributeError) as error:
        raise MisconfigurationException(
            f"{target!r}: the class of the model is given as MODULE:CLASS, such as 'my_project.model:Net', importable from here; {error}."
        ) from error
