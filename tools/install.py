"""Installs lx from this checkout, editable, into the virtual environment that runs this file, and does nothing the second time.

    python tools/install.py                              # the standard set, and what the examples need
    python tools/install.py --all --group test           # every plugin, and what the tests need
    python tools/install.py --plugin csv --group test    # that plugin on the kernel, and what its tests need

All requirements are resolved at once, beside the pinned torch, so that nothing can pull another one. The distributions follow
without isolated builds: with these, each of them would fetch hatchling anew.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Iterable
from importlib.metadata import distributions
from pathlib import Path

from checkout import FLOOR, ROOT, Distribution, core, group, needs, plugins, requirement_name, standard

BUILD = ("hatchling", "editables")


def main() -> None:
    """Reads the command line and brings the environment to what it asks for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--all", action="store_true", help="every plugin, instead of the standard set")
    which.add_argument("--plugin", metavar="SLUG", action="append", help="this plugin and what its tests need, instead of the standard set")
    which.add_argument("--none", action="store_true", help="nothing of lx")
    parser.add_argument("--group", action="append", help="a dependency group of pyproject.toml (default: examples)")
    options = parser.parse_args()
    if sys.prefix == sys.base_prefix:
        parser.error("run it with the Python of a virtual environment: `python3 -m venv .venv && .venv/bin/python tools/install.py`.")
    chosen = [] if options.none else choose(all_plugins=options.all, slugs=options.plugin)
    groups = options.group or ["examples"]
    requirements = [requirement for name in groups for requirement in group(name)]
    requirements += [need for one in chosen for need in (one.requires + one.test if "test" in groups else one.requires)]
    bring_about(chosen, requirements)


def choose(*, all_plugins: bool, slugs: Iterable[str] | None) -> list[Distribution]:
    """The distributions to install: lx-core, and the plugins that are asked for."""
    known = plugins()
    if slugs is not None:
        wanted = {need for slug in slugs for need in (needs(known[slug]) if slug in known else [slug])}
        missing = wanted - set(known) - set(FLOOR)
        if missing:
            raise SystemExit(f"plugins/ has no {', '.join(sorted(missing))}; it has {', '.join(known)}.")
        return [core(), *(known[slug] for slug in known if slug in wanted)]
    if all_plugins:
        return [core(), *known.values(), standard()]
    return [core(), *(plugin for plugin in known.values() if plugin.standard), standard()]


def bring_about(chosen: list[Distribution], requirements: list[str]) -> None:
    """Installs what is chosen and required, unless the environment holds just that already."""
    local = {distribution.name for distribution in (core(), standard(), *plugins().values())}
    beyond = {requirement for requirement in requirements if requirement_name(requirement) not in local}
    wanted = [*(group("torch") if chosen else ()), *sorted(beyond), *BUILD]
    stamp = Path(sys.prefix, "lx-installed.txt")
    state = "\n".join([*wanted, *(f"{one.folder}: {one.project}" for one in chosen)])
    if stamp.exists() and stamp.read_text("utf-8") == state:
        return
    stamp.unlink(missing_ok=True)
    print(f"installing {len(chosen)} distributions of this checkout, and {', '.join(wanted)}", flush=True)
    pip("install", "--no-compile", *wanted)  # what is imported is compiled then: a fraction of the files that torch has
    stale = installed_from_here() - {one.name for one in chosen}
    if stale:
        pip("uninstall", "-y", *sorted(stale))
    if chosen:
        pip("install", "--no-deps", "--no-build-isolation", *(part for one in chosen for part in ("-e", str(one.folder))))
    stamp.write_text(state, "utf-8")


def installed_from_here() -> set[str]:
    """The names of the distributions in this environment that an earlier run took from this checkout, also from folders now gone."""
    found = set()
    for distribution in distributions():
        origin = json.loads(distribution.read_text("direct_url.json") or "{}").get("url", "")
        if origin == ROOT.as_uri() or origin.startswith(f"{ROOT.as_uri()}/"):
            found.add(distribution.metadata["Name"])
    return found


def pip(*arguments: str) -> None:
    """Runs pip in this environment; ends the program where pip fails."""
    done = subprocess.run([sys.executable, "-m", "pip", arguments[0], "--quiet", *arguments[1:]], check=False)
    if done.returncode:
        raise SystemExit(done.returncode)


if __name__ == "__main__":
    main()
