"""The hooks that a plugin may implement. All of them fire at set-up or at the ends of a run, never per batch."""

from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    from lx.kernel.manager import PluginManager
    from lx.kernel.registry import Registry

API = 1
"""The version of what is on this page. The kernel serves plugins written for `API` and `API - 1`."""

hookspec = pluggy.HookspecMarker("lx")
hookimpl = pluggy.HookimplMarker("lx")


@hookspec
def lx_extend(manager: "PluginManager") -> None:
    """Adds kinds and hook specifications of a plugin's own; called once, before `lx_register` of any plugin.

    `manager.registry.add_kind("exporter", interface="acme.exporter:Exporter")`, `manager.add_hookspecs(module)`.
    """


@hookspec
def lx_register(registry: "Registry") -> None:
    """Registers components, by name and by import path; called once in every process that uses a registry."""


@hookspec
def lx_trainer_created(trainer: Any) -> None:
    """Called on every rank at the end of `Trainer(...)`, with the trainer."""


@hookspec
def lx_cli_commands(cli: Any) -> None:
    """Adds subcommands to the `lx` command: `cli.add_command("name", function, help="...")`."""


@hookspec
def lx_doctor() -> "list[tuple[str, str]]":
    """Returns rows of (what, value) for `lx env`, such as the version of a driver; must not import torch."""
    return []


@hookspec
def lx_run_started(run: Any) -> None:
    """Called on every rank when a run (fit, validate, test, predict) begins, after its components are set up."""


@hookspec
def lx_run_ended(run: Any) -> None:
    """Called on every rank when a run has ended, also by an exception, which is then `run.exception`."""
