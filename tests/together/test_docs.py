"""The pages of docs/ and CONTRIBUTING.md, run as a reader would: what they show works, and prints what they say.

The blocks of a page run in order. A block `python` shares the names of those before it; one with `file=NAME` is written to that file, and
run in a process of its own if it is a program (`file=train.py`, without a folder). A block `text` is what the block before it prints, `...`
standing for anything. Where a page writes a pyproject.toml, that plugin is installed, and its tests are run. Other blocks (`sh`, `console`)
are for the reader alone.
"""

import doctest
import inspect
import io
import os
import re
import subprocess
import sys
from contextlib import redirect_stdout
from pathlib import Path

import pytest

from checkout import plugins
from lx import Trainer

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```(\w*)(?: file=(\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PAGES = [
    ROOT / "CONTRIBUTING.md",
    *(page for page in sorted((ROOT / "docs").rglob("*.md")) if page.parent.name not in ("reference", "plugins")),
]
WITH_CODE = [page for page in PAGES if re.search(r"^```python", page.read_text("utf-8"), re.MULTILINE)]


class Page:
    """A page that is being followed in a folder."""

    def __init__(self, path: Path, folder: Path) -> None:
        self.path, self.folder = path, folder
        self.names: dict[str, object] = {"__name__": "__main__"}
        self.printed = ""

    def follow(self) -> None:
        """Does what every block says."""
        text = self.path.read_text("utf-8")
        for block in BLOCK.finditer(text):
            language, file, content = block.groups()
            place = f"{self.path.relative_to(ROOT)}:{text.count(chr(10), 0, block.start()) + 1}"
            if file:
                self.write(file, content)
            elif language == "python":
                self.run("\n" * text.count("\n", 0, block.start(3)) + content)
            elif language == "text":
                options = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
                assert doctest.OutputChecker().check_output(content, self.printed, options), (
                    f"{place} is not what is printed:\n{self.printed}"
                )
        for project in self.folder.rglob("pyproject.toml"):
            self.install_and_test(project.parent)

    def run(self, code: str) -> None:
        with redirect_stdout(io.StringIO()) as printed:
            exec(compile(code, self.path, "exec"), self.names)
        self.printed = printed.getvalue()

    def write(self, file: str, content: str) -> None:
        path = self.folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, "utf-8")
        if path.suffix == ".py" and "/" not in file:
            self.printed = self.process("-W", "error", file)

    def process(self, *arguments: str, **environ: str) -> str:
        known = {**os.environ, "OMP_NUM_THREADS": "1", **environ}
        done = subprocess.run([sys.executable, *arguments], cwd=self.folder, env=known, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        return done.stdout

    def install_and_test(self, project: Path) -> None:
        """What a plugin needs is here already; `pip install --target` makes it one that entry points find."""
        how = ("--quiet", "--disable-pip-version-check", "--no-index", "--no-deps", "--no-build-isolation")
        site = self.folder / "site-packages"
        self.process("-m", "pip", "install", *how, "--target", str(site), str(project))
        printed = self.process("-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error", str(project), PYTHONPATH=str(site))
        assert " passed" in printed


@pytest.mark.parametrize("page", WITH_CODE, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_page_shows_works(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    # As a reader has it: the standard set.
    monkeypatch.setenv("LX_DISABLE", ",".join(slug for slug, plugin in plugins().items() if not plugin.standard))
    Page(page, tmp_path).follow()


def test_the_table_of_the_trainers_arguments_is_complete() -> None:
    page = (ROOT / "docs/how-to/trainer.md").read_text("utf-8")
    listed = dict(re.findall(r"^\| `(\w+)` \| `(.*?)` \|", page, re.MULTILINE))
    parameters = inspect.signature(Trainer).parameters.values()
    assert listed == {parameter.name: repr(parameter.default) for parameter in parameters}


def test_there_are_pages_of_every_sort() -> None:
    assert {page.parent.name for page in WITH_CODE} >= {"tutorial", "how-to", "explain"}


@pytest.mark.parametrize("block", ["```python\n1 / 0\n```\n", "```python\nprint(1)\n```\n\n```text\n2\n```\n"])
def test_a_page_that_is_wrong_is_found(block: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    (tmp_path / "page.md").write_text(block, "utf-8")
    with pytest.raises((ZeroDivisionError, AssertionError)):
        Page(tmp_path / "page.md", tmp_path).follow()
