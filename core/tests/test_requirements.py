"""Requirements against what is installed, and what distributions say of themselves."""

import subprocess
import sys
from pathlib import Path

import pytest
from importlib_metadata import distributions
from packaging.specifiers import SpecifierSet

from lx.kernel.requirements import describe, installed_version, unmet_requirements

VERSIONS = [
    "0.9",
    "1",
    "1.0",
    "1.0.0",
    "1.0.1",
    "1.9.10",
    "1.10",
    "2.0.post1",
    "2.0rc1",
    "2.0.dev3",
    "2.0",
    "2.0+cpu",
    "2.0.0.0.1",
    "1!0.1",
    "10.0",
]
BOUNDS = [">=1", ">=1.0", ">=1.9.9", ">=1.10", ">=2", ">=2.0.0", ">= 2.0", ">2", "<2", "==2.0.*", "~=1.9", ">=1,<2", "!=2.0", ""]


@pytest.mark.parametrize("bound", BOUNDS)
def test_versions_compare_as_packaging_has_it(bound: str) -> None:
    """The short cut for plain lower bounds may never decide otherwise than the standard."""
    for version in VERSIONS:
        met = not unmet_requirements([f"thing{bound}"], {"thing": version}.get)
        assert met is SpecifierSet(bound).contains(version, prereleases=True), (bound, version)


def test_plain_lower_bounds_do_not_import_packaging() -> None:
    code = "import sys; from lx.kernel.requirements import unmet_requirements as u; assert u(['pluggy>=1.5', 'lx-core>=0.1']) == []; "
    done = subprocess.run(
        [sys.executable, "-c", code + "sys.exit('packaging' in sys.modules)"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_a_local_version_satisfies_its_public_one() -> None:
    assert unmet_requirements(["torch>=2.13.0"], {"torch": "2.13.0+cpu"}.get) == []
    assert unmet_requirements(["torch>=2.14"], {"torch": "2.13.0+cpu"}.get) == ["it requires torch>=2.14, and 2.13.0+cpu is installed"]


def test_markers_and_extras() -> None:
    absent = {}.get
    assert unmet_requirements(["a; python_version < '3'", "b; extra == 'all'", "c[extra]>=1; sys_platform == 'no-such'"], absent) == []
    assert unmet_requirements(["a; python_version > '3'"], absent) == ["it requires a, which is not installed"]


def test_installed_version() -> None:
    assert installed_version("no-such-package") is None
    assert installed_version("PLUGGY") == installed_version("pluggy") is not None


def test_describe_agrees_with_importlib_metadata() -> None:
    """For all that is installed here; the header of METADATA is read without its parser."""
    found = list(distributions())
    assert found
    for distribution in found:
        if distribution.read_text("METADATA") is not None:
            assert describe(distribution) == (distribution.name, distribution.version, tuple(distribution.requires or ()))


def test_describe_an_egg(tmp_path: Path) -> None:
    egg = tmp_path / "old.egg-info"
    egg.mkdir()
    (egg / "PKG-INFO").write_text("Metadata-Version: 1.0\nName: old\nVersion: 3.1\n\nA text.\n", "utf-8")
    (egg / "requires.txt").write_text("pluggy>=1\n\n[extra]\nmore\n", "utf-8")
    (distribution,) = distributions(path=[str(tmp_path)])
    name, version, requires = describe(distribution)
    assert (name, version) == ("old", "3.1")
    assert "pluggy>=1" in requires
    assert unmet_requirements(requires) == []


def test_the_text_after_the_header_is_no_metadata(tmp_path: Path) -> None:
    info = tmp_path / "trap-1.dist-info"
    info.mkdir()
    text = "Metadata-Version: 2.4\nName: trap\nVersion: 1\nRequires-Dist: one\n\nA text.\nName: other\nRequires-Dist: two\n"
    (info / "METADATA").write_bytes(text.replace("\n", "\r\n").encode())
    (distribution,) = distributions(path=[str(tmp_path)])
    assert describe(distribution) == ("trap", "1", ("one",))


def test_describe_nothing() -> None:
    assert describe(None) == ("?", "?", ())
