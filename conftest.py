"""Which plugins a test sees, by the folder that it lies in.

The tests of lx-core see no plugin, those of a plugin see that plugin, the floor and what its pyproject's `test` group names, all
others, and the examples in lx-core's docstrings, see everything. The variable reaches the processes that a test starts, too.
`tox -e plugin-SLUG` runs the same tests where nothing else is installed; here one process serves all, and one import of torch.
"""

from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import lx
from checkout import ROOT, needs, plugins
from lx.kernel import default_manager
from lx.rank_zero import environment_rank, rank_zero_only

pytest_plugins = ["lx.testing.fixtures", "lx.testing.skips"]


def visible(path: Path) -> str | None:
    """The value of `LX_PLUGINS` for the tests in a file; None where it is not set."""
    match path.relative_to(ROOT).parts:
        case ["core", "tests", *_]:
            return ""
        case ["plugins", slug, *_]:
            return visible_to(slug)
    return None


@cache
def visible_to(slug: str) -> str:
    """The value of `LX_PLUGINS` for the tests of a plugin."""
    return ",".join(needs(plugins()[slug]))


@pytest.fixture(autouse=True)
def visible_plugins(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Shows a test the plugins that it may see, also through a default manager of its own."""
    slugs = visible(request.path)
    monkeypatch.delenv("LX_DISABLE", raising=False)
    if slugs is None:
        monkeypatch.delenv("LX_PLUGINS", raising=False)
    else:
        monkeypatch.setenv("LX_PLUGINS", slugs)
    forget_manager()
    yield
    forget_manager()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Refuses names of test cases that hold an address: they are others in each process, and pytest-xdist then runs nothing."""
    strange = [item.nodeid for item in items if " at 0x" in item.nodeid]
    if strange:
        raise pytest.UsageError(f"give ids to the cases of {strange[0]}: an address is another one in each process")


@pytest.fixture(autouse=True)
def own_rank() -> Iterator[None]:
    """Gives this process its own rank back after a test that played another one."""
    yield
    rank_zero_only.rank = environment_rank()


def forget_manager() -> None:
    """Drops the manager of the process, which has seen the plugins of another test, and the registry that `lx` remembers."""
    default_manager.cache_clear()
    vars(lx).pop("registry", None)
