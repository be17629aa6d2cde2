"""The callback `data_ledger`: which samples each step was trained on; `read`, `verify` and `lx data-ledger` judge what it wrote."""

import importlib
from typing import TYPE_CHECKING, Any

from lx.kernel import hookimpl

if TYPE_CHECKING:
    from lx_plugin_data_ledger.account import Account, Report, verify
    from lx_plugin_data_ledger.callback import DataLedger
    from lx_plugin_data_ledger.ledger import Entry, Ledger, read

lx_api = 1

__all__ = ["Account", "DataLedger", "Entry", "Ledger", "Report", "read", "verify"]

_HOMES = {
    "Account": "account",
    "DataLedger": "callback",
    "Entry": "ledger",
    "Ledger": "ledger",
    "Report": "account",
    "read": "ledger",
    "verify": "account",
}


@hookimpl
def lx_register(registry: Any) -> None:
    registry.callback.add(
        "data_ledger",
        "lx_plugin_data_ledger.callback:DataLedger",
        summary="Writes down which samples each step was trained on, over any number of restarts",
    )


@hookimpl
def lx_cli_commands(cli: Any) -> None:
    cli.add_command("data-ledger", _judge, help="says whether a run has seen each sample exactly once")


def _judge(arguments: list[str]) -> int:
    return int(importlib.import_module("lx_plugin_data_ledger.command").run(arguments))


def __getattr__(name: str) -> Any:
    # Every process that uses lx reads this file, and few have a ledger.
    if name not in _HOMES:
        raise AttributeError(f"module 'lx_plugin_data_ledger' has no attribute {name!r}; it offers {', '.join(__all__)}")
    return getattr(importlib.import_module(f"lx_plugin_data_ledger.{_HOMES[name]}"), name)
