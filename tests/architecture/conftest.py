"""The sources of this checkout, and small bad ones, on which each check is seen to fail."""

from collections.abc import Callable
from pathlib import Path

import pytest

from checkout import plugins
from generate import entries_of
from lx.kernel import Entry
from source_tree import Source, checkout_sources, read_sources


@pytest.fixture(scope="session")
def sources() -> list[Source]:
    """The modules of this checkout."""
    return checkout_sources()


@pytest.fixture(scope="session")
def components() -> list[Entry]:
    """What the plugins of this checkout register."""
    return [entry for plugin in plugins().values() for entry in entries_of(plugin)]


@pytest.fixture
def sample(tmp_path: Path) -> Callable[..., list[Source]]:
    """Writes modules, given as path below the root and text, and reads them as if they were the checkout."""

    def write(files: dict[str, str]) -> list[Source]:
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, "utf-8")
        return read_sources(tmp_path)

    return write
