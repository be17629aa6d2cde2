"""Every kind of broken plugin: its files, who asks for what of it, and the error that names it with the cure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lx.kernel.errors import (
    BlockedError,
    BrokenPluginError,
    CollisionError,
    DependencyError,
    LxError,
    UnknownComponentError,
)

HEAD = "from lx.kernel import hookimpl\nlx_api = 1\n@hookimpl\ndef lx_register(registry):\n    "
PART = "registry.callback.add('broken_part', 'broken_part:Part')\n"
GOOD_PART = "from lx.interfaces import Callback\nclass Part(Callback): ...\n"
REPAIR = "`pip install --upgrade acme-broken` may repair it"
KEEP_OUT = "`LX_DISABLE=broken` keeps it out"
FITS = "install a release of it that fits"


@dataclass(frozen=True)
class Broken:
    """One kind: the source of the entry module and of the module of the component, and what is said to who asks for it.

    `state` is the one in `lx plugins`, `said` are parts of the error's message: the plugin's name, what is wrong with it, the cure.
    """

    entry: str
    state: str
    said: tuple[str, ...]
    error: type[Exception] = UnknownComponentError
    part: str | None = GOOD_PART
    slug: str = "broken"
    module: str = "broken_plugin"
    requires: tuple[str, ...] = ()
    environ: Mapping[str, str] = field(default_factory=dict)
    asks: Mapping[str, Any] = field(default_factory=lambda: {"callbacks": "broken_part"})
    of_lx: bool = True

    def __post_init__(self) -> None:
        assert issubclass(self.error, LxError) == self.of_lx


KINDS: dict[str, Broken] = {
    "raises at import": Broken("raise RuntimeError('no licence')\n", "broken", ("broken: RuntimeError: no licence", REPAIR, KEEP_OUT)),
    "exits at import": Broken("import sys\nsys.exit(3)\n", "broken", ("broken: SystemExit: 3", REPAIR, KEEP_OUT)),
    "syntax error": Broken("def broken(:\n", "broken", ("broken: SyntaxError: ", REPAIR, KEEP_OUT)),
    "imports what is not there": Broken(
        "import no_such_library\n" + HEAD + PART, "broken", ("No module named 'no_such_library'", REPAIR, KEEP_OUT)
    ),
    "dependency missing": Broken(
        HEAD + PART,
        "unmet",
        ("the plugin 'broken'", "it requires no-such-package>=2, which is not installed", "`pip install --upgrade acme-broken`"),
        DependencyError,
        requires=("no-such-package>=2",),
    ),
    "dependency missing at import": Broken(
        "import no_such_library\n" + HEAD + PART,
        "unmet",
        ("broken (unmet: ", "it requires no-such-library, which is not installed", "`pip install --upgrade acme-broken` installs what it"),
        requires=("no-such-library",),
    ),
    "dependency too old": Broken(
        HEAD + PART,
        "unmet",
        ("the plugin 'broken'", "it requires pluggy>=900, and ", "is installed", "`pip install --upgrade acme-broken`"),
        DependencyError,
        requires=("pluggy>=900",),
    ),
    "no API": Broken(
        HEAD.replace("lx_api = 1\n", "") + PART,
        "incompatible",
        ("broken (incompatible: ", "does not state a kernel API (`lx_api = 1`)", FITS),
    ),
    "API of the future": Broken(
        HEAD.replace("lx_api = 1", "lx_api = 99") + PART,
        "incompatible",
        ("broken (incompatible: ", "kernel API 99, and this kernel serves 1", FITS),
    ),
    "register hook raises": Broken(HEAD + PART + "    raise OSError('midway')\n", "broken", ("broken: OSError: midway", REPAIR, KEEP_OUT)),
    "register hook with other arguments": Broken(
        HEAD.replace("(registry)", "(it)") + "pass\n", "broken", ("broken: PluginValidationError: ", REPAIR, KEEP_OUT)
    ),
    "unknown hook": Broken(
        HEAD.replace("lx_register", "lx_regster") + PART, "broken", ("implements 'lx_regster', which is no hook", REPAIR, KEEP_OUT)
    ),
    "registers a name twice": Broken(
        HEAD + PART + "    registry.callback.add('broken-part', 'other:Part')\n",
        "broken",
        ("acme-broken registers the callback 'broken_part' twice", REPAIR, KEEP_OUT),
    ),
    "registers what is no name": Broken(
        HEAD + "registry.callback.add('broken part', 'a:B')\n", "broken", ("a callback is registered under a name of", REPAIR, KEEP_OUT)
    ),
    "registers to an unknown kind": Broken(
        HEAD + "registry.exporter.add('broken_part', 'a:B')\n", "broken", ("there is no kind 'exporter'", REPAIR, KEEP_OUT)
    ),
    "entry point to a missing module": Broken(
        "", "broken", ("broken: ModuleNotFoundError: No module named 'gone_plugin'", REPAIR, KEEP_OUT), module="gone_plugin"
    ),
    "target module missing": Broken(
        HEAD + PART,
        "active",
        ("the callback 'broken_part' of acme-broken cannot be imported from 'broken_part:Part'", "No module named 'broken_part'", REPAIR),
        BrokenPluginError,
        part=None,
    ),
    "target module raises": Broken(
        HEAD + PART,
        "active",
        ("the callback 'broken_part' of acme-broken cannot be imported", "ZeroDivisionError: division by zero", REPAIR),
        BrokenPluginError,
        part="1 / 0\n",
    ),
    "target module exits": Broken(
        HEAD + PART, "active", ("'broken_part' of acme-broken cannot be imported", "SystemExit", REPAIR), BrokenPluginError, part="exit()\n"
    ),
    "target class missing": Broken(
        HEAD + PART,
        "active",
        ("'broken_part' of acme-broken cannot be imported", "AttributeError: module 'broken_part' has no attribute 'Part'", REPAIR),
        BrokenPluginError,
        part="",
    ),
    "class of another kind": Broken(
        HEAD + PART,
        "active",
        ("'broken_part' of acme-broken is the class Part, which is no Callback (lx.interfaces.callback:Callback)", REPAIR),
        BrokenPluginError,
        part="class Part: ...\n",
    ),
    "constructor raises": Broken(
        HEAD + PART,
        "active",
        ("no licence", "This came from the callback 'broken_part'"),
        PermissionError,
        part=GOOD_PART.replace("...", "\n    def __init__(self): raise PermissionError('no licence')"),
        of_lx=False,
    ),
    "name of another distribution": Broken(
        HEAD + "registry.logger.add('csv', 'broken_part:Part', roles={'default': 1})\n",
        "active",
        ("the logger 'csv' is offered by 'acme-broken' and 'lx-plugin-csv'", "Say which one you mean: ", "'csv@lx-plugin-csv'"),
        CollisionError,
        asks={"logger": "csv"},
    ),
    "kept out": Broken(
        HEAD + PART,
        "blocked",
        ("Installed, but kept out by LX_PLUGINS or LX_DISABLE: broken",),
        environ={"LX_DISABLE": "broken"},
    ),
    "known and kept out": Broken(
        HEAD + PART,
        "active",
        ("the plugin 'csv' (lx-plugin-csv ", "LX_DISABLE names 'csv'", "Change that environment variable to use it"),
        BlockedError,
        environ={"LX_DISABLE": "csv"},
        asks={"logger": "csv"},
    ),
}
"""By what is wrong. Where nothing of a plugin could be read, what it offers is not known, so that its component is an unknown one."""
