"""`lx env`: versions, devices and plugins, to be pasted in a bug report."""

import argparse
import json
import os
import platform
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout

import lx
from lx.cli.table import columns
from lx.kernel.manager import ACTIVE, PluginManager
from lx.kernel.requirements import installed_version

Row = tuple[str, str]


def run(manager: PluginManager, arguments: Sequence[str]) -> int:
    """Runs `lx env` with the arguments after these words; returns the exit code."""
    parser = argparse.ArgumentParser(prog="lx env", description="Prints what to paste in a bug report.")
    parser.add_argument("--json", action="store_true", help="prints JSON, a list of pairs")
    options = parser.parse_args(arguments)
    with redirect_stdout(sys.stderr):  # what a plugin prints is no part of the output
        rows = [*versions(), *torch_rows(), *devices(manager), *plugin_rows(manager), *doctor(manager), *variables()]
    print(json.dumps(rows, indent=2) if options.json else columns(rows))
    return 0


def versions() -> list[Row]:
    """lx, Python, the system, and what the kernel stands on."""
    rows = [("lx", lx.__version__), ("python", f"{platform.python_version()} ({platform.python_implementation()}) {sys.prefix}")]
    rows.append(("system", f"{platform.platform()} {platform.machine()}, {os.cpu_count()} CPUs"))
    return rows + [(name, installed_version(name) or "not installed") for name in ("pluggy", "importlib-metadata", "packaging")]


def torch_rows() -> list[Row]:
    """torch as it is imported, and the accelerators that it sees by itself."""
    try:
        import torch  # noqa: PLC0415 -- `lx plugins`, in the same package, must not import it
    except Exception as error:
        return [("torch", f"{installed_version('torch') or 'not installed'}, cannot be imported: {type(error).__name__}: {error}")]
    rows = [("torch", f"{torch.__version__}, {torch.get_num_threads()} threads")]
    if torch.accelerator.is_available():
        device = torch.accelerator.current_accelerator()
        module = torch.get_device_module(device)
        names = [getattr(module, "get_device_name", str)(index) for index in range(torch.accelerator.device_count())]
        rows.append((f"torch {device}", ", ".join(names)))
    return rows


def devices(manager: PluginManager) -> list[Row]:
    """What each installed accelerator says of itself."""
    rows = []
    for entry in manager.registry.accelerator.entries():
        try:
            accelerator = manager.registry.accelerator.load(entry)
            told = f"available, {accelerator.auto_device_count()} by default" if accelerator.is_available() else "not available"
        except Exception as error:
            told = f"{type(error).__name__}: {error}"
        rows.append((f"accelerator {entry.name}", told))
    return rows


def plugin_rows(manager: PluginManager) -> list[Row]:
    """Each plugin, with its state and the reason where it is not active."""
    return [
        (
            f"plugin {plugin.slug}",
            f"{plugin.distribution} {plugin.version}" + (f", {plugin.state}: {plugin.reason}" if plugin.state != ACTIVE else ""),
        )
        for plugin in manager.survey()
    ]


def doctor(manager: PluginManager) -> list[Row]:
    """What plugins add through the hook `lx_doctor`."""
    rows = []
    for plugin, told in manager.gather("lx_doctor"):
        try:
            rows += [(f"{plugin.slug} {what}", str(value)) for what, value in told]
        except (TypeError, ValueError) as error:
            rows.append((f"{plugin.slug} lx_doctor", f"gave {told!r} instead of pairs ({error})"))
    return rows + [(f"{plugin.slug} lx_doctor", plugin.reason) for plugin in manager.plugins if plugin.error and plugin.state != ACTIVE]


def variables() -> list[Row]:
    """The environment variables that change what lx does."""
    return [(name, repr(value)) for name, value in sorted(os.environ.items()) if name.startswith("LX_")]
