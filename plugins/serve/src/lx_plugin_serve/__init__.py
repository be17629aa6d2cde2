"""A model over HTTP: `ServableModule` says how, `serve` and `lx serve` do it, the callback `servable_module_validator` checks it."""

import importlib
from typing import TYPE_CHECKING, Any

from lx.kernel import hookimpl

if TYPE_CHECKING:
    from lx_plugin_serve.app import application, serve
    from lx_plugin_serve.callback import ServableModuleValidator
    from lx_plugin_serve.module import ServableModule
    from lx_plugin_serve.process import ServerError, served

lx_api = 1

__all__ = ["ServableModule", "ServableModuleValidator", "ServerError", "application", "serve", "served"]

_HOMES = {
    "ServableModule": "module",
    "ServableModuleValidator": "callback",
    "ServerError": "process",
    "application": "app",
    "serve": "app",
    "served": "process",
}


@hookimpl
def lx_extend(manager: Any) -> None:
    manager.registry.add_kind("servable", interface="lx_plugin_serve.module:ServableModule")


@hookimpl
def lx_register(registry: Any) -> None:
    registry.callback.add(
        "servable_module_validator",
        "lx_plugin_serve.callback:ServableModuleValidator",
        summary="Serves the model when training starts, asks it once, and compares the answer with the expected one",
    )
    # The base class that users derive from, so that lx.serve finds it, and says what to install where it is not.
    registry.servable.add(
        "servable_module", "lx_plugin_serve.module:ServableModule", summary="A model that says how it is served over HTTP"
    )


@hookimpl
def lx_cli_commands(cli: Any) -> None:
    cli.add_command("serve", _serve, help="serves the model in a checkpoint over HTTP")


def _serve(arguments: list[str]) -> int:
    return int(importlib.import_module("lx_plugin_serve.command").run(arguments))


def __getattr__(name: str) -> Any:
    # Every process that uses lx reads this file, and few serve: torch and fastapi are imported by those that do.
    if name not in _HOMES:
        raise AttributeError(f"module 'lx_plugin_serve' has no attribute {name!r}; it offers {', '.join(__all__)}")
    return getattr(importlib.import_module(f"lx_plugin_serve.{_HOMES[name]}"), name)
