"""The `lx` command, run in this process over fake distributions, and once for real."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from lx.cli import CommandLine, main, plugins
from lx.cli.table import columns, paragraph
from lx.kernel import PluginManager
from lx.testing.fixtures import Distributions

CLAY = """
    from lx.kernel import hookimpl
    lx_api = 1
    print("printed at import")
    @hookimpl
    def lx_register(registry):
        ranks = {"default": 3}
        registry.logger.add("clay", "clay_plugin.logger:ClayLogger", summary="writes in clay", aliases=("tablet",), roles=ranks, depth=2)
        registry.callback.add("kiln", "clay_plugin.callback:Kiln", summary="burns")
        registry.callback.add("hot_kiln", "clay_plugin.callback:Kiln", summary="burns more")
        registry.callback.add("cracked", "clay_plugin.cracked:Cracked", summary="cannot be imported")
    @hookimpl
    def lx_cli_commands(cli):
        cli.add_command("dig", lambda arguments: print("dug", *arguments) or len(arguments), help="digs clay")
    @hookimpl
    def lx_doctor():
        return [("kiln temperature", "1200 C")]
"""
LOGGER = '''
    class ClayLogger:
        """Writes metrics in clay.

        It takes a while.
        """

        def __init__(self, path: str, depth: int = 1, *tools: str, **options) -> None: ...
'''
CALLBACK = """
    class Kiln:
        def __init__(self, hot: bool | None = None): ...
"""


@dataclass
class Result:
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str


Run = Callable[..., Result]


@pytest.fixture
def site(make_distribution: Distributions) -> Distributions:
    files = {"clay_plugin/__init__.py": CLAY, "clay_plugin/logger.py": LOGGER, "clay_plugin/callback.py": CALLBACK}
    files["clay_plugin/cracked.py"] = "import no_such_library"
    make_distribution("acme-clay", files, plugins={"clay": "clay_plugin"}, version="2.0", requires=("pluggy>=1.0", "packaging"))
    return make_distribution


@pytest.fixture
def lx(site: Distributions, capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*arguments: str, **options: Any) -> Result:
        try:
            code = CommandLine(site.manager(**options)).run(arguments)
        except SystemExit as stop:  # argparse ends so
            code = int(stop.code or 0)
        captured = capsys.readouterr()
        return Result(code, captured.out, captured.err)

    return run


# -- lx plugins --------------------------------------------------------------------------------------------------------------


def test_the_table(lx: Run) -> None:
    result = lx("plugins")
    assert result.code == 0
    header, row = result.out.splitlines()
    assert header.split() == ["PLUGIN", "VERSION", "STATE", "COMPONENTS", "REASON"]
    assert row.split("  ")[0] == "clay"
    assert all(words in row for words in ("2.0", "active", "logger: clay", "callback: kiln, hot_kiln, cracked"))
    assert "clay_plugin.logger" not in sys.modules


def test_what_plugins_print_at_import_does_not_get_into_the_output(lx: Run) -> None:
    result = lx("plugins", "--json")
    assert json.loads(result.out)[0]["slug"] == "clay"
    assert "printed at import" in result.err


def test_broken_blocked_and_unmet_plugins_have_their_reason_in_their_row(lx: Run, site: Distributions) -> None:
    site("acme-bad", {"bad_plugin.py": "import sys; sys.exit(1)"}, plugins={"bad": "bad_plugin"})
    site("acme-api", {"api_plugin.py": "lx_api = 9"}, plugins={"api": "api_plugin"})
    site("acme-poor", {"poor_plugin.py": "lx_api = 1"}, plugins={"poor": "poor_plugin"}, requires=("no-such-package>=2",))
    result = lx("plugins", disabled=["clay"])
    assert result.code == 0
    rows = {line.split()[0]: line for line in result.out.splitlines()[1:]}
    assert "broken" in rows["bad"]
    assert rows["bad"].endswith("SystemExit: 1")
    assert "incompatible" in rows["api"]
    assert "it was written for kernel API 9" in rows["api"]
    assert "unmet" in rows["poor"]
    assert rows["poor"].endswith("it requires no-such-package>=2, which is not installed")
    assert "blocked" in rows["clay"]
    assert rows["clay"].endswith("LX_DISABLE names 'clay'")


def test_the_json_of_the_list(lx: Run, site: Distributions) -> None:
    site("acme-bad", {"bad_plugin.py": "1 / 0"}, plugins={"bad": "bad_plugin"})
    bad, clay = json.loads(lx("plugins", "--json").out)
    assert bad == {
        "slug": "bad",
        "distribution": "acme-bad",
        "version": "0.1.0",
        "module": "bad_plugin",
        "requires": [],
        "state": "broken",
        "reason": "ZeroDivisionError: division by zero",
        "components": {},
    }
    assert clay["requires"] == ["pluggy>=1.0", "packaging"]
    assert clay["components"]["logger"] == [{"name": "clay", "aliases": ["tablet"], "summary": "writes in clay", "roles": {"default": 3}}]
    assert [row["name"] for row in clay["components"]["callback"]] == ["kiln", "hot_kiln", "cracked"]


def test_switches_that_name_nobody_are_told(lx: Run) -> None:
    result = lx("plugins", disabled=["cley"])
    assert result.code == 0
    assert "name what is not installed: cley" in result.err


@pytest.mark.parametrize("width", [60, 80, 120])
def test_in_a_terminal_no_line_is_wider_than_it(lx: Run, site: Distributions, monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    monkeypatch.setattr(plugins, "output_width", lambda: width)
    site("acme-bad", {"bad_plugin.py": f"raise RuntimeError({'many words ' * 30!r})"}, plugins={"bad": "bad_plugin"})
    for arguments in (["plugins"], ["plugins", "show", "clay"]):
        result = lx(*arguments)
        assert max(map(len, result.out.splitlines())) <= width
    lines = lx("plugins").out.splitlines()
    bad = next(number for number, line in enumerate(lines) if line.startswith("bad"))
    assert lines[bad + 1].startswith("    RuntimeError: many words")
    assert "many words" not in lx("plugins", only=[]).out


# -- lx plugins show -----------------------------------------------------------------------------------------------------------


def test_show_a_plugin(lx: Run) -> None:
    result = lx("plugins", "show", "clay")
    assert result.code == 0
    assert "acme-clay 2.0" in result.out
    assert "logger 'clay': writes in clay" in result.out
    assert "  doc    Writes metrics in clay.\n" in result.out
    assert "It takes a while" not in result.out
    assert "    path: str\n    depth: int = 2\n    *tools: str\n    **options\n" in result.out
    assert "arguments  as for 'kiln'" in result.out
    assert "'cracked' of acme-clay cannot be imported" in result.out


@pytest.mark.parametrize("name", ["kiln", "KILN", "kiln@acme-clay"])
def test_show_a_component_imports_that_one_only(lx: Run, name: str) -> None:
    result = lx("plugins", "show", name)
    assert result.code == 0
    assert "callback 'kiln': burns" in result.out
    assert "    hot: bool | None = None" in result.out
    assert "writes in clay" not in result.out
    assert "clay_plugin.callback" in sys.modules
    assert "clay_plugin.logger" not in sys.modules


def test_show_by_class_and_alias(lx: Run) -> None:
    assert "logger 'clay'" in lx("plugins", "show", "tablet").out
    assert "logger 'clay'" in lx("plugins", "show", "ClayLogger").out


def test_show_what_two_plugins_offer(lx: Run, site: Distributions) -> None:
    source = CLAY.replace("clay_plugin", "other_clay").replace("dig", "delve")
    site("zen-clay", {"other_clay/__init__.py": source, "other_clay/callback.py": CALLBACK}, plugins={"other": "other_clay"})
    assert lx("plugins", "show", "kiln").out.count("callback 'kiln': burns") == 2
    assert lx("plugins", "show", "kiln@zen-clay").out.count("callback 'kiln': burns") == 1


def test_the_json_of_one(lx: Run) -> None:
    (plugin,) = json.loads(lx("plugins", "show", "clay", "--json").out)
    cards = {card["name"]: card for card in plugin["components"]}
    assert cards["clay"]["doc"] == "Writes metrics in clay."
    assert cards["clay"]["arguments"] == [
        {"name": "path", "annotation": "str", "required": True, "default": None},
        {"name": "depth", "annotation": "int", "required": False, "default": "2"},
        {"name": "*tools", "annotation": "str", "required": False, "default": None},
        {"name": "**options", "annotation": "", "required": False, "default": None},
    ]
    assert cards["cracked"]["arguments"] is None
    assert "No module named 'no_such_library'" in cards["cracked"]["error"]
    assert json.loads(lx("plugins", "--json", "show", "kiln").out)[0]["components"][0]["name"] == "kiln"


def test_show_a_broken_plugin_prints_the_traceback(lx: Run, site: Distributions) -> None:
    site("acme-bad", {"bad_plugin.py": "def fire():\n    raise OSError('no fire')\nfire()"}, plugins={"bad": "bad_plugin"})
    result = lx("plugins", "show", "bad")
    assert result.code == 0
    assert "OSError: no fire" in result.out
    assert 'bad_plugin.py", line 2, in fire' in result.out


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("clya", "there is no plugin or component 'clya'. Did you mean 'clay'?"),
        ("hot-kil", "Did you mean 'hot_kiln'?"),
        ("zzz", "there is no plugin or component 'zzz'. The plugins are: clay."),
        ("kiln@nobody", "there is no plugin or component 'kiln@nobody'. Did you mean 'kiln'?"),
    ],
)
def test_an_unknown_name(lx: Run, name: str, says: str) -> None:
    result = lx("plugins", "show", name)
    assert (result.code, result.out) == (2, "")
    assert says in result.err


def test_a_known_name_says_what_to_install(lx: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lx.kernel.manager.COMPONENTS", {"logger": {"marble": ("marble",)}})
    result = lx("plugins", "show", "marble")
    assert result.code == 2
    assert "`pip install lx-plugin-marble`" in result.err


# -- the command itself ----------------------------------------------------------------------------------------------------


def test_help_lists_the_commands_of_plugins_too(lx: Run) -> None:
    for arguments in ([], ["--help"], ["-h"]):
        result = lx(*arguments)
        assert result.code == 0
        assert [line.split()[0] for line in result.out.splitlines() if line.startswith("  ")] == [
            "plugins",
            "env",
            "ckpt",
            "upgrade-checkpoint",
            "verify-resume",
            "consolidate",
            "dig",
            "--version",
        ]
        assert "digs clay" in result.out


def test_version(lx: Run) -> None:
    from importlib.metadata import version

    for flag in ("--version", "-V"):
        assert lx(flag).out == f"lx {version('lx-core')}\n"


def test_a_command_of_a_plugin(lx: Run) -> None:
    result = lx("dig", "--deep", "here")
    assert (result.code, result.out) == (2, "dug --deep here\n")
    assert lx("dig").code == 0


def test_an_unknown_command_gets_the_nearest_one(lx: Run) -> None:
    result = lx("plugin")
    assert (result.code, result.out) == (2, "")
    assert "there is no command 'plugin'. Did you mean 'plugins'?" in result.err
    assert "Did you mean 'dig'?" in lx("dug").err
    assert "There are: plugins, env, ckpt, upgrade-checkpoint, verify-resume, consolidate, dig." in lx("zzzzz").err


@pytest.mark.parametrize("arguments", [["plugins", "--nonsense"], ["plugins", "shw"], ["plugins", "show"], ["env", "more"]])
def test_arguments_that_make_no_sense(lx: Run, arguments: list[str]) -> None:
    result = lx(*arguments)
    assert result.code == 2
    assert "usage: lx" in result.err


def test_a_plugin_whose_commands_fail_does_not_take_the_others_with_it(lx: Run, site: Distributions) -> None:
    source = """
        from lx.kernel import hookimpl
        lx_api = 1
        @hookimpl
        def lx_cli_commands(cli):
            cli.add_command({name!r}, print)
            raise RuntimeError("half way")
    """
    site("acme-bad", {"bad_commands.py": source.format(name="bad")}, plugins={"bad": "bad_commands"})
    site("acme-env", {"env_commands.py": source.format(name="env")}, plugins={"second-env": "env_commands"})
    result = lx("dig")
    assert result.code == 0
    assert "the plugin 'bad' is broken: RuntimeError: half way" in result.err
    assert "ValueError: the command 'env' exists already" in result.err


def test_main_turns_errors_of_lx_into_messages(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from lx.kernel.errors import MisconfigurationException

    def refuse(self: CommandLine, arguments: list[str]) -> int:
        raise MisconfigurationException("not so.")

    monkeypatch.setattr(CommandLine, "run", refuse)
    assert main(["plugins"]) == 2
    assert capsys.readouterr().err == "lx: not so.\n"


# -- lx env ------------------------------------------------------------------------------------------------------------------


def test_env(lx: Run, site: Distributions, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    site("acme-bad", {"bad_plugin.py": "1 / 0"}, plugins={"bad": "bad_plugin"})
    monkeypatch.setenv("LX_TRACE", "0")
    result = lx("env")
    rows = dict(line.split("  ", 1) for line in result.out.splitlines())
    rows = {name: value.strip() for name, value in rows.items()}
    assert result.code == 0
    assert rows["torch"].startswith(torch.__version__)
    assert rows["python"].startswith(sys.version.split()[0])
    assert rows["plugin clay"] == "acme-clay 2.0"
    assert rows["plugin bad"] == "acme-bad 0.1.0, broken: ZeroDivisionError: division by zero"
    assert rows["clay kiln temperature"] == "1200 C"
    assert rows["LX_TRACE"] == "'0'"
    assert {"lx", "system", "pluggy"} <= set(rows)
    assert dict(json.loads(lx("env", "--json").out))["plugin clay"] == "acme-clay 2.0"


def test_env_shows_devices_and_what_fails(lx: Run, site: Distributions) -> None:
    plugin = """
        from lx.kernel import hookimpl
        lx_api = 1
        @hookimpl
        def lx_register(registry):
            registry.accelerator.add("wheel", "wheel_plugin:Wheel")
            registry.accelerator.add("flat", "wheel_plugin:Flat")
            registry.accelerator.add("gone", "no_such_module:Gone")
        @hookimpl
        def lx_doctor():
            {body}
        class Wheel:
            is_available = staticmethod(lambda: True)
            auto_device_count = staticmethod(lambda: 4)
        class Flat:
            is_available = staticmethod(lambda: False)
    """
    site("acme-wheel", {"wheel_plugin.py": plugin.format(body="raise OSError('no axle')")}, plugins={"wheel": "wheel_plugin"})
    site("acme-odd", {"odd_doctor.py": plugin.format(body="return 5").replace('"wheel"', '"other"')}, plugins={"odd": "odd_doctor"})
    rows = dict(json.loads(lx("env", "--json").out))
    assert rows["accelerator wheel"] == "available, 4 by default"
    assert rows["accelerator flat"] == "not available"
    assert "cannot be imported from 'no_such_module:Gone'" in rows["accelerator gone"]
    assert rows["wheel lx_doctor"] == "OSError: no axle"
    assert rows["odd lx_doctor"].startswith("gave 5 instead of pairs")


# -- for real ------------------------------------------------------------------------------------------------------------------


def child(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    environ = {**os.environ, "PYTHONWARNINGS": "error"}
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False, env=environ, **options)


def test_the_list_in_a_process_of_its_own_imports_no_torch() -> None:
    code = "import sys; from lx.cli import main; code = main(['plugins']); sys.exit(code or ('torch' in sys.modules) * 9)"
    done = child("-c", code)
    assert done.returncode == 0, done.stderr
    assert "active   precision: 32-true" in next(line for line in done.stdout.splitlines() if line.startswith("core "))


def test_python_m_and_the_script() -> None:
    assert child("-m", "lx.cli", "--version").stdout.startswith("lx ")
    done = child("-c", "import sys; from importlib_metadata import entry_points; sys.argv = ['lx', 'nonsense']; "
                       "sys.exit(entry_points(group='console_scripts')['lx'].load()())")  # fmt: skip
    assert done.returncode == 2


def test_a_pipe_that_is_closed_early_is_no_error() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run([sys.executable, "-m", "lx.cli", "plugins"], stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (1, "")


def test_with_thirty_plugins_the_list_costs_little(make_distribution: Distributions) -> None:
    """Not a time, which a busy machine stretches, but what costs it: no component, no packaging, one look at each METADATA."""
    for number in range(30):
        source = f"""
            from lx.kernel import hookimpl
            lx_api = 1
            @hookimpl
            def lx_register(registry):
                registry.callback.add("part_{number}", "many_{number}.callback:Part")
        """
        make_distribution(f"acme-many-{number}", {f"many_{number}/__init__.py": source}, requires=("lx-core>=0.1", "pluggy>=1.0"))
    code = (
        "import sys; from importlib_metadata import Distribution\n"
        "reads, read = [], Distribution.metadata.fget\n"
        "Distribution.metadata = property(lambda self: reads.append(self) or read(self))\n"
        "from lx.cli import main; code = main(['plugins'])\n"
        "late = [name for name in sys.modules if name.endswith('.callback') or name in ('torch', 'packaging.requirements')]\n"
        "sys.exit(f'{late} {len(reads)} parsed' if late or reads else code)"
    )
    environ = {**os.environ, "PYTHONPATH": make_distribution.path}
    environ.pop("LX_PLUGINS", None)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environ)
    assert done.returncode == 0, done.stderr
    assert sum(line.startswith("many_") for line in done.stdout.splitlines()) == 30


# -- tables -----------------------------------------------------------------------------------------------------------------


def test_columns() -> None:
    assert columns([("a", "bb", "c"), ("aaa", "b", "")]) == "a    bb  c\naaa  b"
    wrapped = columns([("name", "one two three four five six seven")], width=24).splitlines()
    assert wrapped == ["name  one two three four", "      five six seven"]
    assert columns([("n", "line\nbreak  and\ttab")]) == "n  line break and tab"
    assert columns([("n", "x" * 30)], width=10).splitlines() == ["n  " + "x" * 12, "   " + "x" * 12, "   " + "x" * 6]


def test_paragraph() -> None:
    assert paragraph("one\n two  three", None, indent="  ") == "  one two three"
    assert paragraph("one two three", 8, indent="  ").splitlines() == ["  one", "  two", "  three"]


def test_nothing_installed_is_an_empty_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert CommandLine(PluginManager(entry_points=[])).run(["plugins"]) == 0
    assert capsys.readouterr().out.split() == ["PLUGIN", "VERSION", "STATE", "COMPONENTS", "REASON"]
