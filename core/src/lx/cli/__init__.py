"""The `lx` command: `lx plugins`, `lx env`, `lx ckpt`, `lx verify-resume`, `lx upgrade-checkpoint`, `lx consolidate`, and those of plugins.

They add them through the hook `lx_cli_commands`.
"""

import os
import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from difflib import get_close_matches

import lx
from lx.cli import ckpt, consolidate, env, plugins, upgrade, verify_resume
from lx.cli.table import columns
from lx.kernel.errors import LxError
from lx.kernel.manager import PluginManager

Function = Callable[[list[str]], int | None]


@dataclass(frozen=True, slots=True)
class Command:
    """A subcommand: its function gets the arguments after the name, and returns the exit code (None is 0)."""

    name: str
    function: Function
    help: str


class CommandLine:
    """What `lx_cli_commands(cli)` gets.

    >>> cli = CommandLine(PluginManager(entry_points=[]))
    >>> cli.add_command("greet", lambda arguments: print("hello", *arguments), help="says hello")
    >>> cli.run(["greet", "you"])
    hello you
    0
    """

    def __init__(self, manager: PluginManager) -> None:
        self.manager = manager
        self._commands: dict[str, Command] = {}
        self.add_command("plugins", lambda arguments: plugins.run(manager, arguments), help="lists the plugins, or shows one")
        self.add_command("env", lambda arguments: env.run(manager, arguments), help="prints versions and devices, for bug reports")
        self.add_command("ckpt", lambda arguments: ckpt.run(manager, arguments), help="inspects, verifies, compares, converts checkpoints")
        self.add_command("upgrade-checkpoint", upgrade.run, help="rewrites files of older releases of Lightning in the layout of today")
        self.add_command("verify-resume", verify_resume.run, help="kills a training script at random points, and checks how it resumes")
        self.add_command("consolidate", consolidate.run, help="makes one file of the folder that a sharded run saved")

    def add_command(self, name: str, function: Function, *, help: str = "") -> None:  # noqa: A002 -- the word of argparse
        """Adds a subcommand; `function` gets the list of arguments after its name, and returns the exit code (None is 0).

        Raises `ValueError` if there is one of that name, from lx or from another plugin.
        """
        if name in self._commands:
            raise ValueError(f"the command {name!r} exists already; `lx {name}` can mean one thing only.")
        self._commands[name] = Command(name, function, help)

    def run(self, arguments: Sequence[str]) -> int:
        """Runs a command line, without the leading `lx`; returns the exit code, 2 for one that cannot be understood."""
        name, *rest = arguments or ["--help"]
        if name in ("-V", "--version"):
            print(f"lx {lx.__version__}")
            return 0
        if name not in self._commands:  # only now are the plugins loaded: the commands above need not wait for that
            self._ask_plugins()
        if name in ("-h", "--help"):
            print(self.usage())
            return 0
        if name not in self._commands:
            near = get_close_matches(name, self._commands, n=1)
            hint = f"Did you mean {near[0]!r}?" if near else f"There are: {', '.join(self._commands)}."
            print(f"lx: there is no command {name!r}. {hint}", file=sys.stderr)
            return 2
        return self._commands[name].function(rest) or 0

    def usage(self) -> str:
        """What `lx --help` prints."""
        rows = [(command.name, command.help) for command in self._commands.values()]
        commands = columns([*rows, ("--version", "prints the version of lx")], indent="  ")
        return f"usage: lx COMMAND ...\n\n{commands}\n\n`lx COMMAND --help` explains one of them."

    def _ask_plugins(self) -> None:
        with redirect_stdout(sys.stderr):  # what a plugin prints at import is no part of a command's output
            self.manager.gather("lx_cli_commands", cli=self)
        for plugin in self.manager.plugins:
            if plugin.error is not None:
                print(f"lx: the plugin {plugin.slug!r} is {plugin.state}: {plugin.reason}", file=sys.stderr)


def main(arguments: Sequence[str] | None = None) -> int:
    """The entry point of the `lx` script; returns the exit code."""
    try:
        code = CommandLine(PluginManager.from_environment()).run(sys.argv[1:] if arguments is None else arguments)
        sys.stdout.flush()
    except LxError as error:
        print(f"lx: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # `lx plugins | head`: nobody reads on, and the interpreter must not complain when it flushes
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return code
