"""One environment for each folder of plugins/, so that tox knows a new plugin without an edit: `tox -e plugin-csv`."""

from collections.abc import Iterable
from pathlib import Path

from tox.config.loader.memory import MemoryLoader
from tox.config.sets import ConfigSet
from tox.config.types import Command
from tox.plugin import impl
from tox.session.state import State

PLUGINS = Path(__file__).parent / "plugins"


def slugs() -> list[str]:
    """The plugins of this checkout, by their folders."""
    return sorted(path.parent.name for path in PLUGINS.glob("*/pyproject.toml"))


@impl
def tox_extend_envs() -> Iterable[str]:
    """Makes the names known."""
    return [f"plugin-{slug}" for slug in slugs()]


@impl
def tox_add_core_config(core_conf: ConfigSet, state: State) -> None:
    """Says what each of them does; what it leaves open, such as `pass_env`, comes from tox.ini."""
    for slug in slugs():
        state.conf.memory_seed_loaders[f"plugin-{slug}"].append(
            MemoryLoader(
                description=f"plugins/{slug} alone on the kernel",
                extra_setup_commands=[Command(["python", "tools/install.py", "--plugin", slug, "--group", "test"])],
                commands=[Command(["pytest", f"plugins/{slug}"])],
            )
        )
